"""How many frames a second pass through the stream worker, against a bare consumer on the same topic.

    python -m loadtests.stream --broker 127.0.0.1:9092 --frames 6000

Encoder and index are empty shells, so what is measured is broker, Faust, ledger, decode and moment builder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from aiokafka import AIOKafkaConsumer

from index.media import Thumbnails
from index.memory import MemoryStore
from proto.errors import Poison
from proto.types import SpaceInfo, Vector, now_ms
from proto.v1.events_pb2 import Frame
from stream.kafka import FrameProducer, ensure_topics
from stream.settings import KafkaSettings, StreamSettings
from stream.worker import StreamWorker
from workers.client import EncoderInfo

SPACE = SpaceInfo("0" * 16, 512)


class NullEncoder:
    """Answers at once, always the same vector."""

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


async def bare(kafka: KafkaSettings, frames: int) -> float:
    """Seconds that a bare aiokafka consumer needs, from its first record."""
    consumer = AIOKafkaConsumer(
        kafka.frames_topic, bootstrap_servers=kafka.brokers, auto_offset_reset="earliest", max_poll_records=200
    )
    await consumer.start()
    got, began_s = 0, 0.0
    while got < frames:
        records = await consumer.getmany(timeout_ms=1000)
        began_s = began_s or time.perf_counter()
        got += sum(len(batch) for batch in records.values())
    await consumer.stop()
    return time.perf_counter() - began_s


async def through(kafka: KafkaSettings, frames: int, folder: Path, batch: int) -> float:
    """Seconds that the whole stream worker needs, from its first frame."""
    encoder = NullEncoder(frames)
    async with FrameProducer(kafka) as letters:
        worker = StreamWorker(
            encoder=encoder,
            store=MemoryStore(SPACE),
            thumbnails=Thumbnails(folder),
            letters=letters,
            kafka=kafka,
            settings=StreamSettings(batch_frames=batch),
        )
        task = asyncio.create_task(worker.run())
        await asyncio.wait({task, asyncio.create_task(encoder.first.wait())}, return_when=asyncio.FIRST_COMPLETED)
        began_s = time.perf_counter()
        await asyncio.wait({task, asyncio.create_task(encoder.last.wait())}, return_when=asyncio.FIRST_COMPLETED)
        took_s = time.perf_counter() - began_s
        worker.stop()
        await task
    return took_s


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--cameras", type=int, default=20)
    parser.add_argument("--size", type=int, default=30_000, help="bytes of a picture")
    parser.add_argument("--batch", type=int, default=16)
    asked = parser.parse_args()
    name = f"loadtest-{now_ms()}"
    kafka = KafkaSettings(brokers=asked.broker, frames_topic=name, group=name, session_s=2.0)
    await ensure_topics(kafka)
    began_s = time.perf_counter()
    await publish(kafka, asked.frames, asked.cameras, asked.size)
    print(f"published   {asked.frames / (time.perf_counter() - began_s):8.0f} frames/s")
    print(f"bare        {asked.frames / await bare(kafka, asked.frames):8.0f} frames/s")
    with TemporaryDirectory() as folder:
        took_s = await through(kafka, asked.frames, Path(folder), asked.batch)
    print(f"worker      {asked.frames / took_s:8.0f} frames/s")


if __name__ == "__main__":
    asyncio.run(main())
