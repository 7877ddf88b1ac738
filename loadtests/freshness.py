"""Captured -> searchable: the time from a scene's first picture until a search finds it.

    python -m loadtests.freshness [--shares 0.5 1 2] [--seconds 60] [--chunks] [--keep FOLDER]

Runs the whole embedded stack with default settings, except for the camera process: a fleet publishes footage as cameras
would, because decoding hundreds of cameras would distort the measurement. Each camera looks twice a second and shows
another scene every 5 s, which moves in its first second; three looks per scene are sent. One client queries the query
service continuously. A sample is the time from the first picture of a scene to the first reply with a hit that contains
this picture.

First it measures the encoder's capacity here, in frames embedded per second: the fleet sends more than the encoder can
do, and the same stream worker looks at all of it (catch_up = all), while the client queries as later. So the load of
all other parts, publishing too, is included. Then the fleet sends 0.5, 1 and 2 times the capacity, so that a share
means the same on every machine. Each load is measured once the burst of its start, when every camera shows a new scene
at once, is worked off.

With --chunks, the half load runs again with `loadtests.chunks`, which collects, embeds and stores ten seconds of a
camera at a time, in place of the stream worker.

Exits with 1 when a ledger does not balance, or when a frame was shed but not declared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from broker.kafka import topic_id
from catalog.coverage import Reason
from loadtests.chunks import CHUNK_MS, Chunks
from loadtests.fleet import Plan
from loadtests.ledger import Balance, Place, Ranges, Sent
from loadtests.openings import Openings
from loadtests.pipeline import House, Pipeline, a_house, a_pipeline
from loadtests.rig import Running, metrics, parser, run, say
from loadtests.samples import Probe, held, hop_buckets, quantile
from loadtests.topics import until_drained
from proto.types import now_ms
from proto.v1.events_pb2 import Frame
from query.client import QueryClient
from workers.client import EncoderClient

STEP_MS, SCENE_LOOKS, KEPT_LOOKS = 500, 10, 3
KEPT_A_SECOND = 1000 / STEP_MS * KEPT_LOOKS / SCENE_LOOKS
"""Frames per second that one camera sends."""
OVERLOAD = 1.5
"""Of what the encoder does when nothing else runs."""
CAPACITY_S, SETTLE_S = 30.0, 5.0
GUESS_S = 3.0
STARTS_S = 60.0
WARM_UP_S = 15.0
QUIET_S, MOST_WARM_UP_S, LATE_AT_MOST_S = 5.0, 120.0, 1.25
REACH_MS = 20_000
"""Scenes that began longer ago are not searched for any more."""
ASK_S = 0.05
MOST_HITS = 3_000
REST_S = 120.0
LATE = "watchword_stream_late_seconds"
SHED = "watchword_stream_frames_shed_total"
HOPS = ("consumed", "embedded", "written", "visible")
CORES = psutil.cpu_count() or 1


@asynccontextmanager
async def asking(house: House, openings: Openings, cameras: int, reach_ms: int = REACH_MS) -> AsyncIterator[None]:
    """A client queries the query service continuously inside the block."""
    limit = min(MOST_HITS, cameras * (2 + reach_ms // (SCENE_LOOKS * STEP_MS)))

    async def ask_for_ever() -> None:
        async with QueryClient(house.parts.addresses.query, 10.0) as client:
            while True:
                reply = await client.search(
                    text="anything at all", start_ms=now_ms() - reach_ms, limit=limit, all_moments=True
                )
                seen = now_ms()
                for hit in reply.hits:
                    openings.found(hit.camera, hit.start_ms, hit.end_ms, seen)
                await asyncio.sleep(ASK_S)

    task = asyncio.create_task(ask_for_ever())
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def capacity(house: House) -> float:
    """Frames per second that the encoder does for the stream worker while more comes than it can do."""
    cameras = round(OVERLOAD * await _guess(house) / KEPT_A_SECOND)
    async with a_pipeline(house, "capacity", _plan(cameras, "capacity"), {"stream.catch_up": "all"}) as pipeline:
        say(f"{cameras} cameras send too much; measuring what the encoder can do")
        before = await house.embedded()
        async with (
            pipeline.worker(),
            pipeline.fleet.publishing(),
            asking(house, Openings(), cameras, 2 * 3_600_000),
        ):
            await _embedded(house, before + 1, STARTS_S)
            await asyncio.sleep(SETTLE_S)
            first_s, first = time.monotonic(), await house.embedded()
            await asyncio.sleep(CAPACITY_S)
            return (await house.embedded() - first) / (time.monotonic() - first_s)


async def _guess(house: House) -> float:
    """Roughly the encoder's pictures per second when idle otherwise."""
    pictures = [scene[0] for scene in house.footage]
    done, end_s = 0, time.monotonic() + GUESS_S
    async with EncoderClient(house.parts.addresses.encoder, timeout_s=30) as encoder:

        async def ask() -> None:
            nonlocal done
            while time.monotonic() < end_s:
                done += len(await encoder.embed_images(pictures))

        await asyncio.gather(ask(), ask())
    return done / GUESS_S


