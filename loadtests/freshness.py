"""Captured -> searchable: how long after a scene's first picture was taken can a search find it?

    python -m loadtests.freshness [--shares 0.5 1 2] [--seconds 60] [--chunks] [--keep FOLDER]

The whole embedded stack with default settings, but for the camera process: a fleet publishes footage as cameras would,
since decoding hundreds of cameras would take the processor from what is measured. Each camera looks twice a second and
shows another scene every 5 s, of which something moves in the first second; three looks of a scene are sent. One client
asks the query service over and over. A sample is the time between the first picture of a scene and the first reply with
a hit that holds this picture.

First it measures what the encoder can do here: the same stream worker works off a backlog with full batches
(catch_up = all), while the client asks as it does later, and the frames embedded a second count. Whatever the other
parts take from the encoder's share of this machine is taken then too; only what publishing takes is left out, a few
percent of a core. Then the fleet sends 0.5, 1 and 2 times that, so that a share means the same on every machine.

With --chunks, the half load once more with what collects ten seconds of a camera, then embeds and stores them
(`loadtests.chunks`), in the stream worker's place.

Exits with 1 when a ledger does not balance, or a frame was shed that was not declared.
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
"""Frames that one camera sends."""
CAPACITY_CAMERAS = 48
CAPACITY_S, SETTLE_S = 30.0, 5.0
GUESS_S = 3.0
STARTS_S = 60.0
WARM_UP_S = 15.0
REACH_MS = 20_000
"""What began longer ago is not asked for any more."""
ASK_S = 0.05
MOST_HITS = 10_000
REST_S = 120.0
SHED = "watchword_stream_frames_shed_total"
HOPS = ("consumed", "embedded", "written", "visible")
CORES = psutil.cpu_count() or 1


@asynccontextmanager
async def asking(house: House, openings: Openings, cameras: int, reach_ms: int = REACH_MS) -> AsyncIterator[None]:
    """A client asks the query service over and over, while inside."""
    limit = min(MOST_HITS, cameras * (2 + reach_ms // (SCENE_LOOKS * STEP_MS)))

    async def ask_for_ever() -> None:
        async with QueryClient(house.parts.addresses.query, 10.0) as client:
            while True:
                reply = await client.search(text="anything at all", start_ms=now_ms() - reach_ms, limit=limit)
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
    """Frames a second that the encoder does for the stream worker, with as many waiting as it likes."""
    looks = SCENE_LOOKS * round(await _guess(house) * (CAPACITY_S + SETTLE_S) / CAPACITY_CAMERAS / KEPT_LOOKS + 1)
    plan = Plan(CAPACITY_CAMERAS, rate=0, moving=KEPT_LOOKS, scene_looks=SCENE_LOOKS, name="capacity")
    async with a_pipeline(house, "capacity", plan, {"stream.catch_up": "all"}) as pipeline:
        await pipeline.fleet.publish(looks)
        waiting = len(pipeline.fleet.sent)
        say(f"{waiting:,} frames wait; measuring what the encoder can do")
        # The backlog is of an hour ago: asking for all of it finds about as much as is found later.
        before = await house.embedded()
        async with pipeline.worker(), asking(house, Openings(), CAPACITY_CAMERAS, 2 * 3_600_000):
            await _embedded(house, before + 1, STARTS_S)
            await asyncio.sleep(SETTLE_S)
            first_s, first = time.monotonic(), await house.embedded()
            last = await _embedded(house, before + waiting * 9 // 10, CAPACITY_S)
            last_s = time.monotonic()
    return (last - first) / (last_s - first_s)


async def _guess(house: House) -> float:
    """About how many pictures a second the encoder does when it does nothing else."""
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
    """Wait until the encoder answered so many pictures, or for so long; how many it answered."""
    deadline = time.monotonic() + within_s
    while (done := await house.embedded()) < at_least and time.monotonic() < deadline:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.2)
    return done


@dataclass(frozen=True)
class Arm:
    """What one load showed."""

    name: str
    plan: Plan
    openings: Openings
    seconds: float
    balance: Balance | None
    """None where nothing is balanced: for chunks."""
    left: int
    shed_counted: int
    """By the worker; `balance` tells what was declared."""
    shed: frozenset[Place]
    own: frozenset[Place]
    """Frames with which a moment begins."""
    hops: Mapping[str, Mapping[float, float]]
    cores: Mapping[str, float]
    idle: float

    @property
    def looked_at(self) -> frozenset[Place]:
        """Openings that were found, and not only covered by a moment that reaches across them."""
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
    """The stream worker, at a share of what the encoder can do."""
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
    """Ten-second chunks in the stream worker's place."""
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
    """Let it run in, then measure: what each process used, in cores, what nobody used, and each hop's seconds."""
    fleet = pipeline.fleet
    async with fleet.publishing(), asking(house, openings, fleet.plan.cameras, reach_ms):
        await asyncio.sleep(WARM_UP_S)
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
        # What began is asked for until it must be there, under the same load.
        end_s = time.monotonic() + reach_ms / 1000
        while openings.waiting and time.monotonic() < end_s:  # noqa: ASYNC110  # a search tells nobody
            await asyncio.sleep(ASK_S)
    hops = {hop: {le: count - before[hop].get(le, 0) for le, count in after[hop].items()} for hop in after}
    return {name: held(name, probe.samples).cores for name, probe in probes.items()}, idle, hops


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
    """Print what came of it; the exit code."""
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
    arguments.add_argument(
        "--shares", type=float, nargs="+", default=[0.5, 1.0, 2.0], help="of what the encoder can do"
    )
    arguments.add_argument("--seconds", type=float, default=60, help="of each load")
    arguments.add_argument("--capacity", type=float, help="frames/s, in place of measuring what the encoder can do")
    arguments.add_argument("--chunks", action="store_true", help="compare with chunks of ten seconds")
    return run(freshness, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
