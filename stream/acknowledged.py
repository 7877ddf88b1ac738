"""What the index acknowledged lately, to be compared with what it has after an outage. Pure: the times are arguments.

A server that ends in disorder may have lost what it acknowledged just before, and a call that was given up may be done
after a later one. The offsets of these frames are committed, so nobody would write their moments again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from index.store import fullness
from proto.types import Moment
from stream.moments import Write

FOR_S = 60.0
"""What was acknowledged longer ago before an outage is taken as kept."""
MOST = 1000
"""A moment with its vectors takes up to ten kilobytes."""


class Acknowledged:
    """The newest version of each moment that was acknowledged lately."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._writes: dict[str, tuple[float, Write]] = {}
        """Oldest first."""

    def note(self, writes: Iterable[Write], now_s: float, keep_from_s: float) -> None:
        """The index acknowledged these. What it acknowledged before `keep_from_s` is dropped, and what is too much."""
        for write in writes:
            self._writes.pop(write.moment.id, None)
            # To be written again, it needs neither its pictures nor its frames: both are kept elsewhere by now.
            bare = replace(write, thumbnail=None, finishes=(), began=None, pictures=())
            self._writes[write.moment.id] = (now_s, bare)
        for name, (at_s, _) in list(self._writes.items()):
            if len(self._writes) <= self._most and at_s >= keep_from_s:
                break
            del self._writes[name]

    def all(self) -> list[Write]:
        """What can be written again of each, oldest acknowledgement first."""
        return [write for _, write in self._writes.values()]


def forgotten(told: Iterable[Write], found: Iterable[Moment]) -> list[Write]:
    """Those of which the index has less than it was told."""
    there = {moment.id: moment for moment in found}
    return [one for one in told if one.moment.id not in there or _is_less(there[one.moment.id], one.moment)]


def _is_less(found: Moment, told: Moment) -> bool:
    if fullness(found) == fullness(told):
        return len(found.regions) < len(told.regions)
    return fullness(found) < fullness(told)