async def _embedded(house: House, at_least: int, within_s: float) -> int:
    """Wait until the encoder answered `at_least` pictures or the time is over; returns how many it answered."""
    deadline = time.monotonic() + within_s
    while (done := await house.embedded()) < at_least and time.monotonic() < deadline:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.2)
    return done


@dataclass(frozen=True)
class Arm:
    """The results of one load."""

    name: str
    plan: Plan
    openings: Openings
    seconds: float
    balance: Balance | None
    """None for chunks, which have no ledger."""
    left: int
    shed_counted: int
    """Counted by the worker; `balance` has what was declared."""
    shed: frozenset[Place]
    own: frozenset[Place]
    """First frames of moments."""
    hops: Mapping[str, Mapping[float, float]]
    cores: Mapping[str, float]
    idle: float

    @property
    def looked_at(self) -> frozenset[Place]:
        """Openings that were looked at, not only spanned by a longer moment."""
        return frozenset(self.openings.samples) - self.shed

    @property
    def never(self) -> list[Sent]:
        return [sent for sent in self.openings.waiting if sent.place not in self.shed]

    @property
    def shed_openings(self) -> int:
        found = sum(place in self.shed for place in self.openings.samples)
        return found + sum(sent.place in self.shed for sent in self.openings.waiting)

    @property
    def wrong(self) -> list[str]:
        if self.balance is None:
            return []
        wrong = [] if self.balance.balanced else [f"{self.name}: the ledger does not balance"]
        wrong += [] if self.left == 0 else [f"{self.name}: {self.left} frames were not committed"]
        declared = self.balance.of("shed")
        if self.shed_counted != declared:
            wrong.append(f"{self.name}: {self.shed_counted} frames were shed, {declared} were declared")
        return wrong


async def watchword(house: House, share: float, cameras: int, seconds: float) -> Arm:
    """Run the stream worker at a share of the encoder's capacity."""
    openings = Openings()
    plan, name = _plan(cameras, f"x{share:g}"), f"{share:g} x"
    say(f"{name}: {cameras} cameras send {plan.kept_a_second:.1f} frames/s")
    async with a_pipeline(house, plan.name, plan, taken=lambda _, sent: openings.sees(sent)) as pipeline:
        async with pipeline.worker() as parts:
            cores, idle, hops = await _measured(house, pipeline, openings, seconds, parts)
            await until_drained(pipeline.settings.kafka, pipeline.fleet.sent, REST_S)
            counted = int((await metrics(parts.addresses.ops["stream"])).get(SHED, 0))
            balance, left = await pipeline.balance(REST_S)
        gaps = Ranges(
            ((gap.camera, gap.partition), gap.first_offset, gap.last_offset)
            for gap in pipeline.declared.gaps()
            if gap.reason is Reason.SHED
        )
        sent = pipeline.fleet.sent
        shed = frozenset(one.place for one in sent if gaps.hold((one.camera, one.place[0]), one.place[1]))
        own = await _own(pipeline)
    return Arm(name, plan, openings, seconds, balance, left, counted, shed, own, hops, cores, idle)


