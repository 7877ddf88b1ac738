from __future__ import annotations

import asyncio

from stream.consumer import Record
from stream.inbox import Inbox

LONG_S = 30.0


def records(first: int, count: int) -> list[Record]:
    return [Record(0, offset, b"", b"", 0) for offset in range(first, first + count)]


def offsets(taken: list[Record]) -> list[int]:
    return [record.offset for record in taken]


async def test_enough_are_taken_at_once_in_order_and_with_all_others_up_to_the_most() -> None:
    inbox = Inbox(8)
    await inbox.put(records(0, 6))
    async with asyncio.timeout(1):
        assert offsets(await inbox.take(5, 4, LONG_S, LONG_S)) == [0, 1, 2, 3, 4]
    assert len(inbox) == 1


async def test_too_few_wait_for_company_and_then_go() -> None:
    inbox = Inbox(8)
    await inbox.put(records(0, 2))
    assert offsets(await inbox.take(8, 4, LONG_S, 0.01)) == [0, 1]
    await inbox.put(records(2, 2))
    taking = asyncio.create_task(inbox.take(8, 4, LONG_S, LONG_S))
    await asyncio.sleep(0)
    await inbox.put(records(4, 2))
    async with asyncio.timeout(1):
        assert offsets(await taking) == [2, 3, 4, 5]


async def test_the_first_that_comes_is_waited_for_and_gets_its_time_for_company() -> None:
    inbox = Inbox(8)
    taking = asyncio.create_task(inbox.take(8, 4, LONG_S, 0.01))
    await asyncio.sleep(0)
    await inbox.put(records(0, 1))
    async with asyncio.timeout(1):
        assert offsets(await taking) == [0]


async def test_nothing_is_taken_when_nothing_comes() -> None:
    assert await Inbox(8).take(4, 4, 0.01, LONG_S) == []


async def test_whoever_fills_it_waits_while_it_is_full() -> None:
    inbox = Inbox(4)
    await inbox.put(records(0, 4))
    assert inbox.full
    putting = asyncio.create_task(inbox.put(records(4, 2)))
    await asyncio.sleep(0)
    assert not putting.done()
    assert offsets(await inbox.take(2, 2, LONG_S, LONG_S)) == [0, 1]
    assert not inbox.full
    await putting
    assert offsets(await inbox.take(4, 4, LONG_S, LONG_S)) == [2, 3, 4, 5]


async def test_a_closed_inbox_drops_what_waits_and_lets_go_of_whoever_waits_to_put() -> None:
    inbox = Inbox(2)
    await inbox.put(records(0, 2))
    putting = asyncio.create_task(inbox.put(records(2, 2)))
    await asyncio.sleep(0)
    inbox.close()
    async with asyncio.timeout(1):
        await putting
        await inbox.put(records(4, 2))
    assert await inbox.take(4, 4, 0.01, 0.01) == []
    assert not inbox.full
