"""Batch buckets: the batch sizes an engine is prepared for, and how any batch is split into them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def buckets(most: int) -> list[int]:
    """The batch sizes an engine is prepared for: powers of two up to `most`, and `most` itself."""
    return sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)})


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a batch, and the bucket that runs it."""

    first: int
    count: int
    bucket: int


def pieces_of(count: int, buckets: Sequence[int]) -> list[Piece]:
    """Splits a batch of `count`: full largest buckets, then the smallest that holds the rest."""
    pieces: list[Piece] = []
    first = 0
    while first < count:
        left = count - first
        bucket = min((size for size in buckets if size >= left), default=max(buckets))
        pieces.append(Piece(first, min(left, bucket), bucket))
        first += bucket
    return pieces
