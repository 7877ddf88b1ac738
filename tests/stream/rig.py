"""Small parts that the tests of this room share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from broker.kafka import FrameProducer, ensure_topics
from broker.settings import KafkaSettings
from catalog.coverage import Gap, Looked
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from index.store import MomentStore
from proto.errors import Poison, WatchwordError
from proto.types import Moment, SpaceInfo, Span, Vector, now_ms
from proto.v1.events_pb2 import DeadLetter, Frame
from stream.app import FrameConsumer
from stream.assignment import Assignment
from stream.backgrounds import Backgrounds
from stream.consumer import Consumer, Mark, Record
from stream.frames import Arrived, Embedded, Unit, said_by
from stream.letters import DeadLetters
from stream.memory import MemoryConsumer, MemoryLog
from stream.moments import MomentBuilder, Write
from stream.settings import StreamSettings
from stream.worker import House, StreamWorker
from workers.client import Encoder, EncoderInfo, Seen

SPACE = SpaceInfo("0123456789abcdef", 8)
START_MS = 1_767_225_600_000
LOG = "0" * 32
_numbers = itertools.count()


def vector(scene: int) -> Vector:
    """The vector of a scene; two scenes in a row have nothing in common."""
    axis: Vector = np.eye(SPACE.dimension, dtype=np.float32)[scene % SPACE.dimension]
    return axis


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

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
        raise AssertionError("it has no detector")


class Box:
    """Dead letters, kept."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    async def bury(self, letter: DeadLetter) -> None:
        self.letters.append(DeadLetter.FromString(letter.SerializeToString()))


