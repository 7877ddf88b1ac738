"""How much of each picture is looked at up close, and what of it a moment keeps. Pure.

**The budget.** Costs are counted in pictures embedded: a frame alone costs 1. Each frame of a camera earns 1 for
regions, a quiet one, in which nothing moves and hardly anything is new, 0.5. The vector of a crop costs 1. A detection
costs `EncoderInfo.detect_cost` and one for each picture that is embedded for the objects that it finds: their crops,
and one for all objects beyond MOST_OBJECT_CROPS. Nothing is looked at before it is earned, so at any time

    cost of all <= frames * (1 + 1), and <= frames * (1 + 0.5) on a quiet scene

for each camera, counted from the start of its worker. How many those are is known only when the detection is done.
RESERVED of them are paid in advance; more are paid before the next detection begins, so the latest detection alone may
have cost up to 7 - RESERVED more than was earned.

**What is looked at.** Things that move are followed (stream/tracks.py). Each is embedded when it comes, so that it is
found at once, and once more when it went elsewhere; it is searched for objects once, when it can be seen whole. Then
the whole picture is searched.

**The same rows at every replay.** What is looked at follows from the frames and from the state in Account, Looked and
Track, and these travel in the row of the open moment (stream/resume.py). Credit passes from one moment to the next only
where the scene changed; after a gap, a silence or a step of the clock a camera begins with none, as a worker does that
was given its partition then.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from proto.types import MOST_REGIONS, Box, Region
from stream.tracks import Moved, Place, Track, place_of

RESERVED = 3
"""Pictures of objects that a detection pays for in advance."""
MOST_CROPS = 3
"""The most crops that a frame carries."""
MOST_BOXES = 6
"""The most crops of one moment that are embedded."""
_BEFORE_DETECTION = 2
"""Of these, so many before the first detection: the rest of the credit is saved for it."""
_QUIET = 0.05
"""A frame of which less is new, and in which nothing moves, is quiet."""
SPACING = 3
"""Frames between two detections of a camera: the first has answered by then, and cameras that begin a scene together
do not ask for everything at once."""
_ALL_OF_IT = 0.5
"""A crop that covers so much of the picture stands for the whole."""
_SAME_PLACE = 0.4
"""Intersection over union of the boxes of one thing."""
_ALIKE = 0.92
"""Cosine of two vectors of one thing."""
_BARE = 0.3
"""The score of a crop of which the kind is not known: less than that of any object a detector is sure of."""
_LOOKS_EACH = 2
"""Crops of one thing that are embedded in one moment."""
_DETECTIONS = 4
"""Detections of one moment."""
_EDGE = 0.012
"""So near to a side of the picture a thing is cut off by it."""
_STAYS_MS = 1500
"""A thing that was there for so long will hardly be seen better."""


class Followed(NamedTuple):
    """A region of a moment, and which of the things that moved it shows."""

    region: Region
    tracks: int = 0
    """A bit for each track (stream/tracks.py); 0: it shows none of them."""


WHOLE_PICTURE = MOST_CROPS
"""In `Plan.detect`: the whole picture, and no crop of it."""


@dataclass(frozen=True)
class Costs:
    """What a look costs, in pictures embedded."""

    detection: float | None
    """None: the encoder's bundle has no detector."""

    @functools.cached_property
    def in_advance(self) -> float:
        """What a detection takes before it begins."""
        return (self.detection or 0.0) + RESERVED

    @functools.cached_property
    def most_saved(self) -> float:
        """The most credit that a camera saves: enough for two detections."""
        return float(MOST_BOXES) if self.detection is None else 2 * self.in_advance + _BEFORE_DETECTION


