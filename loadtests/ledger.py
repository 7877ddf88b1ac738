"""The ledger: every frame that the broker acknowledged is accounted for, once.

    frames acknowledged = frames inside stored moments + dead-lettered + declared skipped

and no two moments of a camera overlap. `audit` is pure; `stored_moments` reads what it compares from a store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from broker.letterbox import SKIPPED
from index.store import MomentStore
from proto.types import Span, moment_id
from proto.v1.events_pb2 import DeadLetter

Origin = tuple[str, int, int]
"""Topic, partition and offset of a record."""

FETCH_AT_ONCE = 500
TOLD = 12
"""Imbalances told one by one; the rest are only counted."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One record that the broker acknowledged."""

    origin: Origin
    camera: str
    captured_ms: int
    sequence: int
    poison: bool = False
    """It can never be part of a moment: a dead letter is its place."""

    def __str__(self) -> str:
        topic, partition, offset = self.origin
        return f"frame {self.sequence} of {self.camera} (at {self.captured_ms}, {topic}/{partition}@{offset})"


@dataclass(frozen=True, slots=True)
class Balance:
    """What the audit found. It balances when nothing is `wrong`."""

    acknowledged: int
    in_moments: int
    dead_lettered: int
    skipped: int
    moments: int
    letters: int
    """Dead letters as they lie in the topic; a replay may have written one twice."""
    wrong: tuple[str, ...]
    """Every imbalance, each in a sentence."""

    @property
    def balanced(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        missing = self.acknowledged - self.in_moments - self.dead_lettered - self.skipped
        rows = [
            ("frames acknowledged by the broker", self.acknowledged),
            ("  inside stored moments", self.in_moments),
            ("  dead-lettered", self.dead_lettered),
            ("  declared skipped", self.skipped),
            ("  unaccounted for", missing),
            ("moments stored", self.moments),
            ("dead letters written", self.letters),
        ]
        lines = [f"{name:<36}{number:>9,}" for name, number in rows]
        if self.balanced:
            return "\n".join([*lines, "the ledger balances"])
        more = [f"… and {len(self.wrong) - TOLD} more"] if len(self.wrong) > TOLD else []
        return "\n".join([*lines, f"the ledger does NOT balance ({len(self.wrong)}):", *self.wrong[:TOLD], *more])


def audit(
    sent: Sequence[Sent],
    moments: Iterable[Span],
    letters: Sequence[DeadLetter],
    *,
    unsure: Collection[tuple[str, int]] = frozenset(),
) -> Balance:
    """Compare what was sent with what came of it, after everything came to rest.

    `unsure` are (camera, captured_ms) that were sent without an answer: they may be there, or not.
    """
    by_camera = defaultdict(list)
    for moment in moments:
        by_camera[moment.camera].append(moment)
    skipped = declared_skipped(letters)
    buried = {
        (letter.topic, letter.partition, letter.offset): letter.reason for letter in letters if letter.reason != SKIPPED
    }
    wrong = _strays(sent, by_camera, {*buried, *skipped})
    tally: Counter[str] = Counter()
    inside: dict[str, set[int]] = defaultdict(set)
    for camera, frames in _by_camera(sent).items():
        spans = sorted(by_camera[camera], key=lambda span: span.start_ms)
        wrong += _overlaps(spans)
        for frame in frames:
            home = next((span for span in spans if span.start_ms <= frame.captured_ms <= span.end_ms), None)
            place = _place(frame, home, buried, skipped)
            tally[place or "lost"] += 1
            if place == "moment" and home is not None:
                inside[home.id].add(frame.captured_ms)
            if place is None:
                wrong.append(f"lost: {frame}")
            elif frame.poison and place == "moment":
                wrong.append(f"poison that was not dead-lettered: {frame}")
            elif place == "letter" and not frame.poison:
                wrong.append(f"dead-lettered although it was good ({buried[frame.origin]}): {frame}")
        wrong += _miscounted(spans, inside, unsure)
    return Balance(
        acknowledged=len(sent),
        in_moments=tally["moment"],
        dead_lettered=tally["letter"],
        skipped=tally["skipped"],
        moments=sum(len(spans) for spans in by_camera.values()),
        letters=len(letters),
        wrong=tuple(wrong),
    )


def declared_skipped(letters: Iterable[DeadLetter]) -> set[Origin]:
    """Every record that a worker declared as not looked at, in order to catch up."""
    return {
        (letter.topic, letter.partition, offset)
        for letter in letters
        if letter.reason == SKIPPED
        for offset in range(letter.offset, max(letter.through, letter.offset) + 1)
    }


async def stored_moments(store: MomentStore, starts: Mapping[str, Collection[int]]) -> list[Span]:
    """Every moment of these cameras, found by the times at which one may begin.

    Raises when the store has moments of them that begin at no such time.
    """
    ids = [moment_id(store.space.id, camera, start) for camera, times in starts.items() for start in sorted(times)]
    found: list[Span] = []
    for first in range(0, len(ids), FETCH_AT_ONCE):
        found += await store.fetch(ids[first : first + FETCH_AT_ONCE])
    there = await store.count(frozenset(starts))
    if there != len(found):
        raise AssertionError(f"the store counts {there} moments; {len(found)} begin at a frame that was sent")
    return found


def _by_camera(sent: Iterable[Sent]) -> dict[str, list[Sent]]:
    frames: dict[str, list[Sent]] = defaultdict(list)
    for frame in sent:
        frames[frame.camera].append(frame)
    return frames


def _place(frame: Sent, home: Span | None, buried: Mapping[Origin, str], skipped: Collection[Origin]) -> str | None:
    if frame.origin in buried:
        return "letter"
    if frame.origin in skipped:
        return "skipped"
    return "moment" if home is not None and not frame.poison else None


def _overlaps(spans: Sequence[Span]) -> list[str]:
    return [
        f"overlap: {first.camera} has moments {first.start_ms}..{first.end_ms} and {second.start_ms}..{second.end_ms}"
        for first, second in pairwise(spans)
        if second.start_ms <= first.end_ms
    ]


def _miscounted(
    spans: Iterable[Span], inside: Mapping[str, set[int]], unsure: Collection[tuple[str, int]]
) -> list[str]:
    """Moments whose own count of frames is not that of the frames sent inside them, and those left open."""
    wrong = []
    for span in spans:
        known = inside.get(span.id, set())
        maybe = {time for camera, time in unsure if camera == span.camera and span.start_ms <= time <= span.end_ms}
        least, most = len(known), len(known | maybe)
        name = f"the moment of {span.camera} at {span.start_ms}..{span.end_ms}"
        if not least <= span.frames <= most:
            wrong.append(f"{name} says {span.frames} frames, {least} were sent in it")
        if not span.closed:
            wrong.append(f"{name} was never closed")
    return wrong


def _strays(sent: Iterable[Sent], by_camera: Mapping[str, Sequence[Span]], told: Collection[Origin]) -> list[str]:
    """What is there although nobody sent it."""
    cameras, origins = {frame.camera for frame in sent}, {frame.origin for frame in sent}
    strangers = [f"a moment of {camera}, which sent nothing" for camera in by_camera if camera not in cameras]
    return strangers + [f"a dead letter of {origin}, which was never sent" for origin in told if origin not in origins]
