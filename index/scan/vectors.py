"""The vectors of a bucket, mapped into memory, so that processes share what the kernel has read."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.scan.trouble import translated
from proto.types import Vector, Vectors

_AT_ONCE = 2_048
"""Rows that are copied together to be compared: they stay in a processor's cache."""
_DENSE = 0.5
"""Where so much of a stretch of slots is asked for, the whole stretch is compared in place: copying costs more."""


class VectorFile:
    """Reads vectors by slot. Slots that are asked for must have been written. Safe for threads."""

    def __init__(self, path: Path, dimension: int) -> None:
        self._path = path
        self._dimension = dimension
        self._mapped: Vectors = np.empty((0, dimension), np.float32)

    def of(self, slots: NDArray[np.int64]) -> Vectors:
        """The vectors in these slots, as a copy."""
        return self._upto(slots)[slots].astype(np.float32, copy=False)

    def scores(self, slots: NDArray[np.int64], question: Vector) -> NDArray[np.float32]:
        """How near the vector in each slot is to the question. Slots in order are compared fastest."""
        found = np.empty(len(slots), np.float32)
        if not len(slots):
            return found
        mapped = self._upto(slots)
        for first in range(0, len(slots), _AT_ONCE):
            some = slots[first : first + _AT_ONCE]
            least, most = int(some.min()), int(some.max()) + 1
            if len(some) >= _DENSE * (most - least):
                found[first : first + _AT_ONCE] = (mapped[least:most] @ question)[some - least]
            else:
                found[first : first + _AT_ONCE] = mapped[some] @ question
        return found

    def _upto(self, slots: NDArray[np.int64]) -> Vectors:
        """The file, mapped at least as far as these slots."""
        mapped = self._mapped
        if len(slots) and int(slots.max()) >= len(mapped):
            with translated(self._path), self._path.open("rb") as file:
                each = 4 * self._dimension
                # The pages of what was mapped before go when nothing refers to it any more.
                whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                count = len(whole) // each
                mapped = np.frombuffer(whole, "<f4", count * self._dimension).reshape(count, self._dimension)
                if count <= int(slots.max()):  # the file of a bucket that came in the place of a dropped one
                    raise FileNotFoundError(self._path)
            self._mapped = mapped
        return mapped