@dataclass(slots=True)
class Account:
    """What a camera may spend."""

    credit: float = 0.0
    surplus: float = 0.0
    """Pictures of objects beyond RESERVED, not paid yet."""
    since: int = SPACING
    """Frames since the latest detection; no more than SPACING are counted."""

    def earns(self, novelty: float, costs: Costs, *, moves: bool) -> None:
        """A frame of which so much is new was embedded; `moves`: something moved in it."""
        self.credit = min(costs.most_saved, self.credit + (1.0 if moves or novelty >= _QUIET else 0.5))
        self.since = min(SPACING, self.since + 1)

    def may_detect(self, costs: Costs) -> bool:
        """Whether a detection is earned. Pays the surplus of those before."""
        if costs.detection is None or self.since < SPACING or self.credit < costs.in_advance:
            return False
        self.credit, self.surplus = self.credit - self.surplus, 0.0
        return self.credit >= costs.in_advance

    def is_near_detection(self, costs: Costs) -> bool:
        """Whether the next frame may earn one."""
        return costs.detection is not None and self.since + 1 >= SPACING and self.credit + 1 >= costs.in_advance

    def found(self, embedded: int) -> None:
        """So many pictures were embedded for what a detection found."""
        self.surplus += max(0, embedded - RESERVED)

    def cut(self) -> None:
        """What comes next has nothing to do with what was before. Debts stay."""
        self.credit, self.since = min(0.0, self.credit), SPACING


@dataclass(frozen=True, slots=True)
class Plan:
    """What of one frame is looked at: places among its crops."""

    crops: tuple[int, ...] = ()
    """To be embedded."""
    detect: int | None = None
    """To be searched for objects: a crop, or WHOLE_PICTURE."""

    def __bool__(self) -> bool:
        return bool(self.crops) or self.detect is not None

    def to_byte(self) -> int:
        """As it is stored."""
        return sum(1 << place for place in self.crops) | (0 if self.detect is None else (self.detect + 1) << MOST_CROPS)

    @staticmethod
    def of_byte(number: int) -> Plan:
        """What `to_byte` gave; bits that mean nothing are passed over."""
        detect = (number >> MOST_CROPS) - 1
        crops = tuple(place for place in range(MOST_CROPS) if number >> place & 1)
        return Plan(crops, detect if 0 <= detect <= WHOLE_PICTURE else None)


_NO_PLAN = Plan()


@dataclass(slots=True)
class Looked:
    """What of one moment was looked at, besides what each of its tracks says of itself."""

    searched: int = 0
    """So many parts that moved were searched for objects."""
    whole: bool = False
    """The whole picture was."""
    embedded: int = 0
    """So many crops were embedded."""

    def plan(self, moved: Sequence[Moved | None], at_ms: int, account: Account, costs: Costs) -> Plan:
        """What is looked at of a frame with these crops (None: cannot be used), the most telling first. Spends.

        A thing is searched for objects once, when it can be seen whole; it is embedded when it comes, so that it is
        found at once, and once more elsewhere.
        """
        here = [(place, one) for place, one in enumerate(moved[:MOST_CROPS]) if one is not None]
        detect = self._detection(here, at_ms, account, costs)
        most = MOST_BOXES if costs.detection is None or self.searched or self.whole else _BEFORE_DETECTION
        crops = []
        for number, (box, track) in here:
            spot = place_of(box)
            first = not track.looks
            again = track.looks < _LOOKS_EACH and _is_settled(box, track, at_ms) and not is_near(spot, track.looked)
            if self.embedded >= most or account.credit < 1 or not (first or again):
                continue
            account.credit -= 1
            self.embedded += 1
            track.looks, track.looked = track.looks + 1, spot
            crops.append(number)
        return Plan(tuple(crops), detect) if crops or detect is not None else _NO_PLAN

    def _detection(self, here: Sequence[tuple[int, Moved]], at_ms: int, account: Account, costs: Costs) -> int | None:
        # What moved is searched first: at the source's own resolution small things are large there.
        due = [(number, one) for number, one in here if not one.track.searched and _is_settled(*one, at_ms)]
        due_crop = bool(due) and self.searched + self.whole < _DETECTIONS
        due_whole = not self.whole and (self.searched > 0 or not here)
        if not (due_crop or due_whole) or not account.may_detect(costs):
            return None
        account.credit -= costs.in_advance
        account.since = 0
        if not due_crop:
            self.whole = True
            return WHOLE_PICTURE
        number, (box, track) = due[0]
        self.searched += 1
        track.searched = True
        if box.area >= _ALL_OF_IT:
            self.whole = True
        return number


