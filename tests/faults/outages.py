"""Drills in which a part that the stream worker needs goes away, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from index.milvus import MilvusStore
from index.settings import MilvusSettings
from loadtests.fleet import Plan
from loadtests.openings import Openings
from proto.types import now_ms
from tests.faults.house import Drill, House, Outcome, a_drill, another_milvus, until

_REACH_MS = 20_000
_ASK_S = 0.05


async def encoder_raises(house: House, *, every: int, frames: int, cameras: int = 20) -> Outcome:
    """The encoder raises in the middle of a batch, again and again."""
    async with a_drill(house, "raises", Plan(cameras=cameras)) as drill:
        drill.encoder.raise_every = every
        async with drill.kept(drill.worker()):
            await drill.fleet.publish(frames)
            outcome = await drill.outcome()
        outcome.notes["calls that raised"] = drill.encoder.calls // every
        return outcome


async def broker_stopped(house: House, *, seconds: float, then_kill: bool = False, cameras: int = 20) -> Outcome:
    """The broker is stopped and comes back with what it kept; then the worker may die as it picks up again."""
    async with a_drill(house, "broker", Plan(cameras=cameras, rate=10)) as drill, drill.kept(drill.worker()) as worker:
        async with drill.fleet.publishing():
            await drill.until_stored(cameras)
            await house.kafka.stop()
            await asyncio.sleep(seconds)
            await house.kafka.start()
            if then_kill:
                sent = len(drill.fleet.sent)
                await until(lambda: len(drill.fleet.sent) > sent + 5 * cameras)
                await worker.kill()
            await asyncio.sleep(2)
        return await drill.outcome()


async def milvus_stopped(house: House, *, seconds: float, cameras: int = 20) -> Outcome:
    """The index is stopped, and comes back with what it kept."""
    async with a_drill(house, "milvus", Plan(cameras=cameras, rate=10)) as drill, drill.kept(drill.worker()):
        async with drill.fleet.publishing():
            await drill.until_stored(cameras)
            await house.milvus.stop()
            await asyncio.sleep(seconds)
            await house.milvus.start()
            await asyncio.sleep(2)
        return await drill.outcome()


async def milvus_stopped_at_start(house: House, *, seconds: float, cameras: int = 20) -> Outcome:
    """The index is stopped while a worker makes its first collection there."""
    async with a_drill(house, "first", Plan(cameras=cameras, rate=10)) as drill, drill.kept(drill.worker()):
        async with drill.fleet.publishing():
            await until(lambda: drill.encoder.calls > 0)
            await house.milvus.stop()
            await asyncio.sleep(seconds)
            await house.milvus.start()
            await drill.until_stored(cameras)
        return await drill.outcome()


async def one_milvus_stopped(house: House, *, seconds: float, cameras: int = 20) -> Outcome:
    """One of two shards of the index is away. Cameras of the other one are found as soon as before."""
    second = another_milvus(house)
    try:
        await second.start()
        async with a_drill(house, "shard", Plan(cameras=cameras, live=True), more_milvus=[second]) as drill:
            healthy = frozenset(one for one in drill.fleet.cameras if drill.store.shard_of(one) == house.milvus.address)
            assert 0 < len(healthy) < cameras, "the cameras do not share both shards"
            async with drill.kept(drill.worker()), drill.fleet.publishing():
                await drill.until_stored(cameras)
                before, during = Openings(), Openings()
                async with _watched(drill, healthy, before):
                    await asyncio.sleep(min(seconds, 20))
                await second.stop()
                async with _watched(drill, healthy, during):
                    await asyncio.sleep(seconds)
                await second.start()
                await asyncio.sleep(2)
            outcome = await drill.outcome()
        for name, openings in (("before", before), ("while the shard is away", during)):
            outcome.notes[f"found {name}, s: p50"] = round(openings.p(0.5), 2)
            outcome.notes[f"found {name}, s: p99"] = round(openings.p(0.99), 2)
        assert during.samples, "nothing of the healthy shard was found"
        return outcome
    finally:
        second.end()


@contextlib.asynccontextmanager
async def _watched(drill: Drill, cameras: frozenset[str], openings: Openings) -> AsyncIterator[None]:
    """Look for the scenes that these cameras begin while inside, on the house's own Milvus alone."""
    store = MilvusStore(drill.store.space, MilvusSettings(endpoints=(drill.house.milvus.address,)))
    await store.open()
    openings.counts, seen = True, len(drill.fleet.sent)

    async def look() -> None:
        nonlocal seen
        for sent in drill.fleet.sent[seen:]:
            if sent.camera in cameras:
                openings.sees(sent)
        seen = len(drill.fleet.sent)
        for span in await store.between(cameras, now_ms() - _REACH_MS, now_ms()):
            openings.found(span.camera, span.start_ms, span.end_ms, now_ms())

    async def look_for_ever() -> None:
        while True:
            await look()
            await asyncio.sleep(_ASK_S)

    task = asyncio.create_task(look_for_ever())
    try:
        yield
        openings.counts = False
        await until(lambda: task.done() or not openings.waiting, within_s=_REACH_MS / 1000)
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()
