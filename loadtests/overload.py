"""Twice the encoder's capacity: does memory stay flat, is nothing lost, how long does recovery take?

    python -m loadtests.overload [--minutes 5] [--fresh-minutes 1.5] [--keep FOLDER]

On a real Apache Kafka, Milvus, the stream worker and the encoder worker with the built-in bundle:

    peak     frames per second through the pipeline while more wait in the broker
    all      catch_up = all: cameras of 2 frames a second each send twice the peak; then they stop, and the backlog is
             processed. When the pipeline gets faster, because other programs use less of the machine, cameras are
             added
    fresh    the same, shorter, with catch_up = fresh, the default: the least novel frames are shed and declared

Exits with 1 when a ledger does not balance, one of our processes ended by itself, or memory grows with the backlog.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.fleet import Plan
from loadtests.pipeline import House, Pipeline, a_house, a_pipeline
from loadtests.rig import Running, metrics, parser, run, say
from loadtests.samples import Probe, held, hop_buckets, quantile, told

FPS = 2
PEAK_CAMERAS = 48
PEAK_FRAMES = 100
"""Frames per camera: more than can be embedded in `PEAK_S`."""
PEAK_S, WARM_UP_S = 40.0, 5.0
EVERY_S = 2.0
TELL_EVERY = 15
ADAPT_S = 10.0
MOST_CAMERAS = 160
ALL = {"stream.catch_up": "all"}
REST_S = 90.0
"""How long it takes until the last moments are closed by the clock and committed."""
SHED = "watchword_stream_frames_shed_total"


@dataclass(frozen=True, slots=True)
class Point:
    """The counts at one time."""

    at_s: float
    published: int
    embedded: int
    shed: int

    @property
    def behind(self) -> int:
        """Frames in the broker that were not looked at yet."""
        return self.published - self.embedded - self.shed


@dataclass
class Course:
    """The course of a run."""

    house: House
    pipeline: Pipeline
    parts: Running
    embedded_before: int
    """Pictures that the encoder answered before this run."""
    probes: dict[str, Probe]
    points: list[Point] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)

    async def look(self) -> Point:
        seen = await metrics(self.parts.addresses.ops["stream"])
        at_s = time.monotonic()
        for probe in self.probes.values():
            probe.look(at_s)
        self.ended |= set(self.parts.ended)
        embedded = await self.house.embedded() - self.embedded_before
        point = Point(at_s, len(self.pipeline.fleet.sent), embedded, int(seen.get(SHED, 0)))
        self.points.append(point)
        if len(self.points) % TELL_EVERY == 0:
            memory = ", ".join(f"{name} {probe.samples[-1].rss_mb:.0f} MB" for name, probe in self.probes.items())
            say(f"{point.published:,} published, {point.embedded:,} embedded, {point.behind:,} behind; {memory}")
        return point

    async def until(self, at_s: float) -> None:
        """Sample repeatedly until then."""
        while time.monotonic() < at_s:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def overloaded_until(self, at_s: float) -> None:
        """Like `until`, but keep publishing at twice the embedding rate."""
        fleet = self.pipeline.fleet
        while time.monotonic() < at_s:
            await self.until(min(at_s, time.monotonic() + ADAPT_S))
            lately = [point for point in self.points if point.at_s > time.monotonic() - ADAPT_S - EVERY_S]
            wanted = min(MOST_CAMERAS, cameras_for(rate(lately)))
            if wanted > fleet.active:
                say(f"the pipeline does {rate(lately):.0f} frames/s: {wanted} cameras instead of {fleet.active}")
                fleet.active = wanted

    async def until_embedded(self, frames: int, within_s: float = 60.0) -> None:
        """Sample until this many frames were embedded."""
        await self._until(lambda point: point.embedded >= frames, within_s)

    async def until_caught_up(self, within_s: float) -> Point:
        """Sample until no frame waits."""
        return await self._until(lambda point: point.behind <= 0, within_s)

    async def _until(self, reached: Callable[[Point], bool], within_s: float) -> Point:
        deadline = time.monotonic() + within_s
        while True:
            point = await self.look()
            if reached(point) or time.monotonic() > deadline or self.ended:
                return point
            await asyncio.sleep(EVERY_S / 4)


@asynccontextmanager
async def _course(house: House, pipeline: Pipeline) -> AsyncIterator[Course]:
    async with pipeline.worker() as parts:
        servers = {"stream": parts.servers["stream"], "encoder": house.encoder}
        probes = {name: Probe(server.pid) for name, server in servers.items()}
        yield Course(house, pipeline, parts, await house.embedded(), probes)


async def overload(asked: argparse.Namespace, folder: Path) -> int:
    async with a_house(folder) as house:
        peak = await _peak(house)
        wrong = await _all(house, peak, asked.minutes * 60)
        wrong += await _fresh(house, peak, asked.fresh_minutes * 60)
    print("\n" + ("; ".join(wrong) if wrong else "memory stayed flat, nothing was lost"))
    return 1 if wrong else 0


async def _peak(house: House) -> float:
    """Frames per second through the whole pipeline, in the middle half of a backlog."""
    async with a_pipeline(house, "peak", Plan(cameras=PEAK_CAMERAS, rate=0, name="peak"), ALL) as pipeline:
        await pipeline.fleet.publish(PEAK_FRAMES)
        say(f"{len(pipeline.fleet.sent):,} frames wait; measuring the peak")
        async with _course(house, pipeline) as course:
            await course.until_embedded(1)
            await course.until(time.monotonic() + WARM_UP_S)
            warm = len(course.points) - 1
            await course.until(time.monotonic() + PEAK_S)
    peak = rate([point for point in course.points[warm:] if point.behind > 0])
    say(f"peak: {peak:.1f} frames/s")
    return peak


async def _all(house: House, peak: float, length_s: float) -> list[str]:
    plan = Plan(cameras=MOST_CAMERAS, live=True, name="all")
    async with a_pipeline(house, "all", plan, ALL) as pipeline, _course(house, pipeline) as course:
        pipeline.fleet.active = cameras_for(peak)
        say(f"all: {pipeline.fleet.active} cameras, for {length_s:.0f} s")
        async with pipeline.fleet.publishing():
            await course.overloaded_until(time.monotonic() + length_s)
            stopped = await course.look()
        during = list(course.points)
        say(f"the fleet ended, {stopped.behind:,} frames are behind")
        caught_up = await course.until_caught_up(4 * length_s)
        say("caught up; waiting until everything is committed")
        balance, left = await pipeline.balance(REST_S)
    offered = (stopped.published - during[0].published) / (stopped.at_s - during[0].at_s)
    goodput, recovery_s = rate(during), max(EVERY_S, caught_up.at_s - stopped.at_s)
    everybody = [held(name, probe.samples) for name, probe in course.probes.items()]
    print(f"\ncatch_up = all, {length_s:.0f} s at {offered:.0f} frames/s\n")
    print(told(everybody), "\n")
    _rows(
        ("peak beforehand, frames/s", f"{peak:.1f}"),
        ("offered, frames/s", f"{offered:.1f}"),
        ("embedded meanwhile, frames/s", f"{goodput:.1f}"),
        ("  offered / embedded", f"{offered / goodput:.2f}"),
        ("  embedded / embedded while recovering", f"{goodput * recovery_s / max(1, stopped.behind):.2f}"),
        ("behind at the end, frames", f"{stopped.behind:,}"),
        ("  expected: (offered - embedded) x time", f"{(offered - goodput) * length_s:,.0f}"),
        ("recovery, s", f"{recovery_s:.0f} ({stopped.behind / recovery_s:.1f} frames/s)"),
        ("  expected: behind / embedded meanwhile", f"{stopped.behind / goodput:.0f}"),
        ("not committed", f"{left}"),
    )
    print(balance)
    wrong = _wrong("all", course, balanced=balance.balanced, left=left)
    return wrong + [f"{one.name} holds more at the end than at first" for one in everybody if one.grows]


async def _fresh(house: House, peak: float, length_s: float) -> list[str]:
    plan = Plan(cameras=MOST_CAMERAS, live=True, name="fresh")
    async with a_pipeline(house, "fresh", plan) as pipeline, _course(house, pipeline) as course:
        pipeline.fleet.active = cameras_for(peak)
        say(f"fresh: {pipeline.fleet.active} cameras, for {length_s:.0f} s")
        async with pipeline.fleet.publishing():
            await course.overloaded_until(time.monotonic() + length_s)
            stopped = await course.look()
        during = list(course.points)
        caught_up = await course.until_caught_up(length_s)
        balance, left = await pipeline.balance(REST_S)
        age = hop_buckets(await metrics(course.parts.addresses.ops["stream"]), "embedded")
    print(f"\ncatch_up = fresh, {length_s:.0f} s\n")
    _rows(
        ("embedded meanwhile, frames/s", f"{rate(during):.1f} ({rate(during) / peak:.2f} of peak)"),
        ("captured -> embedded, s: p50 / p99", f"{quantile(age, 0.5):.2f} / {quantile(age, 0.99):.2f}"),
        ("most frames behind", f"{max(point.behind for point in course.points):,}"),
        ("recovery, s", f"{caught_up.at_s - stopped.at_s:.0f}"),
        ("shed, as the worker counts", f"{caught_up.shed:,}"),
        ("not committed", f"{left}"),
    )
    print(balance)
    wrong = _wrong("fresh", course, balanced=balance.balanced, left=left)
    return wrong + ([] if caught_up.shed == balance.of("shed") else ["not every frame that was shed was declared"])


def cameras_for(frames_a_second: float) -> int:
    """How many cameras send twice this rate."""
    return max(1, round(2 * frames_a_second / FPS))


def rate(points: list[Point]) -> float:
    """Frames embedded per second, from the first point to the last."""
    lasted_s = points[-1].at_s - points[0].at_s
    return (points[-1].embedded - points[0].embedded) / lasted_s if lasted_s else 0.0


def _wrong(name: str, course: Course, *, balanced: bool, left: int) -> list[str]:
    wrong = [f"{name}: {part} ended by itself" for part in sorted(course.ended)]
    wrong += [] if balanced else [f"{name}: the ledger does not balance"]
    return wrong + ([f"{name}: {left} frames were not committed"] if left else [])


def _rows(*rows: tuple[str, str]) -> None:
    for name, value in rows:
        print(f"{name:<42}{value}")
    print()


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--fresh-minutes", type=float, default=1.5)
    return run(overload, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
