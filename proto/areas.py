"""Areas of a picture, as people write them: polygons in shares of the picture, or in pixels of a stated size. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from proto.errors import Invalid
from proto.types import Area, Point

MOST_AREAS = 32
"""Of one kind and camera."""
MOST_CORNERS = 64
FORMS = (
    "write corners as shares of the picture, 0,0 0.5,0 0.5,0.3, or in pixels of a size, 1920x1080: 0,0 960,0 960,324"
)

_SIZE = re.compile(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*:(.*)", re.DOTALL)
_NUMBERS = re.compile(r"[\d\s.,;:x+-]*")
_BETWEEN = re.compile(r"[\s,;]+")


def area_of(words: str) -> Area:
    """The area that these words say. Raises Invalid with what is wrong and how it is written."""
    # In a damaged file an address, with its password, may stand here.
    shown = repr(words if len(words) <= 60 else f"{words[:57]}...") if _NUMBERS.fullmatch(words) else ""
    named = f"the area {shown}".rstrip()
    size, rest = (1, 1), words
    if sized := _SIZE.fullmatch(words):
        size, rest = (int(sized[1]), int(sized[2])), sized[3]
        if 0 in size:
            raise Invalid(f"{named} is of a picture without pixels", todo=FORMS)
    try:
        numbers = [float(one) for one in _BETWEEN.split(rest.strip(" \t\r\n,;")) if one]
    except ValueError:
        raise Invalid(f"{named} is not made of numbers", todo=FORMS) from None
    if len(numbers) % 2:
        raise Invalid(f"{named} has a corner with one number", todo=FORMS)
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    corners = tuple((across / size[0], down / size[1]) for across, down in pairs)
    if len(corners) > 1 and corners[0] == corners[-1]:
        corners = corners[:-1]  # written as a closed ring
    return checked_area(corners, shown)


def checked_area(corners: Sequence[Point], shown: str = "") -> Area:
    """The area, or Invalid where it is none. `shown` is how it was written."""
    named = f"the area {shown}".rstrip()
    if len(corners) < 3:
        raise Invalid(f"{named} has {len(corners)} corners", todo=f"give at least 3; {FORMS}")
    if len(corners) > MOST_CORNERS:
        raise Invalid(f"{named} has {len(corners)} corners", todo=f"give at most {MOST_CORNERS}: a few outline it")
    for across, down in corners:
        if not (0 <= across <= 1 and 0 <= down <= 1):  # also refuses NaN
            outside = f"{across:g},{down:g}"
            raise Invalid(f"{named} lies outside the picture (corner {outside} in shares of it)", todo=FORMS)
    if _crosses_itself(corners):
        raise Invalid(f"{named} crosses or touches itself", todo="give its corners in order, or two areas")
    if _size(corners) < 1e-9:
        raise Invalid(f"{named} has no inside", todo="give corners that are not on one line")
    return tuple((float(across), float(down)) for across, down in corners)


def checked_areas(areas: Sequence[Area], what: str) -> tuple[Area, ...]:
    """All areas of a kind, or Invalid."""
    if len(areas) > MOST_AREAS:
        raise Invalid(f"{len(areas)} {what} were given", todo=f"give at most {MOST_AREAS}; one area may be of any form")
    return tuple(checked_area(area) for area in areas)


def written(area: Area) -> str:
    """The area as it can be given again."""
    return " ".join(f"{across:.4g},{down:.4g}" for across, down in area)


def _size(corners: Sequence[Point]) -> float:
    following = [*corners[1:], corners[0]]
    return abs(math.fsum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, following, strict=True))) / 2


def _crosses_itself(corners: Sequence[Point]) -> bool:
    count = len(corners)
    sides = [(corners[at], corners[(at + 1) % count]) for at in range(count)]
    for at, (begin, end) in enumerate(sides):
        if begin == end or _folds_back(begin, end, sides[(at + 1) % count][1]):
            return True
        for other in range(at + 2, count):
            if (other + 1) % count != at and _meet(begin, end, *sides[other]):
                return True
    return False


def _folds_back(one: Point, corner: Point, other: Point) -> bool:
    """Whether the side that follows runs back over the one before."""
    (ax, ay), (bx, by) = (one[0] - corner[0], one[1] - corner[1]), (other[0] - corner[0], other[1] - corner[1])
    return ax * by - ay * bx == 0 and ax * bx + ay * by > 0


def _meet(one: Point, two: Point, three: Point, four: Point) -> bool:
    """Whether the lines from one to two and from three to four have a point in common."""
    turns = _turn(one, two, three), _turn(one, two, four), _turn(three, four, one), _turn(three, four, two)
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    ends = ((three, one, two), (four, one, two), (one, three, four), (two, three, four))
    return any(turn == 0 and _between(*end) for turn, end in zip(turns, ends, strict=True))


def _turn(one: Point, two: Point, three: Point) -> float:
    return (two[0] - one[0]) * (three[1] - one[1]) - (two[1] - one[1]) * (three[0] - one[0])


def _between(point: Point, begin: Point, end: Point) -> bool:
    across = min(begin[0], end[0]) <= point[0] <= max(begin[0], end[0])
    return across and min(begin[1], end[1]) <= point[1] <= max(begin[1], end[1])
