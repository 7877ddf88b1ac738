"""Which telling of a moment a shard has, by its rows without their vectors. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from index.rows import Bare
from proto.types import Moment


@dataclass(frozen=True, slots=True)
class Telling:
    """Which telling of a moment a shard has, and how much of it."""

    fullness: tuple[bool, int, int] = (False, 0, 0)
    regions: int = 0
    whole: bool = False
    """Whether the row of its picture is there."""

    def is_in(self, other: Telling | None) -> bool:
        """Whether the other shard has it too, as full or fuller."""
        if other is None or not other.whole:
            return False
        return self.fullness < other.fullness or (self.fullness == other.fullness and self.regions <= other.regions)


def tellings(rows: Iterable[Bare]) -> dict[str, Telling]:
    """By moment. Rows of regions that are of another telling than the picture's do not count, as for whoever reads the
    moment (`rows.moments_from`)."""
    by_moment: defaultdict[str, list[Bare]] = defaultdict(list)
    for row in rows:
        by_moment[row.moment].append(row)
    return {name: _telling(name, of_one) for name, of_one in by_moment.items()}


def _telling(name: str, rows: Sequence[Bare]) -> Telling:
    picture = next((row for row in rows if row.id == name), None)
    if picture is None:
        return Telling()
    fullness = _fullness(picture)
    return Telling(fullness, sum(_fullness(row) == fullness for row in rows) - 1, whole=True)


def _fullness(row: Bare) -> tuple[bool, int, int]:
    return row.closed, row.frames, row.last_offset


def alike(one: Moment, copy: Moment) -> bool:
    """Whether the copy is of the same telling, with the same vectors."""
    return (
        (one.frames, one.closed, one.last_offset, len(one.regions))
        == (copy.frames, copy.closed, copy.last_offset, len(copy.regions))
        and np.allclose(one.vector, copy.vector, atol=1e-6)
        and all(np.allclose(a.vector, b.vector, atol=1e-6) for a, b in zip(one.regions, copy.regions, strict=True))
    )
