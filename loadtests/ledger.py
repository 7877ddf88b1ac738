"""The ledger: every frame that the broker accepted is accounted for exactly once, by its place in the log.

    frames taken = inside stored moments + dead-lettered + declared shed + declared expired + sent twice

and no two moments of a camera overlap. `audit` is pure; `stored_moments` reads its input from a store.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from catalog.coverage import Gap, Reason
from index.store import LATEST_MS, MomentStore
from proto.types import Span
from proto.v1.events_pb2 import DeadLetter

Place = tuple[int, int]
"""Partition and offset of a record."""
Fate = Literal["moment", "letter", "shed", "expired", "repeat", "lost"]

TOLD = 12
"""How many imbalances are printed; the rest are only counted."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One record that the broker accepted."""

    place: Place
    camera: str
    captured_ms: int
    sequence: int
    opens: bool = False
    """Whether it is the first picture of a scene."""
    poison: bool = False
    """Whether it can never be part of a moment and must be dead-lettered."""

    def __str__(self) -> str:
        partition, offset = self.place
        return f"frame {self.sequence} of {self.camera} (at {self.captured_ms}, {partition}@{offset})"


@dataclass(frozen=True, slots=True)
class Balance:
    """The result of the audit. It balances when `wrong` is empty."""

    taken: int
    fates: Mapping[Fate, int]
    moments: int
    letters: int
    """Dead letters in the topic; a replay may have written one twice."""
    unopened: int
    """First pictures of scenes that are in a moment but do not begin one."""
    wrong: tuple[str, ...]
    """One sentence per imbalance."""

    @property
    def balanced(self) -> bool:
        return not self.wrong

    def of(self, fate: Fate) -> int:
        return self.fates.get(fate, 0)

    def __str__(self) -> str:
        rows = [
            ("frames that the broker took", self.taken),
            ("  inside stored moments", self.of("moment")),
            ("  dead-lettered", self.of("letter")),
            ("  declared shed", self.of("shed")),
            ("  declared expired", self.of("expired")),
            ("  sent again, not taken again", self.of("repeat")),
            ("  unaccounted for", self.of("lost")),
            ("moments stored", self.moments),
            ("scenes inside an earlier moment", self.unopened),
            ("dead letters written", self.letters),
        ]
        lines = [f"{name:<36}{number:>9,}" for name, number in rows]
        if self.balanced:
            return "\n".join([*lines, "the ledger balances"])
        more = [f"… and {len(self.wrong) - TOLD} more"] if len(self.wrong) > TOLD else []
        return "\n".join([*lines, f"the ledger does NOT balance ({len(self.wrong)}):", *self.wrong[:TOLD], *more])


class Ranges:
    """Finds the ranges of offsets, by key, that contain an offset. Ranges of one key may overlap."""

    def __init__(self, ranges: Iterable[tuple[tuple[str, int], int, int]]) -> None:
        """Each range is a key, a first and a last offset."""
        self._joined: dict[tuple[str, int], list[list[int]]] = defaultdict(list)
        for key, first, last in sorted(ranges):
            joined = self._joined[key]
            if joined and first <= joined[-1][1] + 1:
                joined[-1][1] = max(joined[-1][1], last)
            else:
                joined.append([first, last])

    def hold(self, key: tuple[str, int], offset: int) -> bool:
        joined = self._joined.get(key, [])
        number = bisect_right(joined, [offset, LATEST_MS]) - 1
        return number >= 0 and joined[number][0] <= offset <= joined[number][1]


def audit(
    sent: Sequence[Sent],
    moments: Iterable[Span],
    letters: Sequence[DeadLetter],
    gaps: Iterable[Gap] = (),
    *,
    log: str,
    clocks_step: bool = False,
) -> Balance:
    """Compare what the broker accepted with the results, after everything has drained.

    `gaps` are those of this log exactly as declared. Cameras' times are compared unless their clocks step.
    """
    gaps = [gap for gap in gaps if gap.log == log]
    by_camera: dict[tuple[str, int], list[Span]] = defaultdict(list)
    wrong: list[str] = []
    stored = list(moments)
    for moment in stored:
        if moment.log == log:
            by_camera[moment.camera, moment.partition].append(moment)
        else:
            wrong.append(f"{_name(moment)} is of another log")
    books = _Books(
        buried={(letter.partition, letter.offset): letter.reason for letter in letters},
        shed=_ranges(gaps, Reason.SHED),
        expired=_ranges(gaps, Reason.EXPIRED),
    )
    wrong += _strays(sent, by_camera, books.buried)
    fates: Counter[Fate] = Counter()
    unopened = 0
    for key, frames in _by_camera(sent).items():
        spans = sorted(by_camera[key], key=lambda span: span.first_offset)
        wrong += _overlaps(spans, times=not clocks_step)
        told = _Told(spans)
        for frame in frames:
            fate = books.fate(frame, told)
            fates[fate] += 1
            unopened += fate == "moment" and frame.opens and frame.place[1] not in told.firsts
            if fate == "lost":
                wrong.append(f"lost: {frame}")
            elif fate == "letter" and not frame.poison:
                wrong.append(f"dead-lettered although it was good ({books.buried[frame.place]}): {frame}")
        wrong += told.miscounted()
    return Balance(len(sent), fates, len(stored), len(letters), unopened, tuple(wrong))


