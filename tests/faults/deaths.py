"""Drills in which stream workers die, stand still, join, leave and are restarted."""

from __future__ import annotations

import asyncio
import random
import signal
import time

from loadtests.fleet import Plan
from loadtests.rig import metrics
from tests.faults.house import House, Outcome, a_drill, times_given, until
from tests.tools.servers import Server

UPSERT_THEN_DIE = ("-m", "tests.faults.upsert_then_die")
CONSUMED = "watchword_stream_frames_consumed_total"


async def kill_at_random(house: House, *, kills: int, longest_s: float, cameras: int = 20) -> Outcome:
    """kill -9 of the worker at random moments: while it starts, joins, works or commits."""
    async with a_drill(house, "kill", Plan(cameras=cameras, rate=10)) as drill:
        worker = drill.worker()
        async with drill.fleet.publishing():
            await worker.start()
            for _ in range(kills):
                await asyncio.sleep(random.uniform(0, longest_s))
                assert worker.alive, f"the worker ended by itself:\n{worker.last_words()}"
                await worker.kill()
                worker.launch()
        drill.notes["kills"] = kills
        return await drill.outcome()


async def between_upsert_and_commit(house: House, *, times: int, cameras: int = 20) -> Outcome:
    """The worker dies right after a moment was stored, before anything could be committed."""
    async with a_drill(house, "upsert", Plan(cameras=cameras)) as drill:
        dying, healthy = drill.worker(program=UPSERT_THEN_DIE), drill.worker()
        async with drill.fleet.publishing():
            for _ in range(times):
                dying.launch()
                await until(lambda: not dying.alive)
            await healthy.start()
        drill.notes["deaths"] = times
        return await drill.outcome()


async def fresh_partition(house: House, *, frames: int, kills: int, cameras: int = 20) -> Outcome:
    """Frames wait in a topic without any commit; workers die before they make the first one."""
    async with a_drill(house, "fresh", Plan(cameras=cameras, rate=0)) as drill:
        await drill.fleet.publish(frames)
        worker = drill.worker(static=False)
        for _ in range(kills):
            calls = drill.encoder.calls
            worker.launch()
            await until(lambda calls=calls: drill.encoder.calls > calls)  # type: ignore[misc]
            await worker.kill()
        await worker.start()
        return await drill.outcome()


async def rebalance_storm(house: House, *, seconds: float, every_s: float = 3.0, cameras: int = 20) -> Outcome:
    """A second worker joins or leaves every few seconds."""
    async with a_drill(house, "storm", Plan(cameras=cameras, rate=10)) as drill:
        guest = drill.worker(static=False)
        moves = 0
        async with drill.kept(drill.worker(static=False)), drill.fleet.publishing():
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if guest.alive:
                    await guest.stop()
                else:
                    guest.launch()
                moves += 1
                await asyncio.sleep(every_s)
            if guest.alive:
                await guest.stop()
        drill.notes["joined or left"] = moves
        return await drill.outcome()


async def worker_frozen(
    house: House, *, times: int, seconds: float, static: bool = False, cameras: int = 20
) -> Outcome:
    """A worker stands still, another one takes its partitions, and then it goes on as if nothing had been."""
    async with a_drill(house, "frozen", Plan(cameras=cameras, rate=10)) as drill:
        takes_over, freezes = drill.worker(static=static), drill.worker(static=static)
        async with drill.kept(takes_over), drill.kept(freezes), drill.fleet.publishing():
            await drill.until_stored(cameras)
            for _ in range(times):
                await asyncio.sleep(random.uniform(2, 4))
                before = times_given(takes_over)
                freezes.send(signal.SIGSTOP)
                try:
                    await until(lambda before=before: times_given(takes_over) > before)  # type: ignore[misc]
                    await asyncio.sleep(seconds)
                finally:
                    freezes.send(signal.SIGCONT)
                await until(lambda before=before: times_given(takes_over) > before + 1)  # type: ignore[misc]
        drill.notes["times frozen"] = times
        return await drill.outcome()


async def rolling_restart(
    house: House, *, rounds: int, workers: int = 4, partitions: int = 64, cameras: int = 64
) -> Outcome:
    """All workers are restarted, one after the other, as for an upgrade. Tells how many frames were read again."""
    async with a_drill(house, "rolling", Plan(cameras=cameras, rate=4), partitions=partitions) as drill:
        all_workers = [drill.worker() for _ in range(workers)]
        read = 0
        async with drill.fleet.publishing():
            for worker in all_workers:
                await worker.start()
            await drill.until_stored(cameras)
            for worker in all_workers * rounds:
                await asyncio.sleep(1)
                read += await _read_by(worker)
                before = times_given(worker)
                await worker.stop()
                await worker.start()
                await until(lambda worker=worker, before=before: times_given(worker) > before)  # type: ignore[misc]
        outcome = await drill.outcome()
        read += sum([await _read_by(worker) for worker in all_workers])
        outcome.notes |= {
            "restarts": rounds * workers,
            "partitions": partitions,
            "frames read more than once": max(0, read - outcome.balance.taken),
        }
        return outcome


async def _read_by(worker: Server) -> int:
    """Frames that this worker took since its start; a stop right after this may still take a few."""
    return int((await metrics(worker.address)).get(CONSUMED, 0))
