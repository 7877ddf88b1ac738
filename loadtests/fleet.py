"""A fleet of simulated cameras that publish real JPEGs and record what the broker acknowledged.

Each camera shows one of eight scenes and changes it after a fixed number of looks, so that the start of every moment
is known. The scenes are plain and small, or real footage. Records that can never be processed are mixed in on request.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from loadtests.ledger import Sent
from proto.types import now_ms
from proto.v1.events_pb2 import Frame

SCENES = 8
SIZE = (36, 64)
AGAIN_S = 0.2
_MOVING_NOVELTY = 0.2
_LEAST_STEP_MS, _MOST_STEP_MS = 1_000, 3_600_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What the fleet does."""

    cameras: int = 20
    step_ms: int = 500
    """Captured time between two looks of a camera."""
    rate: float = 20.0
    """Looks per camera and wall-clock second; 0 is as fast as the broker accepts them."""
    live: bool = False
    """Looks follow the wall clock, each camera at its own phase, and `rate` is ignored. Else they come from a recording
    of an hour ago."""
    scene_looks: int = 0
    """Looks per scene; cameras change scenes at different times. 0: 6 to 12, by camera."""
    clock_steps_every: int = 0
    """Every this many looks a camera's clock steps, to up to an hour before or after the true time."""
    moving: int = 0
    """How many looks of each scene differ from the previous one; the others are not sent, as with the novelty gate. 0:
    all are sent."""
    name: str = "cam"
    """Prefix of the cameras' names. Fleets that share an index need different ones."""
    poison_every: int = 0
    """After every this many frames of a camera comes a record that can never be processed."""
    oversize_bytes: int = 0
    """Size of each camera's tenth picture, more than the encoder accepts."""

    @property
    def kept_a_second(self) -> float:
        """Frames a second that a live fleet publishes."""
        shares = [min(1.0, self.moving / self._lasts(camera)) if self.moving else 1.0 for camera in range(self.cameras)]
        return sum(shares) * 1000 / self.step_ms

    def scene(self, camera: int, number: int) -> int:
        """The scene of camera number `camera` at its look `number`."""
        return ((number + self._phase(camera)) // self._lasts(camera) + camera) % SCENES

    def age(self, camera: int, number: int) -> int:
        """How many looks of this scene came before."""
        return (number + self._phase(camera)) % self._lasts(camera)

    def begins_scene(self, camera: int, number: int) -> bool:
        return self.age(camera, number) == 0

    def keeps(self, camera: int, number: int) -> bool:
        """Whether this look is sent."""
        return not self.moving or self.age(camera, number) < self.moving

    def _lasts(self, camera: int) -> int:
        return self.scene_looks or 6 + camera % 7

    def _phase(self, camera: int) -> int:
        return camera % self.scene_looks if self.scene_looks else 0


def picture(scene: int) -> bytes:
    """A JPEG whose mean colour encodes the scene: each bit of its number is a dark or bright channel."""
    colour = [225 if scene >> bit & 1 else 30 for bit in range(3)]
    noise = np.random.default_rng(scene).integers(-20, 21, (*SIZE, 1))
    pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=85))


def scene_of(jpeg: bytes) -> int:
    """The scene encoded by `picture`. ValueError when it is not a JPEG."""
    mean = simplejpeg.decode_jpeg(jpeg).reshape(-1, 3).mean(axis=0)
    return sum(1 << bit for bit in range(3) if mean[bit] > 127)