async def stored_moments(store: MomentStore, cameras: Collection[str], settles_s: float = 15.0) -> list[Span]:
    """Every moment of these cameras. Raises when the store's count still differs after `settles_s`: on a loaded machine
    it was seen to differ soon after upserts."""
    until_s = time.monotonic() + settles_s
    while True:
        found: list[Span] = list(await store.between(frozenset(cameras), 0, LATEST_MS))
        there = await store.count(frozenset(cameras))
        if there == len(found):
            return found
        if time.monotonic() > until_s:
            raise AssertionError(f"the store counts {there} moments, and gives {len(found)}")
        await asyncio.sleep(1.0)


class _Told:
    """The moments of one camera in one partition, and the frames in each."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._begins = [span.first_offset for span in spans]
        self.firsts = frozenset(self._begins)
        self._once: Counter[str] = Counter()
        self._again: Counter[str] = Counter()
        self._seen: set[int] = set()

    def takes(self, frame: Sent) -> bool:
        """Whether a moment contains this frame; counts it there."""
        again, span = frame.sequence in self._seen, self._home(frame.place[1])
        self._seen.add(frame.sequence)
        if span is not None:
            (self._again if again else self._once)[span.id] += 1
        return span is not None

    def passes(self, frame: Sent) -> None:
        """The frame was passed over: what comes of the same picture later is a copy of it."""
        self._seen.add(frame.sequence)

    def seen(self, frame: Sent) -> bool:
        """Whether the same picture was seen before, at another place."""
        return frame.sequence in self._seen

    def miscounted(self) -> list[str]:
        """Moments whose frame count is wrong, and moments that were left open.

        A picture sent twice may count once or twice: its first copy may have been passed over, or told by an older
        version, whose rows do not say how far they reached.
        """
        wrong = []
        for span in self._spans:
            least = self._once[span.id]
            if not least <= span.frames <= least + self._again[span.id]:
                wrong.append(f"{_name(span)} says {span.frames} frames, {least} are in it")
            if not span.closed:
                wrong.append(f"{_name(span)} was never closed")
        return wrong

    def _home(self, offset: int) -> Span | None:
        number = bisect_right(self._begins, offset) - 1
        return self._spans[number] if number >= 0 and offset <= self._spans[number].last_offset else None


@dataclass(frozen=True, slots=True)
class _Books:
    """The records of frames outside moments: dead letters and gaps."""

    buried: Mapping[Place, str]
    shed: Ranges
    expired: Ranges

    def fate(self, frame: Sent, told: _Told) -> Fate:
        partition, offset = frame.place
        if frame.place in self.buried:
            return "letter"
        if self.shed.hold((frame.camera, partition), offset):
            told.passes(frame)
            return "shed"
        repeated = told.seen(frame)
        if not frame.poison and told.takes(frame):
            return "moment"
        if self.expired.hold(("", partition), offset):
            return "expired"
        return "repeat" if repeated and not frame.poison else "lost"


def _ranges(gaps: Iterable[Gap], reason: Reason) -> Ranges:
    return Ranges(
        ((gap.camera, gap.partition), gap.first_offset, gap.last_offset) for gap in gaps if gap.reason is reason
    )


def _by_camera(sent: Iterable[Sent]) -> dict[tuple[str, int], list[Sent]]:
    frames: dict[tuple[str, int], list[Sent]] = defaultdict(list)
    for frame in sorted(sent, key=lambda one: one.place):
        frames[frame.camera, frame.place[0]].append(frame)
    return frames


def _overlaps(spans: Sequence[Span], *, times: bool) -> list[str]:
    wrong = []
    for first, second in pairwise(spans):
        if second.first_offset <= first.last_offset:
            wrong.append(f"overlap: {_name(first)} and {_name(second)} have frames in common")
    # Not in the order of offsets: what a host that was cut off still had to send comes late.
    for first, second in pairwise(sorted(spans, key=lambda span: span.start_ms) if times else ()):
        if second.start_ms <= first.end_ms:
            wrong.append(f"overlap: {_name(second)} starts before {_name(first)} ends, at {first.end_ms}")
    return wrong


def _strays(
    sent: Iterable[Sent], by_camera: Mapping[tuple[str, int], Sequence[Span]], buried: Collection[Place]
) -> list[str]:
    """Results for frames that nobody sent."""
    places = {frame.place: frame for frame in sent}
    wrong = [f"a dead letter of {place}, which was never sent" for place in buried if place not in places]
    for (camera, partition), spans in by_camera.items():
        for span in spans:
            first, last = (places.get((partition, offset)) for offset in (span.first_offset, span.last_offset))
            if first is None or last is None or {first.camera, last.camera} != {camera}:
                wrong.append(f"{_name(span)} begins or ends with what is no frame of this camera")
            elif first.captured_ms != span.start_ms:
                wrong.append(f"{_name(span)} begins with {first}")
    return wrong


def _name(span: Span) -> str:
    place = f"{span.partition}@{span.first_offset}..{span.last_offset}"
    return f"the moment of {span.camera} at {span.start_ms}..{span.end_ms} ({place})"
