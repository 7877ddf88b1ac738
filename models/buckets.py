"""The batch sizes that an engine is made ready for, and how a batch of any size is run in them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def buckets(most: int) -> list[int]:
    """The batch sizes that an engine is made ready for: powers of two up to `most`, and `most` itself."""
    return sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)})


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a batch, and the bucket that runs it."""

    first: int
    count: int
    bucket: int


def pieces_of(count: int, buckets: Sequence[int]) -> list[Piece]:
    """How a batch of `count` is run: full largest buckets, then the smallest that holds the rest."""
    pieces: list[Piece] = []
    first = 0
    while first < count:
        left = count - first
        bucket = min((size for size in buckets if size >= left), default=max(buckets))
        pieces.append(Piece(first, min(left, bucket), bucket))
        first += bucket
    return pieces
