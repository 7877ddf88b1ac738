"""A fleet of made-up cameras that publish real JPEGs, and remember what the broker acknowledged.

Each camera shows one of eight scenes and changes it after a fixed number of looks, so that it is known where every
moment begins. The scenes are plain and small, or real footage. Records that can never be processed are mixed in on
request.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from broker.settings import KafkaSettings
from loadtests.ledger import Sent
from proto.types import now_ms
from proto.v1.events_pb2 import DeadLetter, Frame

SCENES = 8
SIZE = (36, 64)
AGAIN_S = 0.2
_MOVING_NOVELTY = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """What the fleet does."""

    cameras: int = 20
    step_ms: int = 500
    """Between two looks of a camera, by their own time."""
    rate: float = 20.0
    """Looks a second and camera by the clock; 0 is as fast as the broker takes them."""
    live: bool = False
    """Looks are taken as the clock goes, each camera at its own phase; `rate` does not count. Else they are of an
    hour ago."""
    moving: int = 0
    """So many looks of each scene differ from the one before; the others are not sent, as the novelty gate would have
    it. 0: all are sent."""
    name: str = "cam"
    """What the cameras' names begin with: fleets that share an index need different ones."""
    poison_every: int = 0
    """Every so many frames of a camera one record follows that can never be processed."""
    oversize_bytes: int = 0
    """The tenth picture of each camera has so many bytes, more than the encoder takes."""

    @property
    def kept_a_second(self) -> float:
        """Frames a second that a live fleet publishes."""
        shares = [min(1.0, self.moving / _lasts(camera)) if self.moving else 1.0 for camera in range(self.cameras)]
        return sum(shares) * 1000 / self.step_ms

    def scene(self, camera: int, number: int) -> int:
        """What camera number `camera` shows at its look `number`: a scene lasts 6 to 12 looks."""
        return (number // _lasts(camera) + camera) % SCENES

    def age(self, camera: int, number: int) -> int:
        """How many looks there were of this scene before."""
        return number % _lasts(camera)

    def begins_scene(self, camera: int, number: int) -> bool:
        return self.age(camera, number) == 0

    def keeps(self, camera: int, number: int) -> bool:
        """Whether this look is sent."""
        return not self.moving or self.age(camera, number) < self.moving


def _lasts(camera: int) -> int:
    return 6 + camera % 7


def picture(scene: int) -> bytes:
    """A JPEG whose mean colour tells the scene: each bit of its number is one dark or bright channel."""
    colour = [225 if scene >> bit & 1 else 30 for bit in range(3)]
    noise = np.random.default_rng(scene).integers(-20, 21, (*SIZE, 1))
    pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=85))


def scene_of(jpeg: bytes) -> int:
    """The scene that `picture` painted. ValueError when it is no JPEG."""
    mean = simplejpeg.decode_jpeg(jpeg).reshape(-1, 3).mean(axis=0)
    return sum(1 << bit for bit in range(3) if mean[bit] > 127)


