"""Small parts that the tests of this room share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from broker.kafka import FrameProducer, ensure_topics
from broker.settings import KafkaSettings
from catalog.media import Thumbnails
from catalog.skips import Skips
from index.memory import MemoryStore
from proto.errors import Poison, WatchwordError
from proto.types import Moment, SpaceInfo, Span, Vector, now_ms
from proto.v1.events_pb2 import Frame
from stream.chain import Batch, Chain
from stream.moments import MomentBuilder, Seen, Write
from stream.settings import StreamSettings
from stream.worker import StreamWorker
from workers.client import EncoderInfo

SPACE = SpaceInfo("0123456789abcdef", 8)
START_MS = 1_767_225_600_000
_numbers = itertools.count()


def vector(scene: int) -> Vector:
    """The vector of a scene; two scenes in a row have nothing in common."""
    return np.eye(SPACE.dimension, dtype=np.float32)[scene % SPACE.dimension]


class SceneEncoder:
    """An encoder for pictures that say their scene: `b"3"`. `trouble` is raised first, one error a call."""

    def __init__(self, space: SpaceInfo = SPACE, trouble: Sequence[WatchwordError] = ()) -> None:
        self._space = space
        self.trouble = list(trouble)
        self.pictures = 0

    async def describe(self) -> EncoderInfo:
        return EncoderInfo(self._space, "scenes", "none", 64, "test", 64, 1 << 20)

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        await asyncio.sleep(0)
        if self.trouble:
            raise self.trouble.pop(0)
        self.pictures += len(images)
        return [vector(int(image)) if image.isdigit() else Poison("not_an_image", "no digits") for image in images]

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        raise AssertionError("nobody asks for this here")


def script(cameras: int, frames: int, poison_every: int = 0) -> list[Frame]:
    """Frames of several cameras, interleaved, each camera changing its scene at a pace of its own."""
    made = []
    for number, camera in itertools.product(range(frames), range(cameras)):
        pace = 3 + camera
        jpeg = str(number // pace).encode()
        made.append(
            Frame(
                camera=f"cam-{camera}",
                captured_ms=START_MS + number * 500 + camera,
                grabbed_ms=now_ms(),
                jpeg=b"poison" if poison_every and len(made) % poison_every == poison_every - 1 else jpeg,
                sequence=number,
                after_gap=number == 0,
                novelty=1.0 if number % pace == 0 else 0.0,
            )
        )
    return made


def built(frames: Sequence[Frame], settings: StreamSettings) -> dict[str, Moment]:
    """The moments of these frames, by the pure builder alone."""
    builders: dict[str, MomentBuilder[int]] = {}
    moments: dict[str, Moment] = {}
    for mark, frame in enumerate(frames):
        if not frame.jpeg.isdigit():
            continue
        builder = builders.setdefault(frame.camera, MomentBuilder(SPACE.id, frame.camera, settings))
        for write in builder.add(seen(mark, frame), 0.0):
            moments[write.moment.id] = write.moment
    for builder in builders.values():
        for write in builder.refresh(1e9):
            moments[write.moment.id] = write.moment
    return moments


def seen(mark: int, frame: Frame) -> Seen[int]:
    return Seen(
        mark,
        frame.captured_ms,
        frame.sequence,
        frame.after_gap,
        vector(int(frame.jpeg)),
        frame.jpeg,
        frame.novelty,
        frame.usual,
    )


def span(moment: Span) -> tuple[str, int, int, int, int, bool]:
    """What of a moment must be the same at every replay."""
    return moment.camera, moment.start_ms, moment.peak_ms, moment.end_ms, moment.frames, moment.closed


def finished(writes: Sequence[Write[int]]) -> list[int]:
    return [mark for write in writes for mark in write.finishes]


async def until(true: Callable[[], bool], what: str, within_s: float = 15.0) -> None:
    """Poll until it is true, or fail."""
    for _ in range(int(within_s / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {within_s:.0f} s: {what}")


async def through(chain: Chain, batch: Batch) -> None:
    """Take one batch through every step, as a worker that has no other under way."""
    await chain.prepare(batch)
    await chain.embed(batch)
    await chain.settle(batch)


def broker_settings(broker: str, partitions: int = 2) -> KafkaSettings:
    """Topics and a group of this test alone."""
    number = f"{now_ms()}-{next(_numbers)}"
    return KafkaSettings(
        brokers=broker,
        frames_topic=f"frames-{number}",
        dead_letters_topic=f"dead-letters-{number}",
        group=f"group-{number}",
        partitions=partitions,
        session_s=2.0,
    )


class Desk:
    """One broker's topics, one store, one folder of thumbnails: workers come and go."""

    def __init__(self, kafka: KafkaSettings, producer: FrameProducer, folder: Path) -> None:
        self.kafka = kafka
        self.producer = producer
        self.store = MemoryStore(SPACE)
        self.thumbnails = Thumbnails(folder)
        self.skips = Skips(folder / "skipped")
        self.settings = StreamSettings(refresh_s=0.05)

    def worker(self, encoder: SceneEncoder) -> StreamWorker:
        return StreamWorker(
            encoder=encoder,
            store=self.store,
            thumbnails=self.thumbnails,
            skips=self.skips,
            letters=self.producer,
            kafka=self.kafka,
            settings=self.settings,
        )

    async def publish(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            await self.producer.send(frame)

    def spans(self) -> list[Moment]:
        return list(self.store._moments.values())

    def stored(self) -> set[tuple[str, int, int, int, int, bool]]:
        return {span(moment) for moment in self.store._moments.values()}

    async def until_stored(self, frames: Sequence[Frame]) -> None:
        """Wait until exactly the moments of these frames are stored, whether closed or still open."""
        wanted = {span(moment) for moment in built(frames, self.settings).values()}
        try:
            await until(lambda: self.stored() == wanted, "moments")
        except AssertionError:
            assert self.stored() == wanted


@asynccontextmanager
async def desk(broker: str, folder: Path, partitions: int = 2) -> AsyncIterator[Desk]:
    kafka = broker_settings(broker, partitions)
    await ensure_topics(kafka)
    async with FrameProducer(kafka) as producer:
        yield Desk(kafka, producer, folder)


@asynccontextmanager
async def working(worker: StreamWorker) -> AsyncIterator[asyncio.Task[None]]:
    """The worker, ready; asked to stop at the end unless it ended already."""
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: worker.ready or task.done(), "the group gives partitions")
        yield task
        worker.stop()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
