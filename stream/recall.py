"""What the index already holds of frames that are read again.

After a restart a partition is read from the oldest open moment of *any* of its cameras, so the frames of the others
lie inside moments that were closed long ago, begin in their middle, or belong to moments that were told and not yet
closed. Boundaries that were told are never judged again: vectors of the same picture differ in their last digits, and
a boundary that moved would be a second moment beside the first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from index.store import MOST_HITS, Ask, MomentStore
from proto.errors import Transient
from proto.types import Moment, Span
from stream.moments import Told
from stream.patience import Patience

log = logging.getLogger("watchword.stream")

_AT_ONCE = min(1000, MOST_HITS)
_WINDOW_MS = 3_600_000


@dataclass(frozen=True)
class Known:
    """The moments of one camera, as far as they were asked for. Pure."""

    until_ms: int | None
    """Asked up to here; None when the index holds nothing later."""
    spans: Sequence[Span]

    def reaches(self, at_ms: int) -> bool:
        """Whether it was asked about this time."""
        return self.until_ms is None or at_ms < self.until_ms

    def exhausted(self, at_ms: int) -> bool:
        """Whether nothing can be known of this frame or of a later one."""
        return self.until_ms is None and all(span.end_ms < at_ms for span in self.spans)

    def told(self, at_ms: int) -> Told:
        around = [span for span in self.spans if span.start_ms <= at_ms <= span.end_ms]
        if any(span.closed for span in around):
            return Told.DONE
        if any(span.start_ms == at_ms for span in around):
            return Told.BEGINS
        return Told.WITHIN if around else Told.NOTHING


class Recall:
    """Asks the index once per camera after the partitions changed hands, and not again once a frame is new."""

    def __init__(self, store: MomentStore, patience: Patience) -> None:
        self._store = store
        self._patience = patience
        self._known: dict[str, Known] = {}
        self._new: set[str] = set()
        """Cameras of which nothing later is known."""

    def forget(self) -> None:
        """The partitions change hands: ask again."""
        self._known.clear()
        self._new.clear()

    async def told(self, frames: Sequence[tuple[str, int]]) -> list[Told]:
        """What is known of each frame, given as its camera and its time, in order."""
        answers = [Told.NOTHING] * len(frames)
        by_camera: dict[str, list[int]] = {}
        for number, (camera, _) in enumerate(frames):
            if camera not in self._new:
                by_camera.setdefault(camera, []).append(number)
        # Side by side: a question that sees every upsert takes the index a while, and each camera has one.
        found = await asyncio.gather(
            *(self._of_one(camera, [frames[number][1] for number in own]) for camera, own in by_camera.items())
        )
        for own, told in zip(by_camera.values(), found, strict=True):
            for number, answer in zip(own, told, strict=True):
                answers[number] = answer
        return answers

    async def _of_one(self, camera: str, times: Iterable[int]) -> list[Told]:
        answers = []
        for at_ms in times:
            known = self._known.get(camera)
            if camera not in self._new and (known is None or not known.reaches(at_ms)):
                known = self._known[camera] = await self._ask(camera, at_ms, first=known is None)
            if known is None or known.exhausted(at_ms):
                self._known.pop(camera, None)
                self._new.add(camera)
                answers.append(Told.NOTHING)
            else:
                answers.append(known.told(at_ms))
        return answers

    async def _ask(self, camera: str, at_ms: int, *, first: bool) -> Known:
        """Every moment of the camera from `at_ms` on, or as many hours of them as can be had at once."""
        cameras, until_ms = frozenset({camera}), None
        count = await self._count(cameras, at_ms, until_ms)
        window_ms = _WINDOW_MS
        while count > _AT_ONCE and window_ms >= 1:
            until_ms = at_ms + window_ms
            count = await self._count(cameras, at_ms, until_ms)
            window_ms //= 2
        if not count:
            return Known(until_ms, ())
        moments = await self._patience.call("index", lambda: self._all(cameras, at_ms, until_ms, count))
        return Known(until_ms, await self._without_orphans(moments, at_ms) if first else moments)

    async def _count(self, cameras: frozenset[str], start_ms: int, end_ms: int | None) -> int:
        return await self._patience.call("index", lambda: self._store.count(cameras, start_ms, end_ms))

    async def _all(self, cameras: frozenset[str], start_ms: int, end_ms: int | None, count: int) -> list[Moment]:
        """These moments, as they are now. A search may lag behind, so it only names them."""
        any_vector = np.eye(1, self._store.space.dimension, dtype=np.float32)[0]
        answer = await self._store.search(Ask(any_vector, min(count, MOST_HITS), cameras, start_ms, end_ms))
        if answer.shards_missing:
            raise Transient(f"shards of the index did not answer: {', '.join(answer.shards_missing)}")
        if len(answer.hits) < min(count, MOST_HITS):
            raise Transient("the newest moments cannot be searched yet", todo="they can in a moment")
        return await self._store.fetch([hit.span.id for hit in answer.hits])

    async def _without_orphans(self, moments: Sequence[Moment], at_ms: int) -> Sequence[Moment]:
        """Close moments that no frame will ever close: the broker no longer has the frame that they begin with."""
        orphans = [replace(one, closed=True) for one in moments if one.start_ms < at_ms and not one.closed]
        if not orphans:
            return moments
        log.warning("closed %d moments whose first frames the broker no longer keeps", len(orphans))
        await self._patience.call("index", lambda: self._store.upsert(orphans))
        return [*orphans, *(one for one in moments if one.start_ms >= at_ms or one.closed)]
