"""What moved, followed from frame to frame: since when a thing is there, and until when. Pure.

A camera sends a frame when something changed, and with it the parts in which something moves now. A part that lies
near where one of about its size lay in one of the frames before is the same thing. Nothing here depends on what looks
show, so the same frames give the same tracks at every replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from proto.types import Box

_SCALE = 255

Place = tuple[int, int, int, int]
"""A box in 255ths of the picture, as it is stored: what was near before a restart is near after it."""

MOST_TRACKS = 12
"""Things of one moment that are followed at once."""
UNKNOWN = 255
"""In place of a track's number: the thing is not followed."""
_MISSED = 2
"""A thing may be hidden, or be one with another, in so many frames in a row."""
_LARGER = 3.0
"""Of two boxes of one thing in frames that follow each other, one is at most so many times as large."""
_APART = 0.75
"""Their middles are at most so many of its sides apart, across and down;"""
_FAST, _FAR = 2.0, 40
"""... or so many, if that is no more than so many 255ths of the picture: a small thing goes further than its own length
between two pictures."""
_PAUSE_MS = 2000
"""A thing that was not seen for longer went away in between."""
_INSIDE = 0.5
"""An object is the thing that moved when so much of its box lies in the part that moved."""


@dataclass(slots=True)
class Track:
    """One thing."""

    place: Place
    """Where it was when it was seen last."""
    since_ms: int
    until_ms: int
    missed: int = 0
    """Frames since it was seen."""
    shown: bool = False
    """A frame that shows it was looked at: a region may refer to it."""
    searched: bool = False
    """It was searched for objects."""
    looks: int = 0
    """So many crops of it were embedded."""
    looked: Place = (0, 0, 0, 0)
    """Where it was in the latest of these."""


class Moved(NamedTuple):
    """A part of a frame in which something moved."""

    box: Box
    track: Track


@dataclass(slots=True)
class Tracks:
    """The things of one moment."""

    of: list[Track] = field(default_factory=list)

    def follow(self, at_ms: int, boxes: Sequence[Box | None]) -> tuple[int, ...]:
        """Take the parts that moved in the next frame. Gives the number of each part's track, or UNKNOWN."""
        if not boxes and not self.of:  # most frames
            return ()
        places = [None if box is None else place_of(box) for box in boxes]
        pairs = [
            (apart, part, number)
            for part, place in enumerate(places)
            if place is not None
            for number, track in enumerate(self.of)
            if track.missed <= _MISSED and (apart := _apart(track.place, place)) is not None
        ]
        found: dict[int, int] = {}
        for _, part, number in sorted(pairs):
            if part not in found and number not in found.values():
                found[part] = number
        for number, track in enumerate(self.of):
            track.missed = 0 if number in found.values() else min(track.missed + 1, _MISSED + 1)
        for part, place in enumerate(places):
            if place is None:
                continue
            if part in found:
                track = self.of[found[part]]
                track.place, track.until_ms = place, max(track.until_ms, at_ms)
            elif (free := self._free()) is not None:
                self.of[free : free + 1] = [Track(place, at_ms, at_ms)]
                found[part] = free
        return tuple(found.get(part, UNKNOWN) for part in range(len(places)))

    def hold(self, until_ms: int) -> None:
        """Nothing changed until then: what the latest frame showed was still there."""
        for track in self.of:
            if not track.missed:
                track.until_ms = max(track.until_ms, until_ms)

    def at(self, boxes: Sequence[Box | None], numbers: Sequence[int]) -> list[Moved | None]:
        """The parts of a frame, each with its track; None for one that cannot be used, or is not followed."""
        return [
            None if box is None or number == UNKNOWN else Moved(box, self.of[number])
            for box, number in zip(boxes, numbers, strict=True)
        ]

    def show(self, numbers: Sequence[int]) -> None:
        """A frame that shows these things is looked at: they stay known for as long as the moment lasts."""
        for number in numbers:
            if number != UNKNOWN:
                self.of[number].shown = True

    def going_on(self) -> Tracks:
        """What the next moment begins with: the things that are there."""
        return Tracks([Track(one.place, one.since_ms, one.until_ms, one.missed) for one in self.of if not one.missed])

    def times(self, numbers: Sequence[int], at_ms: int) -> tuple[int, int] | None:
        """Since when and until when these were there without a longer pause, around an instant at which one of them
        was seen. None where none is known."""
        known = [self.of[number] for number in numbers if number < len(self.of)]
        if not known:
            return None
        since_ms = until_ms = at_ms
        for one in sorted(known, key=lambda one: max(one.since_ms - at_ms, at_ms - one.until_ms)):
            if one.since_ms - until_ms <= _PAUSE_MS and since_ms - one.until_ms <= _PAUSE_MS:
                since_ms, until_ms = min(since_ms, one.since_ms), max(until_ms, one.until_ms)
        return since_ms, until_ms

    def _free(self) -> int | None:
        """Where a new track goes; one that no region can refer to gives way. None: there is no room."""
        if len(self.of) < MOST_TRACKS:
            return len(self.of)
        gone = [(one.until_ms, number) for number, one in enumerate(self.of) if one.missed and not one.shown]
        return min(gone)[1] if gone else None


def place_of(box: Box) -> Place:
    """The box in 255ths."""
    left, top, right, bottom = (round(side * _SCALE) for side in (box.left, box.top, box.right, box.bottom))
    return left, top, right, bottom


def track_of(box: Box, parts: Sequence[tuple[Box, int]]) -> int:
    """The track of what moved in the part that holds this box, or UNKNOWN."""
    shares = [(common / box.area, -part.area, number) for part, number in parts if (common := box.common(part)) > 0]
    share, _, number = max(shares, default=(0.0, 0.0, UNKNOWN))
    return number if share >= _INSIDE else UNKNOWN


def _apart(one: Place, other: Place) -> float | None:
    """How far apart the middles are, in sides of the larger box; None when they are not of one thing."""
    first, second = Box(*one), Box(*other)
    small, large = sorted((max(first.area, 1), max(second.area, 1)))
    if large > _LARGER * small:
        return None
    wide = max(one[2] - one[0], other[2] - other[0], 1)
    high = max(one[3] - one[1], other[3] - other[1], 1)
    across = abs(one[0] + one[2] - other[0] - other[2]) / 2
    down = abs(one[1] + one[3] - other[1] - other[3]) / 2
    far = max(across / wide, down / high)
    near = far <= _APART or (far <= _FAST and max(across, down) <= _FAR)
    return far if near else None