class Fleet:
    """Publishes frames of every camera, each camera in order, one frame under way per camera.

    A frame that the broker did not acknowledge is sent again until it is, as a camera would.
    """

    def __init__(
        self,
        brokers: str,
        topic: str,
        plan: Plan,
        *,
        scenes: Sequence[Sequence[bytes]] = (),
        idempotent: bool = True,
    ) -> None:
        self._plan = plan
        self._topic = topic
        self._brokers, self._idempotent = brokers, idempotent
        self._producer: Any = None
        self._changing = asyncio.Lock()
        self._scenes = scenes or [[picture(scene)] for scene in range(SCENES)]
        self._begin_ms = now_ms() - 3_600_000
        self._next = [0] * plan.cameras
        self._published = [0] * plan.cameras
        self.active = plan.cameras
        """So many cameras are switched on."""
        self.sent: list[Sent] = []
        self.unsure: set[tuple[str, int]] = set()
        self.scene_starts: dict[str, set[int]] = defaultdict(set)

    @property
    def starts(self) -> dict[str, set[int]]:
        """Every time at which a moment could begin, by camera."""
        times: dict[str, set[int]] = {self._name(camera): set() for camera in range(self._plan.cameras)}
        for frame in self.sent:
            times[frame.camera].add(frame.captured_ms)
        for camera, time_ms in self.unsure:
            times[camera].add(time_ms)
        return times

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish while inside; every frame that was begun is acknowledged before it ends."""
        leaving = asyncio.Event()
        async with self._connected():
            tasks = [asyncio.create_task(self._film(camera, leaving)) for camera in range(self._plan.cameras)]
            try:
                yield
                leaving.set()
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(self, frames: int) -> None:
        """Publish so many frames of every camera."""
        never = asyncio.Event()
        async with self._connected():
            await asyncio.gather(*(self._film(camera, never, frames) for camera in range(self._plan.cameras)))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        self._producer = await self._new_producer()
        if self._plan.live and not self.sent:
            self._begin_ms = now_ms()
        try:
            yield
        finally:
            await self._producer.stop()

    async def _new_producer(self) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._brokers,
            acks="all",
            enable_idempotence=self._idempotent,
            max_request_size=8 * 1024 * 1024,
            request_timeout_ms=5_000,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _reconnect(self, failed: Any) -> None:
        """Replace a producer that failed: aiokafka's idempotent one counts batches that never arrived, and the broker
        refuses whatever it sends from then on."""
        async with self._changing:
            if self._producer is failed:
                fresh = await self._new_producer()
                self._producer = fresh
                await failed.stop()

    async def _film(self, camera: int, leaving: asyncio.Event, frames: int | None = None) -> None:
        begun, rate = time.monotonic(), self._plan.rate
        for count in itertools.count() if frames is None else range(frames):
            number = self._next[camera]
            if self._plan.live:
                pause = (self._captured_ms(camera, number) - now_ms()) / 1000
            else:
                pause = begun + count / rate - time.monotonic() if rate else 0.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause, 0.0)):
                    await leaving.wait()
            if leaving.is_set() and count:
                return
            if camera < self.active and self._plan.keeps(camera, number):
                for frame, poison in self._records(camera, number):
                    await self._send(frame, poison=poison)
                self._published[camera] += 1
            self._next[camera] += 1

    def _captured_ms(self, camera: int, number: int) -> int:
        phase_ms = camera * self._plan.step_ms // self._plan.cameras if self._plan.live else 0
        return self._begin_ms + number * self._plan.step_ms + phase_ms

    def _records(self, camera: int, number: int) -> Iterator[tuple[Frame, bytes | None]]:
        """The frames of one look; with bytes, those are sent in place of the frame: poison."""
        plan = self._plan
        pictures = self._scenes[plan.scene(camera, number)]
        begins = plan.begins_scene(camera, number)
        frame = Frame(
            camera=self._name(camera),
            captured_ms=self._captured_ms(camera, number),
            jpeg=pictures[plan.age(camera, number) % len(pictures)],
            novelty=1.0 if begins else _MOVING_NOVELTY if plan.moving else 0.0,
            after_gap=self._published[camera] == 0,
            sequence=self._published[camera],
        )
        if number and not plan.keeps(camera, number - 1):
            frame.same_ms = self._captured_ms(camera, number - 1)
        if begins:
            self.scene_starts[frame.camera].add(frame.captured_ms)
        yield frame, None
        between = Frame()
        between.CopyFrom(frame)
        between.captured_ms += plan.step_ms // 2
        if plan.poison_every and number % plan.poison_every == plan.poison_every - 1:
            yield between, self._poison(between, number // plan.poison_every + camera)
        if plan.oversize_bytes and number == 9:
            between.jpeg = frame.jpeg + bytes(plan.oversize_bytes - len(frame.jpeg))
            yield between, between.SerializeToString()

    @staticmethod
    def _poison(frame: Frame, kind: int) -> bytes:
        """Four ways to be no frame: not protobuf, no JPEG, a picture that stops in its header, a nameless camera."""
        broken = Frame()
        broken.CopyFrom(frame)
        match kind % 4:
            case 0:
                return b"\xff\xff\xff\xffnot a frame"
            case 1:
                broken.jpeg = b"not a picture"
            case 2:
                broken.jpeg = frame.jpeg[:20]
            case _:
                broken.camera = ""
        return broken.SerializeToString()

    async def _send(self, frame: Frame, *, poison: bytes | None) -> None:
        # A live picture that is sent late is late, whoever was slow.
        frame.grabbed_ms = frame.captured_ms if self._plan.live else now_ms()
        while True:
            frame.published_ms = now_ms()
            value = frame.SerializeToString() if poison is None else poison
            producer = self._producer
            try:
                done = await producer.send_and_wait(self._topic, value, key=frame.camera.encode())
            except (KafkaError, OSError):
                if poison is None:
                    self.unsure.add((frame.camera, frame.captured_ms))
                await asyncio.sleep(AGAIN_S)
                with contextlib.suppress(KafkaError, OSError):
                    await self._reconnect(producer)
                continue
            origin = (self._topic, done.partition, done.offset)
            self.sent.append(Sent(origin, frame.camera, frame.captured_ms, frame.sequence, poison is not None))
            return

    def _name(self, camera: int) -> str:
        return f"{self._plan.name}-{camera:02d}"


async def lag(kafka: KafkaSettings, sent: Iterable[Sent]) -> int:
    """How many offsets up to the last frame that was sent the group has not yet committed."""
    # Not the broker's end offsets: the embedded one tells the beginning of its last batch.
    ends: dict[int, int] = defaultdict(int)
    for frame in sent:
        _, partition, offset = frame.origin
        ends[partition] = max(ends[partition], offset + 1)
    async with _looking(kafka.brokers, group=kafka.group) as consumer:
        committed = {
            number: await consumer.committed(TopicPartition(kafka.frames_topic, number)) or 0 for number in ends
        }
    return sum(max(0, end - max(0, committed[number])) for number, end in ends.items())


async def until_drained(kafka: KafkaSettings, sent: Iterable[Sent], within_s: float) -> int:
    """Wait until everything that was sent is committed; the lag that is left at the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            left = await lag(kafka, sent)
        except (KafkaError, OSError):
            left = -1
        if left == 0 or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.5)


async def rewind(kafka: KafkaSettings) -> None:
    """Make the group begin at the first record again. The group must have no members."""
    async with _looking(kafka.brokers, group=kafka.group) as consumer:
        places = await _partitions(consumer, kafka.frames_topic)
        consumer.assign(places)
        await consumer.commit(await consumer.beginning_offsets(places))


async def dead_letters(kafka: KafkaSettings) -> list[DeadLetter]:
    """Every dead letter, in order."""
    async with _looking(kafka.brokers) as consumer:
        places = await _partitions(consumer, kafka.dead_letters_topic)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        letters = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                letters += [DeadLetter.FromString(record.value) for record in records]
        return letters


@asynccontextmanager
async def _looking(brokers: str, *, group: str | None = None) -> AsyncIterator[Any]:
    """A consumer that joins no group; with `group`, it can ask for and set that group's offsets."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        group_id=group,
        enable_auto_commit=False,
        max_partition_fetch_bytes=16 * 1024 * 1024,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    # The consumer knows only topics that it was told of; asking for one fetches its metadata.
    consumer._client.add_topic(topic)
    await consumer._client.force_metadata_update()
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
