"""How patches that moved are cut out of a picture: with what is around them, each thing once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cameras.moved import COLUMNS, ROWS, Patch

_CONTEXT = 0.25
"""How much wider and higher than the region a cut is."""
_LEAST_PX = 96
_MOST_LONGER = 2.0
"""A cut is at most so many times as long as it is wide: an encoder sees the middle square of it best."""
_MOST_SHARE = 0.5
"""Cuts that would be larger together stay apart."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of the source's picture, in its pixels; right and bottom lie outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


def cuts(patches: Sequence[Patch], width: int, height: int, most: int) -> list[Cut]:
    """At most `most` parts of a picture of this size, the most telling first."""
    if most <= 0:
        return []
    found: list[tuple[float, Cut]] = []
    for patch in patches:
        found = _with(found, patch.telling, _framed(patch, width, height), width * height)
    return [cut for _, cut in sorted(found, key=lambda one: -one[0])[:most]]


def _with(found: list[tuple[float, Cut]], telling: float, cut: Cut, area: int) -> list[tuple[float, Cut]]:
    """The cuts with one more: those that overlap become one, as long as it stays a part of the picture."""
    for number, (other_telling, other) in enumerate(found):
        both = Cut(
            min(cut.left, other.left),
            min(cut.top, other.top),
            max(cut.right, other.right),
            max(cut.bottom, other.bottom),
        )
        if _overlap(cut, other) and both.width * both.height <= _MOST_SHARE * area:
            rest = [*found[:number], *found[number + 1 :]]
            return _with(rest, telling + other_telling, both, area)
    return [*found, (telling, cut)]


def _overlap(one: Cut, other: Cut) -> bool:
    across = one.left < other.right and other.left < one.right
    return across and one.top < other.bottom and other.top < one.bottom


def _framed(patch: Patch, width: int, height: int) -> Cut:
    wide = (patch.right - patch.left) / COLUMNS * width * (1 + _CONTEXT)
    high = (patch.bottom - patch.top) / ROWS * height * (1 + _CONTEXT)
    wide, high = max(wide, high / _MOST_LONGER, _LEAST_PX), max(high, wide / _MOST_LONGER, _LEAST_PX)
    left, right = _inside((patch.left + patch.right) / 2 / COLUMNS * width, wide, width)
    top, bottom = _inside((patch.top + patch.bottom) / 2 / ROWS * height, high, height)
    return Cut(left, top, right, bottom)


def _inside(middle: float, size: float, most: int) -> tuple[int, int]:
    """A span of this size around the middle, moved so that it lies inside 0 to `most`."""
    whole = min(most, max(1, round(size)))
    begin = min(max(0, round(middle - whole / 2)), most - whole)
    return begin, begin + whole
