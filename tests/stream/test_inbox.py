from __future__ import annotations

import asyncio

from stream.app import Record
from stream.inbox import Inbox

LONG_S = 30.0


def records(first: int, count: int) -> list[Record]:
    return [Record(0, offset, b"", b"") for offset in range(first, first + count)]


def offsets(taken: list[Record]) -> list[int]:
    return [record.offset for record in taken]


async def test_a_full_batch_is_taken_at_once_and_in_order() -> None:
    inbox = Inbox(8)
    await inbox.put(records(0, 6))
    async with asyncio.timeout(1):
        assert offsets(await inbox.take(4, LONG_S, LONG_S)) == [0, 1, 2, 3]


async def test_a_batch_that_is_not_full_waits_for_company_and_then_goes() -> None:
    inbox = Inbox(8)
    await inbox.put(records(0, 2))
    assert offsets(await inbox.take(4, LONG_S, 0.01)) == [0, 1]
    await inbox.put(records(2, 2))
    taking = asyncio.create_task(inbox.take(4, LONG_S, LONG_S))
    await asyncio.sleep(0)
    await inbox.put(records(4, 2))
    async with asyncio.timeout(1):
        assert offsets(await taking) == [2, 3, 4, 5]


async def test_nothing_is_taken_when_nothing_comes() -> None:
    assert await Inbox(8).take(4, 0.01, LONG_S) == []


async def test_whoever_fills_it_waits_while_it_is_full() -> None:
    inbox = Inbox(4)
    await inbox.put(records(0, 4))
    assert inbox.full
    putting = asyncio.create_task(inbox.put(records(4, 2)))
    await asyncio.sleep(0)
    assert not putting.done()
    assert offsets(await inbox.take(2, LONG_S, LONG_S)) == [0, 1]
    await putting
    assert offsets(await inbox.take(4, LONG_S, LONG_S)) == [2, 3, 4, 5]


async def test_clearing_drops_what_waits_and_what_waits_to_be_put() -> None:
    inbox = Inbox(2)
    await inbox.put(records(0, 2))
    putting = asyncio.create_task(inbox.put(records(2, 2)))
    await asyncio.sleep(0)
    inbox.clear()
    await putting
    assert await inbox.take(4, 0.01, 0.01) == []
    assert not inbox.full
