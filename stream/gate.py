"""Whether a picture says anything new. Pure: the picture's signature and time are arguments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]
"""A signature: the picture's brightness, scaled down to `SIDE` x `SIDE`."""

SIDE = 32
_BLOCK = 4


def novelty(before: Luma, after: Luma) -> float:
    """How much two signatures differ, 0 to 1: the largest mean difference of any block of 4 x 4.

    The mean over the whole picture would hide a person in a corner; single cells would show sensor noise.
    """
    difference = np.abs(before.astype(np.int16) - after.astype(np.int16))
    blocks = difference.reshape(SIDE // _BLOCK, _BLOCK, SIDE // _BLOCK, _BLOCK).mean(axis=(1, 3))
    return float(blocks.max()) / 255.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of one picture."""

    keep: bool
    novelty: float


class NoveltyGate:
    """Keeps a picture that differs enough from the last one kept, and one per heartbeat regardless."""

    def __init__(self, threshold: float, heartbeat_s: float) -> None:
        self._threshold = threshold
        self._heartbeat_s = heartbeat_s
        self._kept: Luma | None = None
        self._kept_s = 0.0

    def judge(self, luma: Luma, time_s: float, *, after_gap: bool) -> Verdict:
        """The first picture, and the first after a gap, is always kept."""
        if self._kept is None or after_gap:
            verdict = Verdict(keep=True, novelty=1.0)
        else:
            change = novelty(self._kept, luma)
            late = not 0 <= time_s - self._kept_s < self._heartbeat_s
            verdict = Verdict(keep=late or change >= self._threshold, novelty=change)
        if verdict.keep:
            self._kept, self._kept_s = luma, time_s
        return verdict
