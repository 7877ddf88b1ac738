"""What of the stores an erasure or a limit concerns: for the sweeper, and for whoever counts before or after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Protocol

from index.filters import Filter
from index.removal import Holding
from life.stores import Pictures, Rows
from proto.life import Erased, Gone
from proto.types import start_of

_AT_ONCE = 500


class Here(Protocol):
    """Where rows and pictures are."""

    @property
    def rows(self) -> Rows:
        """The index."""

    @property
    def pictures(self) -> Pictures:
        """The pictures."""

    @property
    def longest_ms(self) -> int:
        """No moment is longer."""


def erased_only(erased: Erased) -> Filter:
    """Passes what is erased by this."""
    times = erased.stretch
    return Filter(frozenset({times.camera}), times.start_ms, None, times.end_ms, only=Gone(erased=(erased,)))


def holdings_of(known: Iterable[Holding], erased: Erased, longest_ms: int) -> list[Holding]:
    """The buckets that may hold something of it."""
    times = erased.stretch
    return [one for one in known if one.bucket.touches(times.start_ms, times.end_ms, longest_ms)]


def all_gone(holding: Holding, aged: Gone, longest_ms: int) -> bool:
    """Whether everything that the bucket may hold is too old."""
    bucket = holding.bucket
    held = any(one.touches(bucket.start_ms, bucket.end_ms + longest_ms) for one in aged.held)
    return bucket.end_ms <= aged.floor_ms and not held


async def in_batches(pictures: Pictures, first_ms: int, last_ms: int) -> AsyncIterator[list[tuple[str, int, int]]]:
    """The moments that begin then and have pictures: id, start, and when these were written."""
    found = pictures.moments(first_ms, last_ms)
    while some := await asyncio.to_thread(lambda: list(islice(found, _AT_ONCE))):
        yield [(moment, start_of(moment), written_ms) for moment, written_ms in some]


async def unowned(at: Here, erased: Erased, written_before_ms: float) -> AsyncIterator[list[str]]:
    """Moments of the erased time that have pictures and no rows, on no shard and in no space, in batches.

    A process that was killed between two steps leaves such pictures. Later ones than `written_before_ms` may be about
    to get rows.
    """
    times = erased.stretch
    async for some in in_batches(at.pictures, max(0, times.start_ms - at.longest_ms), times.end_ms - 1):
        lost = {moment for moment, _, written_ms in some if written_ms <= written_before_ms}
        # Twice: a moment that went from a shard that is asked later to one that was asked before is found then.
        for _ in range(2):
            for holding in (await at.rows.holdings()).known if lost else ():
                lost -= await at.rows.known(holding, sorted(one for one in lost if holding.bucket.holds(start_of(one))))
        yield sorted(lost)
