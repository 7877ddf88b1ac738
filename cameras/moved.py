"""What moved in a picture, and where it is now. Pure: the picture and its time are arguments.

Each picture is compared with a background that is learned slowly, so that a region lies where the thing is, not where
it was when the last frame was kept. A thing that comes to rest becomes background after a while; what was behind it is
remembered, so that it leaves no ghost when it goes. What moves in the same place all the time, such as a tree in the
wind, is expected there and has to differ more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cameras.sketch import HEIGHT, WIDTH, Plane, pooled

CELL = 4
"""Pixels of the halved sketch along a cell: a thing of 0.5 % of the picture covers about five cells."""
ROWS, COLUMNS = HEIGHT // 2 // CELL, WIDTH // 2 // CELL

_LEAST = 2.5
"""Grey levels. What differs less is compression at work, on the quietest camera too."""
_NOISE_TIMES = 3.0
"""A cell differs when it does so by this many times what the median cell does."""
_ACTIVE_TIMES = 3.0
"""... and by this many times what is usual for the cell itself."""
_ACTIVE_CAP = 25.0
_ACTIVE_S = 40.0
_BACKGROUND_S = 20.0
_NOISE_S = 10.0
_STILL_S = 15.0
"""A thing that stood still for so long is background."""
_STILL_YOUNG_S = 2.0
_YOUNG_S = 20.0
"""The first picture may show things that are about to leave: so long a background is corrected quickly."""
_CUT_SHARE = 0.6
"""When more cells differ, the picture as a whole is another one."""
_MOST_SHARE = 0.5
"""A region that is larger shows nothing up close that the whole picture does not show."""
_STRONG = 4.0
_MOST_PATCHES = 12
_LEAST_CONTRAST = 20.0
"""Grey levels. In a flatter picture a gain cannot be told from an offset."""
_LONGEST_STEP_S = 5.0
_FEW_CELLS = 16
"""Where fewer are watched, the brightness of the whole cannot be told from what moves."""

Cells = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Patch:
    """Cells that differ and lie together. The sides are in cells; right and bottom lie outside."""

    left: int
    top: int
    right: int
    bottom: int
    cells: int
    telling: float
    """How much more than usual its cells differ, summed, and less where they are scattered over the box."""
    strength: float
    """How many times the threshold its cells differ, on average."""

    @property
    def share(self) -> float:
        """Its box's share of the picture."""
        return (self.right - self.left) * (self.bottom - self.top) / (ROWS * COLUMNS)

    def near(self, other: Patch) -> bool:
        """Whether they overlap once `other` is widened by its own size on each side."""
        wide, high = other.right - other.left, other.bottom - other.top
        across = self.left < other.right + wide and self.right > other.left - wide
        return across and self.top < other.bottom + high and self.bottom > other.top - high


