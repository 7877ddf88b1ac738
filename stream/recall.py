"""What the index already holds of frames that are read again. A frame is known by its offset alone.

After a restart a partition is read from the oldest open moment of *any* of its cameras, so the frames of the others lie
inside moments that were closed long ago, or inside moments that were told and not yet closed. What was told is never
judged again: vectors of the same picture differ in their last digits, and a boundary that moved would be a second
moment beside the first.

Frames from the end of the log on, as it was when the group gave out the partition, were read by nobody: they are new
without asking. The index is asked by time, since a moment lies in the bucket of its start; what comes back is told
apart by log, partition and offset.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from catalog.coverage import Gap
from index.store import LATEST_MS, MomentStore
from proto.errors import Late, Overloaded, Transient, WatchwordError
from proto.types import Moment
from stream.consumer import Mark
from stream.frames import NEW, OVER, PASSED, Arrived, Inside, Known, Recalled
from stream.resume import Reached, closed_text, reached_by

log = logging.getLogger("watchword.stream")

_AHEAD_MS = 600_000
"""So far beyond the frames at hand a question reaches, so that few are asked."""
_BACK_MS = 2 * 3_600_000
"""So far back the first question about a camera looks for moments that were left open."""
_TOGETHER_MS = 3_600_000
"""Cameras whose times are closer than this share a question."""


@dataclass(slots=True)
class _Camera:
    """What is known of one camera in one partition."""

    asked_from_ms: int = LATEST_MS
    asked_until_ms: int = 0
    moments: dict[str, Moment] = field(default_factory=dict)

    def asked(self, at_ms: int) -> bool:
        return self.asked_from_ms <= at_ms < self.asked_until_ms


@dataclass(slots=True)
class Memory:
    """What the index remembers of some frames."""

    recalled: list[Recalled] = field(default_factory=list)
    """In the order in which they came."""
    unknown: list[Arrived] = field(default_factory=list)
    """Frames that may have been told, of cameras whose shard does not answer: to be asked about again."""
    left_open: list[Moment] = field(default_factory=list)
    """Moments of their cameras that nobody will go on with, closed."""
    reached: dict[tuple[int, str], Reached] = field(default_factory=dict)
    """Of cameras that are met: the latest frame before these that is in a moment."""
    why: WatchwordError | None = None


class Recall:
    """What was told of the frames of one assignment. Dropped with it."""

    def __init__(self, store: MomentStore, log_id: str, ends: Mapping[int, int], passed: Iterable[Gap]) -> None:
        self._store = store
        self._log = log_id
        self._ends = ends
        self._cameras: dict[tuple[int, str], _Camera] = {}
        self._passed: dict[tuple[int, str], list[Gap]] = defaultdict(list)
        for gap in passed:
            self._passed[gap.partition, gap.camera].append(gap)

    async def of(self, frames: Sequence[Arrived]) -> Memory:
        """What is known of these frames. What cannot be known now, since a shard is away, is told as `unknown`."""
        asked = self._to_ask(frames)
        if not asked:
            return Memory([Recalled(one, self._known(one)) for one in frames])
        met = [key for key in asked if key not in self._cameras]
        by_shard: dict[str, dict[tuple[int, str], tuple[int, int]]] = defaultdict(dict)
        for key, times in asked.items():
            by_shard[self._store.shard_of(key[1])][key] = times
        # Side by side, and each shard for itself: one that is away holds up only its own cameras.
        failures = await asyncio.gather(*(self._ask_shard(wanted) for wanted in by_shard.values()))
        away = {key for wanted, failed in zip(by_shard.values(), failures, strict=True) if failed for key in wanted}
        memory = Memory(why=next((failed for failed in failures if failed), None))
        stuck: set[tuple[int, str]] = set()
        for one in frames:
            key = one.key
            if key in stuck or (key in away and not self._is_new(one.mark)):
                stuck.add(key)
                memory.unknown.append(one)
            else:
                memory.recalled.append(Recalled(one, self._known(one)))
        for key in met:
            if key not in away:
                first = min(one.record.offset for one in frames if one.key == key)
                memory.left_open += self._left_open(key, first)
                memory.reached[key] = self._reached(key, first)
        return memory

    def _to_ask(self, frames: Sequence[Arrived]) -> dict[tuple[int, str], tuple[int, int]]:
        """The time to ask about, by partition and camera: of new cameras, and of frames that may have been told."""
        wanted: dict[tuple[int, str], tuple[int, int]] = {}
        for one in frames:
            known, is_new, at_ms = self._cameras.get(key := one.key), self._is_new(one.mark), one.frame.captured_ms
            if known is not None and (is_new or known.asked(at_ms)):
                continue
            back_ms = 0 if known else _BACK_MS
            ahead_ms = 1 if is_new else _AHEAD_MS
            first, last = wanted.get(key, (LATEST_MS, 0))
            wanted[key] = min(first, max(0, at_ms - back_ms)), max(last, min(LATEST_MS, at_ms + ahead_ms))
        return wanted

    async def _ask_shard(self, wanted: Mapping[tuple[int, str], tuple[int, int]]) -> WatchwordError | None:
        """Ask about cameras of one shard; the error when it does not answer."""
        try:
            for start_ms, end_ms, group in _questions(wanted):
                await self._ask(start_ms, end_ms, group)
        except (Transient, Overloaded, Late) as error:
            return error
        return None

    async def _ask(self, start_ms: int, end_ms: int, group: Sequence[tuple[int, str]]) -> None:
        moments = await self._store.between(frozenset(camera for _, camera in group), start_ms, end_ms)
        for partition, camera in group:
            known = self._cameras.setdefault((partition, camera), _Camera())
            if known.asked(start_ms) or known.asked(end_ms):
                known.asked_from_ms = min(known.asked_from_ms, start_ms)
                known.asked_until_ms = max(known.asked_until_ms, end_ms)
            else:
                known.asked_from_ms, known.asked_until_ms = start_ms, end_ms
            known.moments |= {one.id: one for one in moments if one.camera == camera and self._is_ours(one, partition)}

    def _is_ours(self, moment: Moment, partition: int) -> bool:
        """One of another log was left by a topic that is no more. One of another partition is somebody else's."""
        return moment.log != self._log or moment.partition == partition

    def _is_new(self, mark: Mark) -> bool:
        return mark.offset >= self._ends.get(mark.partition, 0)

    def _known(self, one: Arrived) -> Known:
        if self._is_new(one.mark):
            return NEW
        key, offset = one.key, one.mark.offset
        gaps = self._passed.get(key)
        if gaps and any(gap.first_offset <= offset <= gap.last_offset for gap in gaps):
            return PASSED
        for moment in self._cameras[key].moments.values():
            if moment.log == self._log and moment.first_offset <= offset <= moment.last_offset:
                return OVER if moment.closed else Inside(moment)
        return NEW

    def _reached(self, key: tuple[int, str], first: int) -> Reached:
        before = [
            one for one in self._cameras[key].moments.values() if one.log == self._log and one.last_offset < first
        ]
        last = max(before, key=lambda one: one.last_offset, default=None)
        return reached_by(last.resume) if last else Reached()

    def _left_open(self, key: tuple[int, str], first: int) -> list[Moment]:
        """Open moments, closed, of which no frame is left to read: the broker dropped them, or the topic is new."""
        known = self._cameras[key]
        left = [
            replace(one, closed=True, resume=closed_text(reached_by(one.resume)))
            for one in known.moments.values()
            if not one.closed and (one.log != self._log or one.last_offset < first)
        ]
        if left:
            log.warning("closed %d moments of %s whose frames the broker no longer keeps", len(left), key[1])
            known.moments |= {one.id: one for one in left}
        return left


def _questions(
    wanted: Mapping[tuple[int, str], tuple[int, int]],
) -> list[tuple[int, int, list[tuple[int, str]]]]:
    """As few as can be, without asking one camera about years since another one's recording is old."""
    questions: list[tuple[int, int, list[tuple[int, str]]]] = []
    for key, (first, last) in sorted(wanted.items(), key=lambda entry: entry[1]):
        if questions and first - questions[-1][0] <= _TOGETHER_MS:
            start_ms, end_ms, group = questions[-1]
            questions[-1] = (start_ms, max(end_ms, last), [*group, key])
        else:
            questions.append((first, last, [key]))
    return questions
