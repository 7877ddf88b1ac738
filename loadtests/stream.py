"""Throughput of the stream worker, against a bare aiokafka consumer on the same topic.

    python -m loadtests.stream [--broker embedded|apache|HOST:PORT] [--frames 6000] [--rounds 3] [--profile]

`embedded` and `apache` start a broker; HOST:PORT is a running one. All arms get the same payload, commit every second
and call the same null encoder with batches of the same size.

    bare     the shortest such loop with aiokafka
    faust    the same loop, fed by the stream worker's Faust side
    worker   the whole stream worker: Faust, ledger, recall, moment builder, an index in memory, catalog, thumbnails,
             metrics

The arms take turns and the median round counts, because other programs run on the machine; the processor time per frame
is printed too. The goals, on Apache Kafka: faust 0.85 of bare, worker 0.70.

With --profile two more rounds of the worker follow, one with each profiler of `loadtests.profilers`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from aiokafka import AIOKafkaConsumer

from broker.kafka import FrameProducer, ensure_topics
from broker.settings import KafkaSettings
from catalog.coverage import Coverage
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from catalog.store import Catalog
from index.memory import MemoryStore
from loadtests.profilers import Sampler, Tracer
from proto.errors import Poison
from proto.types import SpaceInfo, Vector, now_ms
from proto.v1.events_pb2 import Frame
from stream.app import FrameConsumer
from stream.consumer import Held, Record
from stream.settings import StreamSettings
from stream.worker import House, StreamWorker
from tests.tools.apache_kafka import apache_kafka_part, jars
from tests.tools.servers import Server
from watchword.stack.parts import broker_part
from watchword.stack.ports import Port
from workers.client import EncoderInfo, Seen

SPACE = SpaceInfo("0" * 16, 512)
Watch = Callable[[], AbstractContextManager[object]]
NOBODY: Watch = nullcontext


class NullEncoder:
    """Answers immediately, always with the same vector."""

    def __init__(self, expected: int) -> None:
        self.left = expected
        self.first, self.last = asyncio.Event(), asyncio.Event()
        self.vector = np.eye(1, SPACE.dimension, dtype=np.float32)[0]

    async def describe(self) -> EncoderInfo:
        return EncoderInfo(SPACE, "null", "none", 224, "null", 1024, 1 << 24)

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        self.left -= len(images)
        self.first.set()
        if self.left <= 0:
            self.last.set()
        return [self.vector] * len(images)

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:  # noqa: ARG002
        raise AssertionError("it has no detector")

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        return [self.vector] * len(texts)


async def publish(kafka: KafkaSettings, frames: int, cameras: int, size: int) -> None:
    jpeg, start_ms = os.urandom(size), now_ms()

    async def one(producer: FrameProducer, camera: int) -> None:
        for number in range(frames // cameras):
            await producer.send(
                Frame(
                    camera=f"camera-{camera}",
                    captured_ms=start_ms + 500 * number,
                    grabbed_ms=now_ms(),
                    jpeg=jpeg,
                    sequence=number,
                    after_gap=number == 0,
                )
            )

    async with FrameProducer(kafka) as producer:
        await asyncio.gather(*(one(producer, camera) for camera in range(cameras)))


@dataclass(frozen=True, slots=True)
class Took:
    """What one arm took for all frames."""

    seconds: float
    cpu_s: float


class Clock:
    """Runs from the first frame to the last."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def took(self) -> Took:
        return Took(time.perf_counter() - self._began[0], time.process_time() - self._began[1])


async def bare(kafka: KafkaSettings, frames: int, batch: int) -> Took:
    """A consumer in a plain loop: read, parse, ask the encoder, commit every second."""
    consumer = AIOKafkaConsumer(
        kafka.frames_topic,
        bootstrap_servers=kafka.brokers,
        group_id=kafka.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=200,
        fetch_max_wait_ms=100,
    )
    encoder = NullEncoder(frames)
    await consumer.start()
    clock, committed_s = None, time.monotonic()
    while encoder.left > 0:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            clock = clock or Clock()
            pictures = [Frame.FromString(record.value).jpeg for record in records]
            for first in range(0, len(pictures), batch):
                await encoder.embed_images(pictures[first : first + batch])
        if time.monotonic() - committed_s > 1.0:
            await consumer.commit()
            committed_s = time.monotonic()
    assert clock is not None
    took = clock.took()
    await consumer.stop()
    return took


class Plain:
    """Does with Faust's records what the bare arm does."""

    def __init__(self, encoder: NullEncoder, batch: int) -> None:
        self._encoder = encoder
        self._batch = batch
        self.next: dict[int, int] = {}

    async def take(self, records: Sequence[Record]) -> None:
        pictures = [Frame.FromString(record.value).jpeg for record in records]
        for first in range(0, len(pictures), self._batch):
            await self._encoder.embed_images(pictures[first : first + self._batch])
        self.next[records[-1].partition] = records[-1].offset + 1

    async def given(self, log: str, partitions: Sequence[Held]) -> None:
        """Nothing to prepare."""

    async def taken_away(self) -> None:
        """Nothing to finish: it writes nothing."""
        self.next.clear()