async def chunks(house: House, cameras: int, seconds: float) -> Arm:
    """Run ten-second chunks in place of the stream worker."""
    openings, plan = Openings(), _plan(cameras, "chunks")
    collecting: list[Chunks] = []

    def taken(frame: Frame, sent: Sent) -> None:
        openings.sees(sent)
        collecting[0].take(frame, sent.place)

    say(f"chunks: {cameras} cameras send {plan.kept_a_second:.1f} frames/s")
    async with (
        a_pipeline(house, plan.name, plan, taken=taken) as pipeline,
        EncoderClient(house.parts.addresses.encoder, timeout_s=30) as encoder,
    ):
        kafka = pipeline.settings.kafka
        collecting.append(Chunks(encoder, pipeline.store, await topic_id(kafka.brokers, kafka.frames_topic)))
        work = asyncio.create_task(collecting[0].run())
        try:
            cores, idle, _ = await _measured(house, pipeline, openings, seconds, None, 3 * CHUNK_MS)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        own = await _own(pipeline)
    return Arm("chunks", plan, openings, seconds, None, 0, 0, frozenset(), own, {}, cores, idle)


def _plan(cameras: int, name: str) -> Plan:
    return Plan(cameras, STEP_MS, live=True, moving=KEPT_LOOKS, scene_looks=SCENE_LOOKS, name=name)


async def _own(pipeline: Pipeline) -> frozenset[Place]:
    moments = await pipeline.store.between(pipeline.fleet.cameras, now_ms() - 3_600_000, now_ms() + 60_000)
    return frozenset((moment.partition, moment.first_offset) for moment in moments)


async def _measured(
    house: House,
    pipeline: Pipeline,
    openings: Openings,
    seconds: float,
    stream: Running | None,
    reach_ms: int = REACH_MS,
) -> tuple[Mapping[str, float], float, Mapping[str, Mapping[float, float]]]:
    """Warm up, then measure: cores used by each process, idle cores, and each hop's seconds."""
    fleet = pipeline.fleet
    async with fleet.publishing(), asking(house, openings, fleet.plan.cameras, reach_ms):
        await asyncio.sleep(WARM_UP_S)
        if stream is not None:
            say(f"the backlog from the start is worked off after {await _settled(stream):.0f} s")
        say(f"measuring for {seconds:g} s")
        parts = [house.parts, *([stream] if stream else [])]
        probes = {name: Probe(server.pid) for part in parts for name, server in part.servers.items()}
        probes["fleet and client"] = Probe(os.getpid())
        before = await _hops(stream)
        psutil.cpu_percent()
        for probe in probes.values():
            probe.look(time.monotonic())
        openings.counts = True
        await asyncio.sleep(seconds)
        openings.counts = False
        for probe in probes.values():
            probe.look(time.monotonic())
        idle = (1 - psutil.cpu_percent() / 100) * CORES
        after = await _hops(stream)
        # Keep searching for the scenes that began, under the same load, until they must be found.
        end_s = time.monotonic() + reach_ms / 1000
        while openings.waiting and time.monotonic() < end_s:  # noqa: ASYNC110  # a search tells nobody
            await asyncio.sleep(ASK_S)
    hops = {hop: {le: count - before[hop].get(le, 0) for le, count in after[hop].items()} for hop in after}
    return {name: held(name, probe.samples).cores for name, probe in probes.items()}, idle, hops


async def _settled(stream: Running) -> float:
    """Wait until the stream worker is no longer late from the start, when every camera begins a scene at once; how long
    the whole warm-up took. Gives up after a while: then the load itself makes it late."""
    begun_s = quiet_s = time.monotonic()
    while time.monotonic() - quiet_s < QUIET_S and time.monotonic() - begun_s < MOST_WARM_UP_S:
        await asyncio.sleep(0.5)
        if (await metrics(stream.addresses.ops["stream"])).get(LATE, 0.0) > LATE_AT_MOST_S:
            quiet_s = time.monotonic()
    return WARM_UP_S + time.monotonic() - begun_s


