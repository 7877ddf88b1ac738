"""The moment of one camera that is going on, as its builder keeps it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from proto.types import Vector
from stream.attention import CloseUp
from stream.consumer import Mark
from stream.frames import Unit
from stream.scene import Scene


@dataclass(slots=True)
class OpenMoment:
    """Holds a handful of pictures at most, whatever its length: that of the peak, and those of regions until they are
    handed over."""

    name: str
    start_ms: int
    end_ms: int
    first_offset: int
    last_offset: int
    run: int
    sequence: int
    view: int
    """`Frame.view` of its first frame."""
    total: Unit
    """The weighted sum of its vectors."""
    length: float
    """Of the sum."""
    scene: Scene
    peak_ms: int
    peak_cosine: float
    """How near the peak was to the mean when it was last compared; kept up while `peak_vector` is known."""
    peak_vector: Unit | None
    peak_jpeg: bytes | None
    touched_ms: int
    """The time of the log at its last frame."""
    written_s: float
    frames: int = 1
    farthest: float = 0.0
    thumbnail_ms: int | None = None
    written_frames: int = 1
    cut: bool = False
    """The first frame after a gap was passed over: the next one begins another moment."""
    marks: list[Mark] = field(default_factory=list)
    close_up: CloseUp = field(default_factory=CloseUp)

    def add(self, vector: Unit, weight: float, cosine: float) -> float:
        """Add a frame, given its cosine with the mean before; gives that with the mean after."""
        before = cosine * self.length
        self.total += weight * vector
        self.length = math.sqrt(max(0.0, self.length**2 + 2 * weight * before + weight**2))
        return (before + weight) / (self.length or 1.0)

    def cosine(self, vector: Unit) -> float:
        """Between `vector` and the weighted mean of the frames so far."""
        return float(self.total.dot(vector)) / (self.length or 1.0)

    def mean(self) -> Vector:
        """The mean at unit length."""
        if self.length > 1e-9 or self.peak_vector is None:
            return (self.total / (self.length or 1.0)).astype(np.float32)
        return self.peak_vector.astype(np.float32)
