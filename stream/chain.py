"""What happens to a batch of frames, step by step: decode, recall, skip, embed, build, write, finish.

A step changes the batch. To add one, put it into `Chain.before` or `Chain.after`, as seen from the embedding. A step
that calls another part goes on trying while that part is away; a frame that can never be processed goes to the dead
letters, and the batch moves on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import DecodeError
from prometheus_client import Histogram

from catalog.media import Thumbnails
from catalog.skips import Skips
from index.store import LATEST_MS, MomentStore
from proto.errors import Invalid, Poison, WatchwordError
from proto.metrics import HOP_SECONDS, MOMENTS_WRITTEN
from proto.types import Moment, Vector, camera_name, now_ms
from proto.v1.events_pb2 import Frame
from stream.app import Record
from stream.embedding import Embedding
from stream.letters import DeadLetters, Letters
from stream.moments import MomentBuilder, Seen, Told, Write
from stream.patience import Patience
from stream.recall import Recall
from stream.settings import StreamSettings
from stream.visibility import Visibility
from workers.client import Encoder

log = logging.getLogger("watchword.stream")

_CONSUMED, _EMBEDDED, _WRITTEN = (HOP_SECONDS.labels(hop=hop) for hop in ("consumed", "embedded", "written"))


class Mark(NamedTuple):
    """Where a frame came from."""

    partition: int
    offset: int


@dataclass(slots=True, eq=False)
class Item:
    """One record on its way."""

    record: Record
    frame: Frame | None = None
    jpeg: bytes = b""
    """The frame's picture: reading it from there copies it each time."""
    vector: Vector | None = None
    told: Told = Told.NOTHING
    skipped: bool = False

    @property
    def mark(self) -> Mark:
        return Mark(self.record.partition, self.record.offset)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to do with it."""
        return self.skipped or self.told is Told.DONE


@dataclass(slots=True, eq=False)
class Batch:
    """Frames of any cameras, in the order in which they were taken."""

    items: list[Item]
    writes: list[Write[Mark]] = field(default_factory=list)
    opened: list[tuple[Frame, Moment]] = field(default_factory=list)
    """Frames that began a moment, with it: their way to the index is the freshness that people see."""
    finished: list[Mark] = field(default_factory=list)


Step = Callable[[Batch], Awaitable[None]]


class Chain:
    """The steps, and the moments that are going on. One per worker; `reset` when the partitions change hands."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        store: MomentStore,
        thumbnails: Thumbnails,
        skips: Skips,
        letters: DeadLetters,
        settings: StreamSettings,
        frames_topic: str,
        finish: Callable[[Sequence[Mark]], None],
    ) -> None:
        self._store = store
        self._thumbnails = thumbnails
        self._skips = skips
        self._settings = settings
        self._finish_marks = finish
        self.patience = Patience()
        self._letters = Letters(letters, frames_topic, settings.letters_per_minute, self.patience)
        self._embedding = Embedding(encoder, store, self.patience, settings.refusals)
        self._recall = Recall(store, self.patience)
        self._visibility = Visibility(store)
        self._builders: dict[tuple[int, str], MomentBuilder[Mark]] = {}
        self._thumbnails_fail = False
        self.before: tuple[Step, ...] = (self._decode, self._recall_told, self._skip_old)
        self.after: tuple[Step, ...] = (self._build, self._write, self._finish)

    def reset(self) -> None:
        """Forget the open moments: their frames come again."""
        self._builders.clear()
        self._recall.forget()

    async def prepare(self, batch: Batch) -> None:
        """The steps before the embedding. Batches take them one after another, in order."""
        await self._take(batch, self.before)

    async def embed(self, batch: Batch) -> None:
        """Give every frame its vector. Knows nothing of other batches, so two may do it at once."""
        await self._take(batch, (self._embed,))

    async def settle(self, batch: Batch) -> None:
        """The steps after the embedding. Batches take them one after another, in order."""
        await self._take(batch, self.after)

    async def _take(self, batch: Batch, steps: Sequence[Step]) -> None:
        for step in steps:
            await step(batch)
            self.patience.moved()

    async def tick(self, at_s: float) -> None:
        """Close the moments of cameras that had been silent for long at `at_s`, when no frames waited.

        The time is that of `patience.clock`.
        """
        batch = Batch([])
        for key, builder in list(self._builders.items()):
            batch.writes += builder.tick(at_s)
            if not builder.is_open:
                del self._builders[key]
        await self._write(batch)
        await self._finish(batch)
        self.patience.moved()

    async def refresh(self) -> None:
        """Store the open moments as they stand, before leaving."""
        batch = Batch([])
        for builder in self._builders.values():
            batch.writes += builder.refresh(self.patience.clock())
        await self._write(batch)

    async def close(self) -> None:
        """End what goes on beside the frames."""
        await self._visibility.close()

    async def _decode(self, batch: Batch) -> None:
        good = []
        for item in batch.items:
            try:
                item.frame = _frame_of(item.record)
            except Poison as reason:
                await self._bury(batch, item, reason)
            else:
                item.jpeg = item.frame.jpeg
                _observe(_CONSUMED, item.frame)
                good.append(item)
        batch.items = good

    async def _recall_told(self, batch: Batch) -> None:
        frames = [(_frame(item).camera, _frame(item).captured_ms) for item in batch.items]
        for item, told in zip(batch.items, await self._recall.told(frames), strict=True):
            item.told = told

    async def _skip_old(self, batch: Batch) -> None:
        """Pass over frames that are too old, when only the newest are wanted. What was begun is finished."""
        if self._settings.catch_up == "all":
            return
        oldest_ms = now_ms() - self._settings.behind_s * 1000
        runs: list[tuple[int, int, int]] = []
        for item in sorted(batch.items, key=lambda item: item.mark):
            published_ms = _frame(item).published_ms
            item.skipped = item.told is Told.NOTHING and 0 < published_ms < oldest_ms
            if item.skipped:
                partition, offset = item.mark
                if runs and runs[-1][0] == partition and runs[-1][2] == offset - 1:
                    runs[-1] = (partition, runs[-1][1], offset)
                else:
                    runs.append((partition, offset, offset))
        if runs:
            await asyncio.to_thread(self._note_skipped, [item for item in batch.items if item.skipped])
        for partition, first, last in runs:
            await self._letters.declare_skipped(partition, first, last, self._settings.behind_s)

    def _note_skipped(self, items: Sequence[Item]) -> None:
        """For the coverage of answers. A disk that refuses holds no frames up: the letters declare them too."""
        cameras: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for item in items:
            cameras[_frame(item).camera].append((item.mark.offset, _frame(item).captured_ms))
        for camera, frames in cameras.items():
            try:
                self._skips.note(camera, frames)
            except WatchwordError as error:
                log.warning(
                    "answers will not tell of %d frames of %s that were skipped: %s", len(frames), camera, error
                )

    async def _embed(self, batch: Batch) -> None:
        asked = [item for item in batch.items if not item.is_over]
        if not asked:
            return
        buried = set()
        for item, found in zip(asked, await self._embedding.vectors([one.jpeg for one in asked]), strict=True):
            if isinstance(found, Poison):
                await self._bury(batch, item, found)
                buried.add(item.mark)
            else:
                item.vector = found
                _observe(_EMBEDDED, _frame(item))
        batch.items = [item for item in batch.items if item.mark not in buried]

    async def _build(self, batch: Batch) -> None:
        now_s = self.patience.clock()
        for item in batch.items:
            frame = _frame(item)
            key = (item.record.partition, frame.camera)
            builder = self._builders.get(key)
            if item.is_over:
                # Nothing of it goes into a moment, so no moment reaches across it.
                batch.writes += builder.close() if builder else []
                batch.finished.append(item.mark)
                continue
            if builder is None:
                builder = self._builders[key] = MomentBuilder(self._store.space.id, frame.camera, self._settings)
            writes = builder.add(_seen(item), now_s)
            batch.writes += writes
            batch.opened += [(frame, write.moment) for write in writes if write.begins]

    async def _write(self, batch: Batch) -> None:
        if not batch.writes:
            return
        await asyncio.to_thread(self._put_thumbnails, batch.writes)
        moments = [write.moment for write in batch.writes]
        await self.patience.call("index", lambda: self._store.upsert(moments))
        for moment in moments:
            MOMENTS_WRITTEN.labels(state="closed" if moment.closed else "open").inc()
        for frame, moment in batch.opened:
            _observe(_WRITTEN, frame)
            self._visibility.watch(moment, frame.grabbed_ms)

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
        self._finish_marks([*batch.finished, *(mark for write in batch.writes for mark in write.finishes)])

    async def _bury(self, batch: Batch, item: Item, reason: Poison) -> None:
        await self._letters.bury(item.record, reason)
        batch.finished.append(item.mark)


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
    if not (0 <= frame.novelty <= 1 and 0 <= frame.usual <= 1):
        raise Poison("bad_frame", f"a novelty of {frame.novelty} and usually {frame.usual} are no shares")
    return frame


def _frame(item: Item) -> Frame:
    assert item.frame is not None
    return item.frame


def _seen(item: Item) -> Seen[Mark]:
    frame = _frame(item)
    assert item.vector is not None
    return Seen(
        mark=item.mark,
        captured_ms=frame.captured_ms,
        sequence=frame.sequence,
        after_gap=frame.after_gap,
        vector=item.vector,
        jpeg=item.jpeg,
        novelty=frame.novelty,
        usual=frame.usual,
        same_ms=frame.same_ms,
        told=item.told,
    )


def _observe(hop: Histogram, frame: Frame) -> None:
    hop.observe(max(0, now_ms() - frame.grabbed_ms) / 1000)
