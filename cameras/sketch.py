"""The small pictures that policies look at: one scaling of the source's picture, and what is derived from it. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cameras.gate import SIDE, Luma

WIDTH, HEIGHT = 320, 192
"""Whatever the source's proportions: 2 x 2 of it make one pixel of `halved`, and 10 x 6 one of the gate's signature."""

Sketch = NDArray[np.uint8]
"""A picture's brightness, `HEIGHT` x `WIDTH`."""

Plane = NDArray[np.float32]
"""Brightness, or a difference of it, in grey levels."""


def pooled(plane: Plane, factor: int) -> Plane:
    """The means of blocks of `factor` x `factor`; `factor` is a power of two."""
    # Halving by slices is several times faster than one reduction over short axes.
    total = plane
    for _ in range(factor.bit_length() - 1):
        rows = total[0::2] + total[1::2]
        total = rows[:, 0::2] + rows[:, 1::2]
    return total * np.float32(1.0 / factor**2)


def halved(sketch: Sketch) -> Plane:
    """The sketch at half its size."""
    wide = sketch.astype(np.uint16)
    rows = wide[0::2] + wide[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]).astype(np.float32) * np.float32(0.25)


def signature(half: Plane) -> Luma:
    """The gate's signature of a picture, from its halved sketch."""
    height, width = half.shape
    rows = half.reshape(SIDE, height // SIDE, width).sum(axis=1)
    cells = rows.reshape(SIDE, SIDE, width // SIDE).sum(axis=2)
    found: Luma = (cells * np.float32(SIDE * SIDE / (height * width)) + np.float32(0.5)).astype(np.uint8)
    return found