async def faust(kafka: KafkaSettings, frames: int, batch: int) -> Took:
    """The stream worker's consumer without the rest."""
    encoder = NullEncoder(frames)
    taker = Plain(encoder, batch)
    consumer = FrameConsumer(kafka, StreamSettings())
    await consumer.start(taker)
    await encoder.first.wait()
    clock = Clock()
    while not encoder.last.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(encoder.last.wait(), 1.0)
        await consumer.commit(dict(taker.next))
    took = clock.took()
    await consumer.stop()
    return took


async def through(kafka: KafkaSettings, frames: int, folder: Path, batch: int, watch: Watch = NOBODY) -> Took:
    """The whole stream worker."""
    encoder = NullEncoder(frames)
    catalog = Catalog(f"sqlite:///{folder / 'catalog.db'}")
    catalog.open()
    # All frames wait from the start and none is shed: this measures throughput.
    settings = StreamSettings(batch_frames=batch, catch_up="all")
    async with FrameProducer(kafka) as letters:
        house = House(
            encoder=encoder,
            store=MemoryStore(SPACE),
            thumbnails=Thumbnails(FolderObjects(folder)),
            coverage=Coverage(catalog),
            letters=letters,
            frames_topic=kafka.frames_topic,
        )
        worker = StreamWorker(house, FrameConsumer(kafka, settings), settings)
        task = asyncio.create_task(worker.run())
        await asyncio.wait({task, asyncio.create_task(encoder.first.wait())}, return_when=asyncio.FIRST_COMPLETED)
        clock = Clock()
        with watch():
            await asyncio.wait({task, asyncio.create_task(encoder.last.wait())}, return_when=asyncio.FIRST_COMPLETED)
        took = clock.took()
        worker.stop()
        await task
    catalog.close()
    return took


async def measure(broker: str, asked: argparse.Namespace) -> str:
    name = f"loadtest-{now_ms()}"
    kafka = KafkaSettings(brokers=broker, frames_topic=name, group=name, session_s=6.0)
    await ensure_topics(kafka)
    await publish(kafka, asked.frames, asked.cameras, asked.size)
    arms: dict[str, list[Took]] = {"bare": [], "faust": [], "worker": []}
    # As watchword/stage.py does: what is loaded by now is not looked through by every collection.
    gc.collect()
    gc.freeze()
    for number in range(asked.rounds):
        own = {arm: kafka.model_copy(update={"group": f"{name}-{arm}-{number}"}) for arm in arms}
        arms["bare"].append(await bare(own["bare"], asked.frames, asked.batch))
        arms["faust"].append(await faust(own["faust"], asked.frames, asked.batch))
        with TemporaryDirectory() as folder:
            arms["worker"].append(await through(own["worker"], asked.frames, Path(folder), asked.batch))
    lines, rates = [], {}
    for arm, rounds in arms.items():
        rates[arm] = asked.frames / median(took.seconds for took in rounds)
        cpu_us = 1e6 * median(took.cpu_s for took in rounds) / asked.frames
        each = ", ".join(f"{asked.frames / took.seconds:.0f}" for took in rounds)
        lines.append(f"{arm:<8}{rates[arm]:8.0f} frames/s {cpu_us:8.0f} us of processor a frame   ({each})")
    lines += [f"{arm} / bare {rates[arm] / rates['bare']:.2f}" for arm in ("faust", "worker")]
    if asked.profile:
        lines += await profiled(kafka, asked)
    return "\n".join(lines)


async def profiled(kafka: KafkaSettings, asked: argparse.Namespace) -> list[str]:
    """Two more rounds of the worker, one with the sampler and one with the tracer."""
    lines = []
    for profiler in (Sampler(), Tracer()):
        own = kafka.model_copy(update={"group": f"{kafka.group}-{profiler.name}"})
        with TemporaryDirectory() as folder:
            took = await through(own, asked.frames, Path(folder), asked.batch, profiler.watching)
        lines += ["", *profiler.told(asked.frames, took.cpu_s)]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="embedded", help="embedded, apache, or HOST:PORT of a running one")
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--cameras", type=int, default=20)
    parser.add_argument("--size", type=int, default=30_000, help="bytes per picture")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="profile the worker")
    asked = parser.parse_args()
    # aiokafka logs every connection that fails while something starts.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if asked.broker not in ("embedded", "apache"):
        print(asyncio.run(measure(asked.broker, asked)))
        return 0
    with TemporaryDirectory() as folder:
        data = Path(folder, "broker")
        part = broker_part(Port(), data) if asked.broker == "embedded" else apache_kafka_part(Port(), data, jars())
        server = Server(part, Path(folder, "log"))
        try:
            asyncio.run(server.start())
            print(asyncio.run(measure(server.address, asked)))
        finally:
            server.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