class Motion:
    """The background of one camera, and what differs from it."""

    def __init__(self, watched: Cells | None = None) -> None:
        """`watched`: the cells in which movement counts."""
        self._watched: Cells = np.ones((ROWS, COLUMNS), np.bool_) if watched is None else watched
        self._background: Plane | None = None
        self._behind: Plane = np.zeros((ROWS * CELL, COLUMNS * CELL), np.float32)
        self._has_behind: Cells = np.zeros((ROWS, COLUMNS), np.bool_)
        self._before: Plane = self._behind
        self._still_s: Plane = np.zeros((ROWS, COLUMNS), np.float32)
        self._activity: Plane = np.zeros((ROWS, COLUMNS), np.float32)
        self._noise = 0.0
        self._age_s = 0.0
        self._time_s = 0.0
        self._last: tuple[Patch, ...] = ()
        self._known: tuple[Patch, ...] = ()
        self._shown: tuple[Patch, ...] = ()
        self.patches: tuple[Patch, ...] = ()
        """What moved in the picture that was looked at last: the most telling first."""

    def look(self, half: Plane, time_s: float, *, after_gap: bool) -> tuple[Patch, ...]:
        """What differs in this picture. Nothing when the whole picture is new: the first, after a gap, at a cut."""
        step_s = min(max(time_s - self._time_s, 0.0), _LONGEST_STEP_S)
        self._time_s, self._last = time_s, self.patches
        background = self._background
        if background is None or after_gap or not self._watched.any():
            self._begin(half)
            return self.patches
        expected = _brightened(background, half, self._watched)
        differs = _differences(half - expected)
        if self._noise == 0.0:
            self._noise = float(np.median(differs[self._watched]))  # the first comparison of all
        threshold = self._threshold()
        moved: Cells = (differs > threshold) & self._watched
        if moved.sum() > _CUT_SHARE * self._watched.sum():
            self._begin(half)
            return self.patches
        if moved.any():
            moved = self._without_ghosts(background, half, moved, threshold)
            moved = self._without_still(background, half, moved, step_s)
        else:
            self._still_s[:] = 0.0
        self._learn(background, half, differs, moved, step_s)
        self._before = half
        self.patches = patches(moved, differs, threshold)
        return self.patches

    def glance(self, half: Plane) -> bool:
        """Whether anything may have moved in this picture, which is not looked at."""
        background = self._background
        if background is None or not self._watched.any():
            return True
        differs = _differences(half - _brightened(background, half, self._watched))
        threshold = self._threshold()
        moved: Cells = (differs > threshold) & self._watched
        cut = moved.sum() > _CUT_SHARE * self._watched.sum()
        return bool(cut) or any(patch.cells >= 2 for patch in patches(moved, differs, threshold))

    def _threshold(self) -> Plane:
        least = max(_LEAST, _NOISE_TIMES * self._noise)
        threshold: Plane = np.maximum(np.float32(least), np.float32(_ACTIVE_TIMES) * self._activity)
        return threshold

    def arrived(self) -> bool:
        """Whether something is there now that was not near that place in the last picture kept.

        It must have been there in the picture before as well, or differ much: a flash of noise does not arrive.
        """
        return any(self._is_there(patch) and not any(map(patch.near, self._known)) for patch in self.patches)

    def departed(self) -> bool:
        """Whether something that the last picture kept shows is neither in this picture nor was in the one before: so
        it is known until when it was there."""
        return any(not any(map(thing.near, (*self.patches, *self._last))) for thing in self._shown)

    def stirs(self) -> bool:
        """Whether anything moves that is no flash of noise, known or not."""
        return any(map(self._is_there, self.patches))

    def _is_there(self, patch: Patch) -> bool:
        again = any(map(patch.near, self._last))
        return patch.cells >= 2 and (again or (patch.cells >= 3 and patch.strength >= _STRONG))

    def kept(self) -> None:
        """The picture that was looked at last is kept: what it shows is known."""
        self._known = self.patches
        self._shown = tuple(filter(self._is_there, self.patches))

    def _begin(self, half: Plane) -> None:
        self._background = half.copy()
        self._before = half
        self._has_behind[:] = False
        self._still_s[:] = 0.0
        self._age_s = 0.0
        self._last = self._known = self._shown = self.patches = ()

    def _without_ghosts(self, background: Plane, half: Plane, moved: Cells, threshold: Plane) -> Cells:
        """A cell that looks as it did before a thing came to rest there is background again."""
        if not (self._has_behind & moved).any():
            return moved
        again = moved & self._has_behind
        again &= _differences(half - _brightened(self._behind, half, self._watched, self._background)) < threshold
        if again.any():
            pixels = _pixels(again)
            background[pixels], self._behind[pixels] = self._behind[pixels], background[pixels]
        return moved & ~again

    def _without_still(self, background: Plane, half: Plane, moved: Cells, step_s: float) -> Cells:
        """A cell that differs from the background and not from the picture before, for long, is background."""
        steady = _differences(half - self._before) < max(_LEAST, _NOISE_TIMES * self._noise)
        self._still_s = np.where(moved & steady, self._still_s + np.float32(step_s), np.float32(0.0))
        rests: Cells = self._still_s >= (_STILL_YOUNG_S if self._age_s < _YOUNG_S else _STILL_S)
        if rests.any():
            pixels = _pixels(rests)
            self._behind[pixels] = background[pixels]
            background[pixels] = half[pixels]
            self._has_behind |= rests
            self._still_s[rests] = 0.0
        return moved & ~rests

    def _learn(self, background: Plane, half: Plane, differs: Plane, moved: Cells, step_s: float) -> None:
        self._age_s += step_s
        rate = step_s / min(_BACKGROUND_S, max(self._age_s, step_s, 1e-3)) if self._age_s < _BACKGROUND_S else 0.0
        rate = max(rate, step_s / _BACKGROUND_S)
        change = (half - background) * np.float32(min(rate, 1.0))
        if moved.any():
            change[_pixels(moved)] = 0.0
        background += change
        self._noise += min(1.0, step_s / _NOISE_S) * (float(np.median(differs[self._watched])) - self._noise)
        seen = np.minimum(differs, np.float32(_ACTIVE_CAP))
        self._activity += np.float32(min(1.0, step_s / _ACTIVE_S)) * (seen - self._activity)


