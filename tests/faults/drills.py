"""Drills: hurt a running pipeline, let it come to rest, and balance the ledger.

    python -m tests.faults.drills NAME [--full]     one of them, or `all`

The short forms are tests; the full ones are what a release must show. Exits with 1 when a ledger does not balance.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.fleet import Plan
from loadtests.topics import lag, rewind, until_drained
from proto.types import Span
from tests.faults.house import House, Outcome, a_drill, apache_house
from tests.faults.stand_in import MAX_ITEM_BYTES
from tests.tools.servers import Server

UPSERT_THEN_DIE = ("-m", "tests.faults.upsert_then_die")
SOME_FRAMES = 40


async def calm(house: House, *, frames: int, cameras: int = 20) -> Outcome:
    """Nothing is hurt: what the other drills are compared with."""
    async with a_drill(house, "calm", Plan(cameras=cameras)) as drill:
        await drill.worker().start()
        await drill.fleet.publish(frames)
        return await drill.outcome()


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
                await _until(lambda: not dying.alive, 60)
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
            await _until(lambda calls=calls: drill.encoder.calls > calls, 60)  # type: ignore[misc]
            await worker.kill()
        await worker.start()
        return await drill.outcome()


async def encoder_raises(house: House, *, every: int, frames: int, cameras: int = 20) -> Outcome:
    """The encoder raises in the middle of a batch, again and again."""
    async with a_drill(house, "raises", Plan(cameras=cameras)) as drill:
        drill.encoder.raise_every = every
        async with drill.kept(drill.worker()):
            await drill.fleet.publish(frames)
            outcome = await drill.outcome()
        outcome.notes["calls that raised"] = drill.encoder.calls // every
        return outcome


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


async def worker_frozen(house: House, *, times: int, seconds: float, cameras: int = 20) -> Outcome:
    """A worker stands still, another one takes its partitions, and then it goes on as if nothing had been."""
    async with a_drill(house, "frozen", Plan(cameras=cameras, rate=10)) as drill:
        takes_over, freezes = drill.worker(static=False), drill.worker(static=False)
        async with drill.kept(takes_over), drill.kept(freezes), drill.fleet.publishing():
            await drill.until_stored(cameras)
            for _ in range(times):
                await asyncio.sleep(random.uniform(2, 4))
                before = times_given(takes_over)
                freezes.send(signal.SIGSTOP)
                try:
                    await _until(lambda before=before: times_given(takes_over) > before, 60)  # type: ignore[misc]
                    await asyncio.sleep(seconds)
                finally:
                    freezes.send(signal.SIGCONT)
                await _until(lambda before=before: times_given(takes_over) > before + 1, 60)  # type: ignore[misc]
        drill.notes["times frozen"] = times
        return await drill.outcome()


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
                await _until(lambda: len(drill.fleet.sent) > sent + 5 * cameras, 60)
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
            await _until(lambda: drill.encoder.calls > 0, 60)
            await house.milvus.stop()
            await asyncio.sleep(seconds)
            await house.milvus.start()
            await drill.until_stored(cameras)
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


@dataclass(frozen=True)
class Scenario:
    """A drill and how hard it is run."""

    run: Callable[..., Awaitable[Outcome]]
    short: dict[str, Any] = field(default_factory=dict)
    full: dict[str, Any] = field(default_factory=dict)


SCENARIOS = {
    "calm": Scenario(calm, {"frames": SOME_FRAMES}, {"frames": 2400}),
    "kill_at_random": Scenario(kill_at_random, {"kills": 3, "longest_s": 4.0}, {"kills": 50, "longest_s": 8.0}),
    "between_upsert_and_commit": Scenario(between_upsert_and_commit, {"times": 1}, {"times": 20}),
    "fresh_partition": Scenario(fresh_partition, {"frames": SOME_FRAMES, "kills": 1}, {"frames": 400, "kills": 10}),
    "encoder_raises": Scenario(encoder_raises, {"every": 5, "frames": SOME_FRAMES}, {"every": 5, "frames": 1200}),
    "rebalance_storm": Scenario(rebalance_storm, {"seconds": 9}, {"seconds": 120}),
    "broker_stopped": Scenario(broker_stopped, {"seconds": 4}, {"seconds": 60}),
    "broker_stopped_worker_killed": Scenario(
        broker_stopped, {"seconds": 4, "then_kill": True}, {"seconds": 60, "then_kill": True}
    ),
    "milvus_stopped": Scenario(milvus_stopped, {"seconds": 4}, {"seconds": 60}),
    "milvus_stopped_at_start": Scenario(milvus_stopped_at_start, {"seconds": 2}, {"seconds": 60}),
    "worker_frozen": Scenario(worker_frozen, {"times": 1, "seconds": 2}, {"times": 10, "seconds": 14}),
    "replayed": Scenario(replayed, {"times": 1, "frames": SOME_FRAMES}, {"times": 3, "frames": 1200}),
    "poison": Scenario(poison, {"every": 10, "frames": SOME_FRAMES}, {"every": 100, "frames": 2400}),
    "oversize": Scenario(oversize, {"frames": 12}, {"frames": 600}),
}


def _boundaries(moments: Sequence[Span]) -> set[tuple[str, int, int, int, bool]]:
    return {(moment.camera, moment.start_ms, moment.end_ms, moment.frames, moment.closed) for moment in moments}


def times_given(worker: Server) -> int:
    """How often the group gave this worker partitions."""
    return worker.last_words().count("the group gave this worker its partitions")


async def _until(reached: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, f"not reached within {within_s:.0f} s"
        await asyncio.sleep(0.02)


async def _main(names: list[str], full: bool, folder: Path) -> int:
    bad = []
    house = apache_house(folder)
    try:
        await house.start()
        for name in names:
            scenario = SCENARIOS[name]
            intensity = scenario.full if full else scenario.short
            print(f"== {name} {intensity}", flush=True)
            outcome = await scenario.run(house, **intensity)
            print(outcome, flush=True)
            if not outcome.good:
                bad.append(name)
    finally:
        house.end()
    print(f"not balanced: {', '.join(bad)}" if bad else "every ledger balances")
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["all", *SCENARIOS])
    parser.add_argument("--full", action="store_true", help="as hard as a release must stand")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and data there")
    arguments = parser.parse_args()
    # The brokers' clients tell every failed connection; here connections are meant to fail.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    names = list(SCENARIOS) if arguments.name == "all" else [arguments.name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_main(names, arguments.full, folder))


if __name__ == "__main__":
    sys.exit(main())