async def _hops(stream: Running | None) -> dict[str, dict[float, float]]:
    seen = await metrics(stream.addresses.ops["stream"]) if stream else {}
    return {hop: hop_buckets(seen, hop) for hop in HOPS}


async def freshness(asked: argparse.Namespace, folder: Path) -> int:
    async with a_house(folder, "redis", "query", apache=False, values={"query.max_limit": MOST_HITS}) as house:
        can = asked.capacity or await capacity(house)
        say(f"the encoder can do {can:.1f} frames/s")
        arms = [await watchword(house, share, _cameras(can, share), asked.seconds) for share in asked.shares]
        if asked.chunks:
            arms.append(await chunks(house, _cameras(can, 0.5), asked.seconds))
    return report(can, arms)


def _cameras(can: float, share: float) -> int:
    return max(1, round(share * can / KEPT_A_SECOND))


def report(can: float, arms: Sequence[Arm]) -> int:
    """Print the results; returns the exit code."""
    print(f"\nthe encoder can do {can:.1f} frames/s beside the rest\n")
    heads = ("cameras", "sent/s", "scenes", "p50 s", "p99 s", "worst", "never", "shed", "not own", "frames shed")
    print(f"{'load':<8}" + "".join(f"{head:>{len(head) + 3}}" for head in heads))
    for arm in arms:
        took = [f"{arm.openings.p(share, arm.looked_at):.2f}" for share in (0.5, 0.99, 1)]
        cells = [f"{arm.plan.cameras}", f"{arm.openings.frames / arm.seconds:.1f}", f"{arm.openings.begun}", *took]
        cells += [f"{len(arm.never)}", f"{arm.shed_openings}", f"{len(arm.looked_at - arm.own)}", f"{arm.shed_counted}"]
        print(f"{arm.name:<8}" + "".join(f"{cell:>{len(head) + 3}}" for head, cell in zip(heads, cells, strict=True)))
    print("\nscenes: those that began. never: not found, and not shed. shed: the first picture was passed over.")
    print("not own: found inside an earlier moment. frames shed: over the whole run, as the worker counts.\n")
    for arm in arms:
        own = arm.looked_at & arm.own
        print(f"{arm.name}: scenes that a moment of their own begins with, s: ", end="")
        print(f"p50 {arm.openings.p(0.5, own):.2f}, p99 {arm.openings.p(0.99, own):.2f}")
        if arm.hops:
            hops = (f"{hop} {quantile(at, 0.5):.3f} / {quantile(at, 0.99):.3f}" for hop, at in arm.hops.items())
            print(f"  every frame, since the picture was in hand, s, p50 / p99: {', '.join(hops)}")
        used = ", ".join(f"{part} {cores:.2f}" for part, cores in arm.cores.items())
        others = CORES - arm.idle - sum(arm.cores.values())
        print(f"  cores: {used}; other programs {others:.2f}; idle {arm.idle:.2f}")
        if arm.balance:
            print(f"  shed: {arm.balance.of('shed'):,} of {arm.balance.taken:,} frames are declared")
            print("".join(f"  {line}\n" for line in arm.balance.wrong[:5]), end="")
    wrong = [line for arm in arms for line in arm.wrong]
    wrong += [f"{arm.name}: nothing was found" for arm in arms if not arm.openings.samples]
    print("\n" + ("; ".join(wrong) if wrong else "what was shed is declared, and every ledger balances"))
    return 1 if wrong else 0


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--shares", type=float, nargs="+", default=[0.5, 1.0, 2.0], help="of the encoder's capacity")
    arguments.add_argument("--seconds", type=float, default=60, help="length of each load")
    arguments.add_argument("--capacity", type=float, help="the encoder's capacity in frames/s, instead of measuring it")
    arguments.add_argument("--chunks", action="store_true", help="compare with chunks of ten seconds")
    return run(freshness, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