class Notes:
    """Coverage in memory."""

    def __init__(self) -> None:
        self.gaps: dict[tuple[str, str, str, int, int], Gap] = {}
        self.marks: dict[str, Looked] = {}
        self.partitions: dict[tuple[str, int], tuple[int, int]] = {}

    def declare(self, gaps: Sequence[Gap]) -> None:
        for gap in gaps:
            self.gaps[gap.camera, gap.reason, gap.log, gap.partition, gap.first_offset] = gap

    def declared(self, log: str, partition: int, from_offset: int) -> list[Gap]:
        return [
            gap
            for gap in self.gaps.values()
            if (gap.log, gap.partition) == (log, partition) and gap.last_offset >= from_offset
        ]

    def looked(self, marks: Sequence[Looked], ends: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        self.marks |= {one.camera: one for one in marks}
        self.partitions |= ends

    def partition_mark(self, log: str, partition: int) -> tuple[int, int] | None:
        return self.partitions.get((log, partition))


def frame(camera: str, captured_ms: int, scene: int | bytes, sequence: int, **more: object) -> Frame:
    """A frame of a recording: its time may be any."""
    jpeg = scene if isinstance(scene, bytes) else str(scene).encode()
    return Frame(camera=camera, captured_ms=captured_ms, jpeg=jpeg, sequence=sequence, recorded=True, **more)  # type: ignore[arg-type]


def record(offset: int, made: Frame, *, partition: int = 0, at_ms: int | None = None) -> Record:
    """The frame as it lies in the log; the broker took it when it was captured, unless said otherwise."""
    taken_ms = made.captured_ms if at_ms is None else at_ms
    return Record(partition, offset, made.camera.encode(), made.SerializeToString(), taken_ms)


def arrived(offset: int, made: Frame, *, partition: int = 0, log_ms: int | None = None) -> Arrived:
    one = record(offset, made, partition=partition)
    at_ms = made.captured_ms if log_ms is None else log_ms
    return Arrived(one, one.mark, (one.partition, made.camera), said_by(made), made.jpeg, at_ms)


def seen(offset: int, made: Frame, towards: Vector | None = None) -> Embedded:
    one = vector(int(made.jpeg)) if towards is None else towards
    return Embedded(arrived(offset, made), unit(one))


def unit(one: Vector) -> Unit:
    """As the embedding gives it: of length 1 to the last digit."""
    exact = one.astype(np.float64)
    return exact / float(np.linalg.norm(exact))


def script(cameras: int, frames: int, poison_every: int = 0) -> list[Frame]:
    """Frames of several cameras, interleaved, each camera changing its scene at a pace of its own."""
    made: list[Frame] = []
    for number, camera in itertools.product(range(frames), range(cameras)):
        pace = 3 + camera
        scene = str(number // pace).encode()
        poison = poison_every and len(made) % poison_every == poison_every - 1
        made.append(
            frame(
                f"cam-{camera}",
                START_MS + number * 500 + camera,
                b"poison" if poison else scene,
                number,
                grabbed_ms=now_ms(),
                after_gap=number == 0,
                novelty=1.0 if number % pace == 0 else 0.0,
            )
        )
    return made


def built(frames: Sequence[Frame], settings: StreamSettings) -> dict[tuple[str, int], Moment]:
    """The moments of these frames, by the pure builder alone; by camera and start, since offsets are the broker's."""
    builders: dict[str, MomentBuilder] = {}
    moments: dict[tuple[str, int], Moment] = {}
    for offset, made in enumerate(frames):
        if not made.jpeg.isdigit():
            continue
        builder = builders.setdefault(made.camera, MomentBuilder(SPACE.id, LOG, 0, made.camera, settings))
        for write in builder.add(seen(offset, made), 0.0):
            moments[made.camera, write.moment.start_ms] = write.moment
    for camera, builder in builders.items():
        for write in builder.refresh(1e9):
            moments[camera, write.moment.start_ms] = write.moment
    return moments


def span(moment: Span) -> tuple[str, int, int, int, int, bool]:
    """What of a moment must be the same at every replay."""
    return moment.camera, moment.start_ms, moment.peak_ms, moment.end_ms, moment.frames, moment.closed


def finished(writes: Iterable[Write]) -> list[Mark]:
    return [mark for write in writes for mark in write.finishes]


async def until(true: Callable[[], bool], what: str, within_s: float = 15.0) -> None:
    """Poll until it is true, or fail."""
    for _ in range(int(within_s / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {within_s:.0f} s: {what}")


class Life:
    """One worker on a log in memory, taken through its frames by hand: batch by batch, without a clock."""

    def __init__(
        self,
        log: MemoryLog,
        store: MomentStore,
        folder: Path,
        *,
        encoder: Encoder | None = None,
        settings: StreamSettings | None = None,
        letters: DeadLetters | None = None,
        coverage: Notes | None = None,
    ) -> None:
        self.log = log
        self.settings = settings or StreamSettings(catch_up="all", batch_wait_ms=0)
        self.encoder = encoder or SceneEncoder()
        self.coverage = coverage or Notes()
        self.letters = letters or Box()
        house = House(self.encoder, store, Thumbnails(FolderObjects(folder)), self.coverage, self.letters, "frames")
        self.consumer = MemoryConsumer(log)
        self.consumer.lease.renewed(float("inf"))
        self.worker = StreamWorker(house, self.consumer, self.settings)
        self.held = [log.held(partition) for partition in log.ends()]
        self.at = {one.partition: one.start for one in self.held}
        self._assignment: Assignment | None = None

    @property
    def assignment(self) -> Assignment:
        assert self._assignment is not None
        return self._assignment

    async def begin(self) -> None:
        """Be given the partitions; whatever is done first does it."""
        if self._assignment is None:
            self._assignment = await self.worker._begin(self.log.name, self.held)

    async def read(self, most: int, partition: int = 0) -> int:
        """Read so many records and take them through every step; how many there were."""
        await self.begin()
        records = self.log.read(partition, self.at[partition], most)
        if records:
            self.at[partition] = records[-1].offset + 1
            await self.assignment.take(records)
        await self._through()
        return len(records)

    async def quiet(self, seconds: float) -> None:
        """The log is read to its end, and nothing comes for so long."""
        await self.begin()
        for second in range(int(seconds) + 1):
            self.assignment.saw_ends(self.log.ends(), 1e6 + second)
        await self._through()

    async def stored(self) -> None:
        await self.assignment.pipeline.looked_at()
        await self.assignment.pipeline.flushed()

    async def commit(self) -> None:
        offsets = self.assignment.committable()
        self.log.committed |= offsets
        self.assignment.committed(offsets)
        self.coverage.looked(self.assignment.pipeline.looked(), self.assignment.ends())

    async def die(self) -> None:
        """End without a word: what was not stored is gone."""
        self.assignment.close()
        await self.assignment.pipeline.close()

    async def _through(self) -> None:
        assignment = self.assignment
        while True:
            batch = await assignment._gather(idle_s=0.0)
            embedded = asyncio.create_task(assignment._embed(batch))
            assignment._tick_s = 0.0
            await assignment._settle(batch, embedded)
            if not assignment._waiting and not len(assignment._inbox):
                return


def filled(frames: Iterable[Frame], *, partition: int = 0) -> MemoryLog:
    """A log with these frames."""
    log = MemoryLog(LOG)
    for made in frames:
        log.append(partition, made.camera.encode(), made.SerializeToString(), made.captured_ms)
    return log


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
        self.thumbnails = Thumbnails(FolderObjects(folder))
        self.coverage = Notes()
        self.settings = StreamSettings(refresh_s=0.05, catch_up="all")

    def worker(self, encoder: SceneEncoder, consumer: Consumer | None = None) -> StreamWorker:
        house = House(encoder, self.store, self.thumbnails, self.coverage, self.producer, self.kafka.frames_topic)
        return StreamWorker(house, consumer or FrameConsumer(self.kafka, self.settings), self.settings)

    async def publish(self, frames: Sequence[Frame]) -> None:
        for made in frames:
            await self.producer.send(made)

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


class Bench(Desk):
    """The same without a broker: a log in memory, each camera in a partition of its own choice."""

    def __init__(self, folder: Path, partitions: int = 2) -> None:
        super().__init__(broker_settings("memory"), FrameProducer(broker_settings("memory")), folder)
        self.log = MemoryLog(LOG)
        self.letters = Box()
        self._partitions = partitions
        for partition in range(partitions):
            self.log.make(partition)

    def worker(
        self, encoder: SceneEncoder, consumer: Consumer | None = None, backgrounds: Backgrounds | None = None
    ) -> StreamWorker:
        house = House(encoder, self.store, self.thumbnails, self.coverage, self.letters, "frames", backgrounds)
        return StreamWorker(house, consumer or MemoryConsumer(self.log), self.settings)

    async def publish(self, frames: Sequence[Frame]) -> None:
        for made in frames:
            self.append(made.camera.encode(), made.SerializeToString())

    def append(self, key: bytes, value: bytes) -> None:
        self.log.append(sum(key) % self._partitions, key, value, now_ms())


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
