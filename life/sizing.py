"""Where a camera begins when what it takes must fit into so many bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sized:
    """How much the moments that start in [start_ms, end_ms) take, with their pictures."""

    start_ms: int
    end_ms: int
    bytes: float


def floor_of(newest_first: Sequence[Sized], limit: float) -> int | None:
    """The start of the oldest stretch that fits with all newer ones. None: everything fits.

    The newest stretch with anything in it counts as fitting, else a camera that writes much would show nothing.
    """
    total = 0.0
    floor_ms: int | None = None
    for one in newest_first:
        total += one.bytes
        if total > limit and floor_ms is not None:
            return floor_ms
        if one.bytes:
            floor_ms = one.start_ms
    return None