def patches(moved: Cells, differs: Plane, threshold: Plane) -> tuple[Patch, ...]:
    """The groups of cells that touch, also at a corner; the most telling first."""
    found = []
    for rows, columns in _together(moved):
        top, bottom = int(rows.min()), int(rows.max()) + 1
        left, right = int(columns.min()), int(columns.max()) + 1
        values, limits = differs[rows, columns], threshold[rows, columns]
        strength = float((values / limits).mean())
        if len(rows) < 2 and strength < _STRONG:
            continue
        filled = len(rows) / ((right - left) * (bottom - top))
        telling = float((values - limits).sum()) * filled
        found.append(Patch(left, top, right, bottom, len(rows), telling, strength))
    found = [patch for patch in found if patch.share <= _MOST_SHARE]
    return tuple(sorted(found, key=lambda patch: -patch.telling)[:_MOST_PATCHES])


def _together(moved: Cells) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Connected components: runs of each row, joined with the runs of the row above that they touch."""
    edges = np.diff(np.pad(moved, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    run_rows, begins = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    runs = list(zip(run_rows.tolist(), begins.tolist(), ends.tolist(), strict=True))
    group = list(range(len(runs)))

    def root(one: int) -> int:
        while group[one] != one:
            group[one] = group[group[one]]
            one = group[one]
        return one

    at = 0
    for run, (row, begin, end) in enumerate(runs):
        while runs[at][0] < row - 1:
            at += 1
        for above, (row_above, begin_above, end_above) in enumerate(runs[at:run], at):
            if row_above == row:
                break
            if begin_above <= end and end_above >= begin:
                group[root(run)] = root(above)
    cells: dict[int, tuple[list[int], list[int]]] = {}
    for run, (row, begin, end) in enumerate(runs):
        rows, columns = cells.setdefault(root(run), ([], []))
        rows.extend([row] * (end - begin))
        columns.extend(range(begin, end))
    return [(np.asarray(rows, np.intp), np.asarray(columns, np.intp)) for rows, columns in cells.values()]


def _brightened(background: Plane, half: Plane, watched: Cells, like: Plane | None = None) -> Plane:
    """The background in the picture's brightness: exposure that is set anew, or a lamp that flickers, is no movement.

    Gain and offset are those of the medians of the darker and of the brighter half, so that what moves does not count.
    `like` is the plane that they are taken from, where `background` does not hold everywhere.
    """
    sample = (background if like is None else like)[::CELL, ::CELL][watched]
    if len(sample) < _FEW_CELLS:
        return background
    change = half[::CELL, ::CELL][watched] - sample
    order = np.argsort(sample)
    middle = len(order) // 2
    darker, brighter = order[:middle], order[middle:]
    dark, bright = float(sample[darker].mean()), float(sample[brighter].mean())
    dark_change, bright_change = float(np.median(change[darker])), float(np.median(change[brighter]))
    gain = (bright_change - dark_change) / max(bright - dark, _LEAST_CONTRAST)
    return background * np.float32(1.0 + gain) + np.float32(dark_change - gain * dark)


def _differences(difference: Plane) -> Plane:
    """By cell: means of 2 x 2 pixels, whose noise cancels, and then the mean of their sizes."""
    return pooled(np.abs(pooled(difference, 2)), CELL // 2)


def _pixels(cells: Cells) -> Cells:
    return cells.repeat(CELL, axis=0).repeat(CELL, axis=1)