class Fleet:
    """Publishes the frames of every camera, each camera in order with one frame in flight.

    Like a camera, it resends a frame until the broker acknowledges it.
    """

    def __init__(
        self,
        brokers: str,
        topic: str,
        plan: Plan,
        *,
        scenes: Sequence[Sequence[bytes]] = (),
        idempotent: bool = True,
        taken: Callable[[Frame, Sent], None] = lambda _frame, _sent: None,
    ) -> None:
        """`taken` is called with every record that the broker acknowledged."""
        self._plan = plan
        self._topic = topic
        self._brokers, self._idempotent = brokers, idempotent
        self._producer: Any = None
        self._changing = asyncio.Lock()
        self._scenes = scenes or [[picture(scene)] for scene in range(SCENES)]
        self._taken = taken
        self._run = now_ms()
        self._begin_ms = self._run - 3_600_000
        self._clock_ms = [0] * plan.cameras
        self._next = [0] * plan.cameras
        self._published = [0] * plan.cameras
        self.active = plan.cameras
        """How many cameras are switched on."""
        self.sent: list[Sent] = []
        self.unsure = 0
        """How many sends got no answer: their records may be in the topic or not."""
        self.clock_steps = 0

    @property
    def cameras(self) -> frozenset[str]:
        """Their names."""
        return frozenset(self._name(camera) for camera in range(self._plan.cameras))

    @property
    def plan(self) -> Plan:
        return self._plan

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish inside the block. On exit every frame that was started is acknowledged."""
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
        """Publish this many frames of every camera."""
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
        """Replace a failed producer: aiokafka's idempotent one numbers batches that never arrived, so the broker
        refuses everything it sends afterwards."""
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
                pause = (self._true_ms(camera, number) - now_ms()) / 1000
            else:
                pause = begun + count / rate - time.monotonic() if rate else 0.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause, 0.0)):
                    await leaving.wait()
            if leaving.is_set() and count:
                return
            self._step_clock(camera)
            if camera < self.active and self._plan.keeps(camera, number):
                for frame, poison in self._records(camera, number):
                    await self._send(frame, poison=poison)
                self._published[camera] += 1
            self._next[camera] += 1

    def _step_clock(self, camera: int) -> None:
        every = self._plan.clock_steps_every
        if every and random.random() < 1 / every:
            size_ms = math.exp(random.uniform(math.log(_LEAST_STEP_MS), math.log(_MOST_STEP_MS)))
            self._clock_ms[camera] = round(random.choice((-1, 1)) * size_ms)
            self.clock_steps += 1

    def _captured_ms(self, camera: int, number: int) -> int:
        """The time of this look by the camera's clock."""
        return self._true_ms(camera, number) + self._clock_ms[camera]

    def _true_ms(self, camera: int, number: int) -> int:
        phase_ms = camera * self._plan.step_ms // self._plan.cameras if self._plan.live else 0
        return self._begin_ms + number * self._plan.step_ms + phase_ms

    def _records(self, camera: int, number: int) -> Iterator[tuple[Frame, bytes | None]]:
        """The frames of one look. If a frame comes with bytes, these are sent in its place: poison."""
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
            recorded=not plan.live,
            run=self._run,
        )
        if number and not plan.keeps(camera, number - 1):
            frame.same_ms = self._captured_ms(camera, number - 1)
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
        """Five invalid frames: not protobuf, not a JPEG, a picture that ends in its header, a camera without a name, a
        time in the future."""
        broken = Frame()
        broken.CopyFrom(frame)
        match kind % 5:
            case 0:
                return b"\xff\xff\xff\xffnot a frame"
            case 1:
                broken.jpeg = b"not a picture"
            case 2:
                broken.jpeg = frame.jpeg[:20]
            case 3:
                broken.camera = ""
            case _:
                broken.captured_ms = now_ms() + 2 * 86_400_000
        return broken.SerializeToString()

    async def _send(self, frame: Frame, *, poison: bytes | None) -> None:
        # A live picture that is sent late counts as late, whatever the cause.
        late = self._plan.live and not self._plan.clock_steps_every
        frame.grabbed_ms = frame.captured_ms if late else now_ms()
        while True:
            frame.published_ms = now_ms()
            value = frame.SerializeToString() if poison is None else poison
            producer = self._producer
            try:
                done = await producer.send_and_wait(self._topic, value, key=frame.camera.encode())
            except (KafkaError, OSError):
                self.unsure += 1
                await asyncio.sleep(AGAIN_S)
                with contextlib.suppress(KafkaError, OSError):
                    await self._reconnect(producer)
                continue
            place, opens = (done.partition, done.offset), frame.novelty == 1 and poison is None
            sent = Sent(place, frame.camera, frame.captured_ms, frame.sequence, opens, poison is not None)
            self.sent.append(sent)
            self._taken(frame, sent)
            return

    def _name(self, camera: int) -> str:
        return f"{self._plan.name}-{camera:02d}"
