"""Which frames are passed over when more come than can be looked at. Pure: lag and pace are arguments.

Freshness is a promise, completeness is reported: what is passed over is declared. First go the frames that say least,
fairly over cameras; a frame that opens a scene goes only when nothing else is left to go, and the worker is far behind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

_ROOM_S = 0.5
"""Of what waits, so much is kept as can be looked at within this time."""
_OPENINGS_LATE_S = 10.0
"""Frames that open a scene are passed over only when frames have been waiting for so long."""


class Candidate(NamedTuple):
    """What the policy must know of a frame that waits."""

    camera: str
    opens: bool
    """It begins a scene, as far as its picture tells: the first of a camera, after a gap, or plainly another one."""
    says: float
    """How much of the picture is new, more than is usual on this camera."""
    free: bool = False
    """Nothing has to be computed for it: it stays."""


def shed(waiting: Sequence[Candidate], late_s: float, per_s: float, behind_s: float) -> frozenset[int]:
    """The places in `waiting` of those to pass over; `late_s` is how long the oldest has been waiting."""
    if late_s <= behind_s:
        return frozenset()
    room = max(1, int(per_s * _ROOM_S))
    costly = [place for place, one in enumerate(waiting) if not one.free]
    openings = [place for place in costly if waiting[place].opens]
    others = [place for place in costly if not waiting[place].opens]
    kept_openings = openings if late_s <= _OPENINGS_LATE_S else _newest_first(waiting, openings)[:room]
    left = max(0, room - len(kept_openings))
    kept = {*kept_openings, *_most_said_first(waiting, others)[:left]}
    return frozenset(place for place in costly if place not in kept)


def _most_said_first(waiting: Sequence[Candidate], places: Sequence[int]) -> list[int]:
    """Every camera's most telling frame, then every camera's second, and so on."""
    return _in_turn(waiting, sorted(places, key=lambda place: -waiting[place].says))


def _newest_first(waiting: Sequence[Candidate], places: Sequence[int]) -> list[int]:
    """Every camera's newest, then every camera's second newest, and so on."""
    return _in_turn(waiting, sorted(places, reverse=True))


def _in_turn(waiting: Sequence[Candidate], ordered: Sequence[int]) -> list[int]:
    turns: dict[str, int] = defaultdict(int)
    keyed = []
    for rank, place in enumerate(ordered):
        camera = waiting[place].camera
        keyed.append((turns[camera], rank, place))
        turns[camera] += 1
    return [place for _, _, place in sorted(keyed)]
