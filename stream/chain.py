"""What happens to a batch of frames, step by step: decode, embed, skip, build, write, finish.

A step changes the batch. To add one, put it into `Chain.steps`. A step that calls another part goes on trying while
that part is away; a frame that can never be processed goes to the dead letters, and the batch moves on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from index.media import Thumbnails
from index.store import LATEST_MS, Ask, MomentStore, Scored
from proto.errors import Invalid, Late, Mismatch, Overloaded, Poison, Transient, WatchwordError
from proto.metrics import DEAD_LETTERS, HOP_SECONDS, MOMENTS_WRITTEN, RETRIES
from proto.types import Vector, camera_name, now_ms
from proto.v1.events_pb2 import DeadLetter, Frame
from stream.app import Record
from stream.moments import MomentBuilder, Seen, Write
from stream.settings import StreamSettings
from workers.client import Encoder

log = logging.getLogger("watchword.stream")

Got = TypeVar("Got")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


class Mark(NamedTuple):
    """Where a frame came from."""

    partition: int
    offset: int


@dataclass(slots=True, eq=False)
class Item:
    """One record on its way."""

    record: Record
    frame: Frame | None = None
    vector: Vector | None = None

    @property
    def mark(self) -> Mark:
        return Mark(self.record.partition, self.record.offset)


@dataclass(slots=True, eq=False)
class Batch:
    """Frames of any cameras, in the order in which they were taken."""

    items: list[Item]
    writes: list[Write[Mark]] = field(default_factory=list)
    opened: list[Frame] = field(default_factory=list)
    """Frames that began a moment: their way to the index is the freshness that people see."""
    finished: list[Mark] = field(default_factory=list)


class DeadLetters(Protocol):
    """Where records go that can never be processed."""

    async def bury(self, letter: DeadLetter) -> None:
        """Keep the letter. Transient when that is not possible now."""


class Chain:
    """The steps, and the moments that are going on. One per worker; `reset` when the partitions change hands."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        store: MomentStore,
        thumbnails: Thumbnails,
        letters: DeadLetters,
        settings: StreamSettings,
        frames_topic: str,
        finish: Callable[[Mark], None],
    ) -> None:
        self._encoder = encoder
        self._store = store
        self._thumbnails = thumbnails
        self._letters = letters
        self._settings = settings
        self._frames_topic = frames_topic
        self._finish_mark = finish
        self._builders: dict[tuple[int, str], MomentBuilder[Mark]] = {}
        self._at_rest_until: dict[str, int] = {}
        self._held_s = 0.0
        self._thumbnails_fail = False
        self.moved_s = time.monotonic()
        """When a step was last finished or tried again: a watchdog looks at it."""
        self.steps: tuple[Callable[[Batch], Awaitable[None]], ...] = (
            self._decode,
            self._embed,
            self._skip_what_rests,
            self._build,
            self._write,
            self._finish,
        )

    def reset(self) -> None:
        """Forget the open moments: their frames come again."""
        self._builders.clear()
        self._at_rest_until.clear()

    async def run(self, batch: Batch) -> None:
        """Take a batch through every step."""
        for step in self.steps:
            await step(batch)
            self.moved_s = time.monotonic()

    async def tick(self) -> None:
        """Close the moments of cameras that fell silent. Call only when no frames wait."""
        batch = Batch([])
        for key, builder in list(self._builders.items()):
            batch.writes += builder.tick(self._clock())
            if not builder.is_open:
                del self._builders[key]
        await self._write(batch)
        await self._finish(batch)
        self.moved_s = time.monotonic()

    async def refresh(self) -> None:
        """Store the open moments as they stand, before leaving."""
        batch = Batch([])
        for builder in self._builders.values():
            batch.writes += builder.refresh(self._clock())
        await self._write(batch)

    async def _decode(self, batch: Batch) -> None:
        good = []
        for item in batch.items:
            try:
                item.frame = _frame_of(item.record)
            except Poison as reason:
                await self._bury(batch, item, reason)
            else:
                good.append(item)
        batch.items = good

    async def _embed(self, batch: Batch) -> None:
        if not batch.items:
            return
        pictures = [_frame(item).jpeg for item in batch.items]
        good = []
        for item, found in zip(batch.items, await self._vectors(pictures), strict=True):
            if isinstance(found, Poison):
                await self._bury(batch, item, found)
            else:
                item.vector = found
                good.append(item)
                _observe("embedded", _frame(item))
        batch.items = good

    async def _vectors(self, pictures: Sequence[bytes]) -> list[Vector | Poison]:
        try:
            found = await self._persistently("encoder", lambda: self._encoder.embed_images(pictures))
        except Mismatch:
            raise
        except Invalid as error:
            # The request as a whole was refused. Alone, each picture shows whether it is the one to blame.
            if len(pictures) > 1:
                return [(await self._vectors([picture]))[0] for picture in pictures]
            found = [error if isinstance(error, Poison) else Poison("refused", error.message)]
        return [self._sound(vector) for vector in found]

    def _sound(self, found: Vector | Poison) -> Vector | Poison:
        """The vector at unit length, or why it cannot be stored."""
        if isinstance(found, Poison):
            return found
        if found.shape != (self._store.space.dimension,):
            raise Mismatch(
                f"the encoder sent a vector of shape {found.shape} for space {self._store.space.id}",
                todo="encoder and index must run the same bundle",
            )
        length = float(np.linalg.norm(found))
        if not (np.isfinite(length) and length > 1e-6):
            return Poison("bad_vector", f"the encoder sent a vector of length {length}")
        return found if abs(length - 1.0) < 1e-3 else (found / length).astype(np.float32)

    async def _skip_what_rests(self, batch: Batch) -> None:
        """Drop frames that a replay brings again although their moment was closed and stored.

        The committed offset is that of the oldest open moment of *any* camera of the partition, so a replay can
        begin in the middle of a closed moment of another. To build again from there would store half of it a second
        time, under another id. Therefore the first frame of each camera asks the index, unless it began a moment
        anyway.
        """
        fresh = []
        for item in batch.items:
            frame = _frame(item)
            until = self._at_rest_until.get(frame.camera)
            if until is None:
                until = -1 if frame.after_gap else await self._rests_until(frame, _vector(item))
                self._at_rest_until[frame.camera] = until
            if frame.captured_ms <= until and not frame.after_gap:
                batch.finished.append(item.mark)
            else:
                self._at_rest_until[frame.camera] = -1
                fresh.append(item)
        batch.items = fresh

    async def _rests_until(self, frame: Frame, vector: Vector) -> int:
        """The end of the closed moment that this frame is inside of, but does not begin; -1 when there is none."""
        at = frame.captured_ms
        ask = Ask(vector, limit=100, cameras=frozenset({frame.camera}), start_ms=at, end_ms=at + 1)
        answer = await self._persistently("index", lambda: self._whole_answer(ask))
        spans = [hit.span for hit in answer]
        if any(span.start_ms == at for span in spans):
            return -1
        return max((span.end_ms for span in spans if span.closed), default=-1)

    async def _whole_answer(self, ask: Ask) -> list[Scored]:
        answer = await self._store.search(ask)
        if answer.shards_missing:
            raise Transient(f"shards of the index did not answer: {', '.join(answer.shards_missing)}")
        return answer.hits

    async def _build(self, batch: Batch) -> None:
        now_s = self._clock()
        for item in batch.items:
            frame = _frame(item)
            key = (item.record.partition, frame.camera)
            builder = self._builders.get(key)
            if builder is None:
                builder = MomentBuilder(self._store.space.id, frame.camera, self._settings)
                self._builders[key] = builder
            seen = Seen(item.mark, frame.captured_ms, frame.sequence, frame.after_gap, _vector(item), frame.jpeg)
            writes = builder.add(seen, now_s)
            batch.writes += writes
            if any(write.moment.frames == 1 and not write.moment.closed for write in writes):
                batch.opened.append(frame)

    async def _write(self, batch: Batch) -> None:
        if not batch.writes:
            return
        await asyncio.to_thread(self._put_thumbnails, batch.writes)
        moments = [write.moment for write in batch.writes]
        await self._persistently("index", lambda: self._store.upsert(moments))
        for moment in moments:
            MOMENTS_WRITTEN.labels(state="closed" if moment.closed else "open").inc()
        for frame in batch.opened:
            _observe("written", frame)

    def _put_thumbnails(self, writes: Sequence[Write[Mark]]) -> None:
        for write in writes:
            if write.thumbnail is None:
                continue
            try:
                self._thumbnails.put(write.moment.id, write.thumbnail)
            except WatchwordError as error:
                if not self._thumbnails_fail:
                    log.warning("thumbnails are not kept from now on: %s", error)
                self._thumbnails_fail = True
            else:
                self._thumbnails_fail = False

    async def _finish(self, batch: Batch) -> None:
        for mark in batch.finished:
            self._finish_mark(mark)
        for write in batch.writes:
            for mark in write.finishes:
                self._finish_mark(mark)

    async def _bury(self, batch: Batch, item: Item, reason: Poison) -> None:
        record = item.record
        letter = DeadLetter(
            topic=self._frames_topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason.reason,
            detail=reason.message,
            failed_ms=now_ms(),
            key=record.key,
            value=record.value,
        )
        await self._persistently("broker", lambda: self._letters.bury(letter))
        DEAD_LETTERS.labels(reason=reason.reason).inc()
        batch.finished.append(item.mark)
        log.warning("frame %d of partition %d is given up: %s", record.offset, record.partition, reason)

    async def _persistently(self, part: str, call: Callable[[], Awaitable[Got]]) -> Got:
        """Call until the part is there and has room. Other errors pass."""
        began_s, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                got = await call()
            except (Transient, Overloaded, Late) as error:
                if pause_s == _FIRST_PAUSE_S:
                    log.warning("waiting for the %s: %s", part, error)
                RETRIES.labels(part=part).inc()
                self.moved_s = time.monotonic()
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads load, hides nothing
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                if pause_s > _FIRST_PAUSE_S:
                    self._held_s += time.monotonic() - began_s
                    log.info("the %s is back after %.1f s", part, time.monotonic() - began_s)
                return got

    def _clock(self) -> float:
        """Seconds, without those in which frames were held up: nobody was silent then."""
        return time.monotonic() - self._held_s


def _frame_of(record: Record) -> Frame:
    """The frame in the record. Raises Poison when it is none."""
    frame = Frame()
    try:
        frame.ParseFromString(record.value)
        camera_name(frame.camera)
    except DecodeError as error:
        raise Poison("undecodable", "the record is not a frame") from error
    except Invalid as error:
        raise Poison("bad_frame", error.message) from error
    if not 0 < frame.captured_ms <= LATEST_MS:
        raise Poison("bad_frame", f"{frame.captured_ms} is not a time")
    return frame


def _frame(item: Item) -> Frame:
    assert item.frame is not None
    return item.frame


def _vector(item: Item) -> Vector:
    assert item.vector is not None
    return item.vector


def _observe(hop: str, frame: Frame) -> None:
    HOP_SECONDS.labels(hop=hop).observe(max(0, now_ms() - frame.grabbed_ms) / 1000)
