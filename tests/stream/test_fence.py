from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from index.memory import MemoryStore
from proto.errors import Transient
from proto.types import Moment
from stream import patience
from stream.fence import Fenced, Lease
from stream.patience import Patience
from tests.contracts.moments import NOON, SPACE, moment

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


async def test_a_worker_that_was_not_heard_of_for_a_session_changes_nothing_and_reads_on() -> None:
    lease, store, now_s = Lease(SESSION_S), MemoryStore(SPACE), 0.0
    fenced = Fenced(store, lease, lambda: now_s)
    lease.renewed(0.0)
    closed = moment("gate", NOON)
    await fenced.upsert([closed])
    now_s = SESSION_S
    with pytest.raises(Transient, match="another one may have its partitions"):
        await fenced.upsert([moment("gate", NOON, closed=False)])
    assert [one.closed for one in await fenced.fetch([closed.id])] == [True]
    lease.renewed(now_s)
    await fenced.upsert([moment("gate", NOON + 60_000)])
    assert await fenced.count() == 2


async def test_a_write_that_was_begun_is_waited_for_although_its_caller_is_gone() -> None:
    class Slow(MemoryStore):
        async def upsert(self, moments: Sequence[Moment]) -> None:
            await held.wait()
            await super().upsert(moments)

    lease, held = Lease(SESSION_S), asyncio.Event()
    fenced = Fenced(Slow(SPACE), lease, lambda: 0.0)
    lease.renewed(0.0)
    await asyncio.wait_for(fenced.written(), 1)
    caller = asyncio.create_task(fenced.upsert([moment("gate", NOON)]))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    written = asyncio.create_task(fenced.written())
    assert not (await asyncio.wait({written}, timeout=0.05))[0]
    held.set()
    await asyncio.wait_for(written, 1)
    assert await fenced.count() == 1


def test_a_process_that_stood_still_took_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(patience.time, "monotonic", lambda: now_s)
    lived = Patience()
    before_s = lived.clock()
    now_s += 0.25
    assert lived.clock() - before_s == 0.25
    now_s += 3600
    assert lived.clock() - before_s <= 1.5
