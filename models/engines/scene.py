"""The drawn picture of a detector's canary: a stop sign and a clock, which detectors of everyday things know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.preprocess import Pixels

_WIDTH, _HEIGHT = 416, 240
_WHITE, _RED, _GREY, _BLACK, _FACE = (245, 245, 245), (190, 20, 30), (150, 150, 150), (20, 20, 20), (240, 240, 235)
_HOURS = ((0, -54), (27, -47), (47, -27), (54, 0), (47, 27), (27, 47))
"""Half of the clock's marks, from its middle; the others lie opposite."""

Grid = NDArray[np.int64]
Mask = NDArray[np.bool_]


def canary_scene() -> Pixels:
    """The picture, drawn with integers so that it is the same on every machine."""
    y, x = np.mgrid[:_HEIGHT, :_WIDTH]
    scene = np.stack([120 + y // 4, 150 + y // 4, 200 - y // 3], axis=2)
    scene[150:] = (90 + (x + y) % 7 * 3)[150:, :, None]
    _stop_sign(scene, abs(x - 110), abs(y - 80), x, y)
    _clock(scene, x - 300, y - 110)
    return scene.astype(np.uint8)


def _stop_sign(scene: Grid, across: Grid, down: Grid, x: Grid, y: Grid) -> None:
    def octagon(side: int, corner: int) -> Mask:
        inside: Mask = (across < side) & (down < side) & (across + down < corner)
        return inside

    scene[(across < 5) & (y > 80) & (y < 220)] = _GREY
    scene[octagon(60, 85)] = _WHITE
    scene[octagon(54, 77)] = _RED
    scene[(down < 12) & (across < 44) & (x // 6 % 3 > 0)] = _WHITE


def _clock(scene: Grid, x: Grid, y: Grid) -> None:
    distance = x**2 + y**2
    scene[distance < 70**2] = _BLACK
    scene[distance < 62**2] = _FACE
    for right, below in _HOURS:
        for sign in (1, -1):
            scene[(abs(x - sign * right) < 3) & (abs(y - sign * below) < 3)] = _BLACK
    scene[(abs(x) < 3) & (y > -40) & (y < 2)] = _BLACK
    scene[(abs(y) < 3) & (x > -2) & (x < 35)] = _BLACK
