from __future__ import annotations

import asyncio
import time

import pytest

from proto.errors import Broken, Transient
from stream.fence import Fence, Lease

SESSION_S = 45.0


def test_a_lease_begins_with_the_first_answer_and_counts_from_when_it_was_asked_for() -> None:
    lease = Lease(SESSION_S)
    assert not lease.holds(0.0)
    lease.renewed(100.0)
    assert lease.holds(144.9)
    assert not lease.holds(145.0)


def test_an_answer_that_comes_late_does_not_shorten_the_lease() -> None:
    lease = Lease(SESSION_S)
    lease.renewed(109.0)
    lease.renewed(100.0)
    assert lease.holds(153.9)


def test_a_revoked_lease_ends_at_once_and_begins_again_with_the_next_answer() -> None:
    lease = Lease(SESSION_S)
    lease.renewed(100.0)
    lease.revoked()
    assert not lease.holds(100.0)
    lease.renewed(101.0)
    assert lease.holds(145.9)


class Disk:
    """What a worker writes."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def write(self, what: str) -> str:
        await self.may_end.wait()
        self.written.append(what)
        return what


async def test_a_worker_that_was_not_heard_of_for_a_session_begins_no_write_until_it_is_heard_of_again() -> None:
    lease, disk, now_s = Lease(SESSION_S), Disk(), 0.0
    fence = Fence(lease, lambda: now_s)
    lease.renewed(0.0)
    assert await fence.passes(lambda: disk.write("first")) == "first"
    now_s = SESSION_S
    with pytest.raises(Transient, match="another one may have its partitions") as told:
        await fence.passes(lambda: disk.write("second"))
    assert told.value.todo
    lease.renewed(now_s)
    await fence.passes(lambda: disk.write("third"))
    assert disk.written == ["first", "third"]


async def test_a_worker_that_the_group_fenced_begins_no_write() -> None:
    lease, disk = Lease(SESSION_S), Disk()
    lease.renewed(0.0)
    lease.revoked()
    with pytest.raises(Transient):
        await Fence(lease, lambda: 0.0).passes(lambda: disk.write("late"))
    assert disk.written == []


async def test_a_write_that_was_begun_is_waited_for_although_its_caller_is_gone() -> None:
    lease, disk = Lease(SESSION_S), Disk()
    fence = Fence(lease, lambda: 0.0)
    lease.renewed(0.0)
    await asyncio.wait_for(fence.written(), 1)
    disk.may_end.clear()
    caller = asyncio.create_task(fence.passes(lambda: disk.write("begun")))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    written = asyncio.create_task(fence.written())
    assert not (await asyncio.wait({written}, timeout=0.05))[0]
    disk.may_end.set()
    await asyncio.wait_for(written, 1)
    assert disk.written == ["begun"]


async def test_a_write_that_fails_tells_its_caller_and_leaves_nothing_under_way() -> None:
    async def refused() -> None:
        raise Broken("the disk is full")

    lease = Lease(SESSION_S)
    fence = Fence(lease, lambda: 0.0)
    lease.renewed(0.0)
    with pytest.raises(Broken, match="full"):
        await fence.passes(refused)
    await asyncio.wait_for(fence.written(), 1)


async def test_a_write_of_several_calls_makes_none_once_the_lease_has_ended() -> None:
    lease, calls = Lease(0.05), []
    lease.renewed(time.monotonic())
    between = asyncio.Event()

    async def two_calls() -> None:
        calls.append("first")
        # As a process that is stopped here and goes on later: the answer is there, and so is the end of the lease.
        asyncio.get_running_loop().call_later(0.06, between.set)
        time.sleep(0.1)  # noqa: ASYNC251 - the whole process stands still
        await between.wait()
        calls.append("second")

    with pytest.raises(Transient, match="another one may have"):
        await Fence(lease).passes(two_calls)
    assert calls == ["first"]