def _is_settled(box: Box, track: Track, at_ms: int) -> bool:
    """Whether the thing can be seen whole: it is not cut off at a side, or it stays there."""
    return (box.left > _EDGE and box.right < 1 - _EDGE) or at_ms - track.since_ms >= _STAYS_MS


def is_near(first: Place, second: Place) -> bool:
    """Whether both are likely the same thing, or where it was a moment ago."""
    return _overlap(first, second) >= _SAME_PLACE


def inside(base: Box, box: Box) -> Box:
    """The box, given in shares of the part `base` of a picture, in shares of the whole."""
    width, height = base.right - base.left, base.bottom - base.top
    sides = (
        base.left + max(0.0, box.left) * width,
        base.top + max(0.0, box.top) * height,
        base.left + min(1.0, box.right) * width,
        base.top + min(1.0, box.bottom) * height,
    )
    # No more digits than a store keeps, so that what is compared after a restart is what was compared before.
    return Box(*(min(1.0, float(np.float32(side))) for side in sides))


def gathered(kept: Sequence[Followed], found: Sequence[Followed]) -> tuple[Followed, ...]:
    """The regions of a moment after one more look: each thing once, the most telling at most.

    Depends on nothing but the regions themselves, which are in the moment's row.
    """
    followed = list(kept)
    for one in found:
        same = [other for other in followed if _is_same(one.region, other.region)]
        if all(_telling(one.region) > _telling(other.region) for other in same):
            followed = [other for other in followed if other not in same]
            followed.append(Followed(one.region, _all_tracks([one, *same])))
        else:
            first = followed.index(same[0])
            followed[first] = Followed(same[0].region, _all_tracks([one, same[0]]))
    return tuple(_most_telling(followed))


def _all_tracks(seen: Sequence[Followed]) -> int:
    return functools.reduce(lambda bits, one: bits | one.tracks, seen, 0)


def _most_telling(followed: Sequence[Followed]) -> Sequence[Followed]:
    if len(followed) <= MOST_REGIONS:
        return followed
    regions = [one.region for one in followed]
    # Of each kind, and of each thing without one, the best comes before the second of any.
    met: dict[str | int, int] = {}
    turns: list[tuple[int, int, int]] = []
    for place, one in sorted(enumerate(regions), key=lambda entry: (_order(entry[1]), entry[0])):
        what = one.kind or followed[place].tracks
        turns.append((met.get(what, 0), len(turns), place))
        met[what] = met.get(what, 0) + 1
    stay = {place for _, _, place in sorted(turns)[:MOST_REGIONS]}
    return [one for place, one in enumerate(followed) if place in stay]


def counted(objects: Mapping[str, int], found: Sequence[Region]) -> dict[str, int]:
    """How many of each kind were seen at most at one time, after one more picture was searched."""
    counts = dict(objects)
    now: dict[str, int] = {}
    for one in found:
        if one.kind:
            now[one.kind] = now.get(one.kind, 0) + 1
            counts[one.kind] = max(counts.get(one.kind, 0), now[one.kind])
    return counts


def _is_same(first: Region, second: Region) -> bool:
    if first.kind and second.kind and first.kind != second.kind:
        return False
    if float(first.vector @ second.vector) >= _ALIKE:
        return True
    # A crop shows an object and what is around it, so that their boxes differ more than those of two objects.
    together = first.at_ms == second.at_ms and _holds(first.box, second.box)
    return is_near(place_of(first.box), place_of(second.box)) or (first.kind != second.kind and together)


def _order(one: Region) -> tuple[bool, float]:
    known, value = _telling(one)
    return not known, -value


def _telling(one: Region) -> tuple[bool, float]:
    """What has a kind says more than what has none; then a surer and a larger one."""
    return bool(one.kind), (one.score if one.kind else _BARE) * (0.5 + min(1.0, one.box.area) ** 0.5)


def _holds(first: Box, second: Box) -> bool:
    """Whether the smaller of the two lies in the larger one, nearly."""
    return first.common(second) >= 0.8 * min(first.area, second.area)


def _overlap(first: Place, second: Place) -> float:
    one, other = Box(*first), Box(*second)
    common = one.common(other)
    union = one.area + other.area - common
    return common / union if union > 0 else float(first == second)
