"""Drills about the frames themselves: poison, replays, clocks that step, more than can be looked at, dropped unread."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence

from catalog.coverage import Reason
from loadtests.fleet import Plan
from loadtests.topics import committed, drop_records, lag, rewind, until_drained
from proto.types import Span
from tests.faults.house import Drill, House, Outcome, a_drill
from tests.faults.stand_in import MAX_ITEM_BYTES

STEPPING_CLOCK = ("-m", "tests.faults.stepping_clock")


async def calm(house: House, *, frames: int, cameras: int = 20) -> Outcome:
    """Nothing is hurt: what the other drills are compared with."""
    async with a_drill(house, "calm", Plan(cameras=cameras)) as drill:
        await drill.worker().start()
        await drill.fleet.publish(frames)
        return await drill.outcome()


async def replayed(house: House, *, times: int, frames: int, cameras: int = 20) -> Outcome:
    """The whole topic is processed again and again: not one moment changes."""
    async with a_drill(house, "replay", Plan(cameras=cameras, rate=0)) as drill:
        worker = drill.worker(static=False)
        await drill.fleet.publish(frames)
        await worker.start()
        before = (await drill.outcome()).moments
        for _ in range(times):
            await worker.stop()
            await rewind(drill.kafka)
            # The encoder need not be asked again: frames of closed moments are recalled from the index.
            assert await lag(drill.kafka, drill.fleet.sent) == len(drill.fleet.sent), "the group did not begin anew"
            await worker.start()
            assert await until_drained(drill.kafka, drill.fleet.sent, 60) == 0, "the replay did not end"
        outcome = await drill.outcome()
        # The stand-in's vectors differ in their last digits, as two engines' do, and with them the peaks.
        changed = _boundaries(before) ^ _boundaries(outcome.moments)
        outcome.notes |= {"replays": times, "moments that changed": len(changed)}
        assert not changed, f"{len(changed)} moments changed, such as {sorted(changed)[:3]}"
        return outcome


async def poison(house: House, *, every: int, frames: int, cameras: int = 20) -> Outcome:
    """Records that can never be processed lie among the frames."""
    async with a_drill(house, "poison", Plan(cameras=cameras, poison_every=every)) as drill:
        await drill.worker().start()
        await drill.fleet.publish(frames)
        return await drill.outcome()


async def oversize(house: House, *, frames: int, cameras: int = 20) -> Outcome:
    """A frame of each camera is larger than the encoder takes."""
    async with a_drill(house, "oversize", Plan(cameras=cameras, oversize_bytes=MAX_ITEM_BYTES + 50_000)) as drill:
        await drill.worker().start()
        await drill.fleet.publish(frames)
        return await drill.outcome()


async def camera_clocks_step(house: House, *, seconds: float, kills: int, cameras: int = 20) -> Outcome:
    """The clocks of the cameras' hosts step by a second to two hours, both ways, and the worker dies meanwhile."""
    plan = Plan(cameras=cameras, live=True, step_ms=200, clock_steps_every=25)
    async with a_drill(house, "camera-clocks", plan) as drill:
        worker = drill.worker()
        async with drill.fleet.publishing():
            await worker.start()
            for _ in range(kills):
                await asyncio.sleep(seconds / (kills + 1) * random.uniform(0.5, 1.5))
                await worker.kill()
                await worker.start()
            await asyncio.sleep(seconds / (kills + 1))
        drill.notes["steps"] = drill.fleet.clock_steps
        return await drill.outcome()


async def worker_clock_steps(
    house: House, *, seconds: float, kills: int, catch_up: str = "all", cameras: int = 20
) -> Outcome:
    """The clock of the worker's host steps by up to an hour, both ways, every few seconds, and the worker dies."""
    async with a_drill(house, "worker-clock", Plan(cameras=cameras, live=True)) as drill:
        worker = drill.worker(program=STEPPING_CLOCK, catch_up=catch_up)
        async with drill.fleet.publishing():
            await worker.start()
            for _ in range(kills):
                await asyncio.sleep(seconds / (kills + 1))
                await worker.kill()
                await worker.start()
            await asyncio.sleep(seconds / (kills + 1))
        return await drill.outcome()


async def overloaded(house: House, *, seconds: float, kills: int, cameras: int = 60) -> Outcome:
    """More comes than the encoder can do, and the worker, which passes frames over, dies meanwhile."""
    async with a_drill(house, "overloaded", Plan(cameras=cameras, live=True)) as drill:
        drill.encoder.picture_s = 0.03
        worker = drill.worker(catch_up="fresh")
        async with drill.fleet.publishing():
            await worker.start()
            for _ in range(kills):
                await asyncio.sleep(seconds / (kills + 1) * random.uniform(0.5, 1.5))
                await worker.kill()
                await worker.start()
            await asyncio.sleep(seconds / (kills + 1))
        outcome = await drill.outcome()
        assert outcome.balance.of("shed"), "nothing was passed over: the drill shows nothing"
        return outcome


async def expired(house: House, *, times: int, frames: int, ever_read: bool = True, cameras: int = 20) -> Outcome:
    """The broker drops frames that the worker, which is away, did not read: they are declared.

    Unless `ever_read`, no worker was there before the first frames were dropped.
    """
    async with a_drill(house, "expired", Plan(cameras=cameras, rate=0)) as drill:
        worker = drill.worker()
        for number in range(times):
            if ever_read or number:
                await worker.start()
                await drill.fleet.publish(frames)
                await drill.until_stored(cameras)
                await worker.stop()
            await drill.fleet.publish(frames)
            await drop_records(drill.kafka, await _most_of_the_unread(drill))
            await drill.fleet.publish(frames)
        await worker.start()
        outcome = await drill.outcome()
        gaps = [gap for gap in drill.declared.gaps() if gap.reason is Reason.EXPIRED]
        outcome.notes |= {"gaps declared": len(gaps), "times dropped": times}
        assert outcome.balance.of("expired"), "nothing was declared: the drill shows nothing"
        return outcome


def _boundaries(moments: Sequence[Span]) -> set[tuple[str, int, int, int, bool]]:
    return {(moment.camera, moment.start_ms, moment.end_ms, moment.frames, moment.closed) for moment in moments}


async def _most_of_the_unread(drill: Drill) -> dict[int, int]:
    """By partition, an offset far behind what the group committed, with some frames beyond it."""
    ends: dict[int, int] = defaultdict(int)
    for sent in drill.fleet.sent:
        partition, offset = sent.place
        ends[partition] = max(ends[partition], offset + 1)
    done = await committed(drill.kafka)
    return {number: done[number] + (end - done[number]) * 4 // 5 for number, end in ends.items()}
