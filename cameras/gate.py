"""Whether a picture says anything new, and how much of it. Pure: the picture's signature and time are arguments."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

Watched = NDArray[np.bool_]
"""By cell of a signature: whether what changes there counts."""

Luma = NDArray[np.uint8]
"""A signature: the picture's brightness, scaled down to `SIDE` x `SIDE`."""

SIDE = 32
_BLOCK = 4
_BLOCKS = (SIDE // _BLOCK, _BLOCK, SIDE // _BLOCK, _BLOCK)
_DIFFERS = 0.06
"""A block whose brightness differs by more than this counts as another than before."""
_LEAST_CELLS = 4
"""A block of which fewer cells are watched differs less: single cells would show sensor noise."""
_PICTURES = 5
"""Pictures in whose midst lies what is usual: few enough to follow a camera that begins to move, and enough that
a cut or two among them do not count."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two signatures differ, in blocks of 4 x 4. Both numbers run from 0, the same, to 1."""

    largest: float
    """The mean difference of the block that differs most. The mean over the whole picture would hide a person in a
    corner; single cells would show sensor noise."""
    share: float
    """The share of blocks that are another than before: all of them at a cut, few when something moves."""


def difference(before: Luma, after: Luma, watched: Watched | None = None) -> Difference:
    """Compare two signatures, where they are watched."""
    cells = np.abs(before.astype(np.int16) - after.astype(np.int16))
    if watched is None:
        blocks = cells.reshape(_BLOCKS).mean(axis=(1, 3)) / 255.0
        return Difference(float(blocks.max()), float((blocks > _DIFFERS).mean()))
    counts = watched.reshape(_BLOCKS).sum(axis=(1, 3))
    sums = (cells * watched).reshape(_BLOCKS).sum(axis=(1, 3))
    blocks = sums / np.maximum(counts, _LEAST_CELLS) / 255.0
    return Difference(float(blocks.max()), float((blocks > _DIFFERS).sum() / max(1, np.count_nonzero(counts))))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate says of one picture."""

    keep: bool
    novelty: float
    """The share of the picture that differs from the last one kept."""
    usual: float
    """The median of that share over the pictures just before, kept or not."""


class NoveltyGate:
    """Keeps a picture that differs enough from the last one kept, or of which is said that something came or went, and
    one per heartbeat regardless."""

    def __init__(self, threshold: float, heartbeat_s: float, watched: Watched | None = None) -> None:
        self._watched = watched
        self._threshold = threshold
        self._heartbeat_s = heartbeat_s
        self._kept: Luma | None = None
        self._kept_s = 0.0
        self._shares: deque[float] = deque(maxlen=_PICTURES)

    def judge(self, luma: Luma, time_s: float, *, after_gap: bool, told: bool = False) -> Judgement:
        """The first picture, and the first after a gap, is always kept; and one in which something came or went that is
        too small to show in the signature."""
        usual = median(self._shares) if self._shares else 0.0
        if self._kept is None or after_gap:
            judgement = Judgement(keep=True, novelty=1.0, usual=usual)
        else:
            found = difference(self._kept, luma, self._watched)
            late = not 0 <= time_s - self._kept_s < self._heartbeat_s
            judgement = Judgement(late or told or found.largest >= self._threshold, found.share, usual)
            self._shares.append(found.share)
        if judgement.keep:
            self._kept, self._kept_s = luma, time_s
        return judgement
