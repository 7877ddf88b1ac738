"""Which pixels an area of a picture covers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cameras.sketch import HEIGHT, WIDTH
from proto.types import Area

Covered = NDArray[np.bool_]
"""By row and column."""

_SLACK = 1e-6
"""Pixels. A side on the border of two pixels touches both, however its numbers were rounded."""


def covered(areas: Sequence[Area], width: int, height: int) -> Covered:
    """Every pixel of a picture of this size that an area touches."""
    found = np.zeros((height, width), np.bool_)
    for area in areas:
        corners = np.asarray(area, np.float64) * (width, height)
        np.logical_or(found, _inside(corners, width, height) | _outline(corners, width, height), out=found)
    return found


def pooled_any(cells: Covered, across: int, down: int) -> Covered:
    """One cell for each `across` x `down` cells, true where any of them is. The last ones may be of fewer."""
    height, width = cells.shape
    padded = np.pad(cells, ((0, -height % down), (0, -width % across)))
    rows, columns = padded.shape[0] // down, padded.shape[1] // across
    return np.asarray(padded.reshape(rows, down, columns, across).any(axis=(1, 3)), np.bool_)


def widened(cells: Covered, by: int) -> Covered:
    """The cells and all that are at most `by` beside, above or below them."""
    found: Covered = cells
    for _ in (0, 1):  # along the rows, turned, and along what were the columns
        counts = np.cumsum(np.pad(found, ((0, 0), (by + 1, by))), axis=1)
        found = np.asarray(counts[:, 2 * by + 1 :] > counts[:, : -2 * by - 1], np.bool_).T
    return found


def watched(areas: Sequence[Area], columns: int, rows: int) -> Covered | None:
    """The cells of a sketch that no area touches; None when there is no area. So many columns and rows divide it."""
    if not areas:
        return None
    # Scaling spreads a pixel of the source over its neighbours in the sketch.
    hidden = widened(covered(areas, WIDTH, HEIGHT), 1)
    return ~pooled_any(hidden, WIDTH // columns, HEIGHT // rows)


def _inside(corners: NDArray[np.float64], width: int, height: int) -> Covered:
    """The pixels whose middle lies inside: each side turns what is right of it inside out."""
    turned = np.zeros((height, width + 1), np.int32)
    middles = np.arange(height) + 0.5
    for (x0, y0), (x1, y1) in _sides(corners):
        rows = np.flatnonzero((y0 <= middles) != (y1 <= middles))
        if len(rows):
            across = x0 + (middles[rows] - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(turned, (rows, np.clip(np.ceil(across - 0.5), 0, width).astype(np.intp)), 1)
    found: Covered = np.cumsum(turned, axis=1)[:, :width] % 2 == 1
    return found


def _outline(corners: NDArray[np.float64], width: int, height: int) -> Covered:
    """The pixels that a side passes through."""
    begun = np.zeros((height, width + 1), np.int32)
    for side in _sides(corners):
        (x0, y0), (x1, y1) = sorted(side, key=lambda point: point[1])
        first, last = np.clip([np.floor(y0 - _SLACK), np.floor(y1 + _SLACK)], 0, height - 1).astype(int)
        rows = np.arange(first, last + 1)
        if y1 - y0 < _SLACK:
            left, right = np.full(len(rows), min(x0, x1)), np.full(len(rows), max(x0, x1))
        else:
            ends = [x0 + (np.clip(edge, y0, y1) - y0) * (x1 - x0) / (y1 - y0) for edge in (rows, rows + 1)]
            left, right = np.minimum(*ends), np.maximum(*ends)
        begins = np.clip(np.floor(left - _SLACK), 0, width - 1).astype(np.intp)
        behind = np.clip(np.floor(right + _SLACK), 0, width - 1).astype(np.intp) + 1
        np.add.at(begun, (rows, begins), 1)
        np.add.at(begun, (rows, behind), -1)
    found: Covered = np.cumsum(begun, axis=1)[:, :width] > 0
    return found


def _sides(corners: NDArray[np.float64]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    points = [(float(across), float(down)) for across, down in corners]
    return list(zip(points, [*points[1:], points[0]], strict=True))
