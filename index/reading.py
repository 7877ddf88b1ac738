"""Reading all of a bucket, in pieces that fit into one reply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from index.calls import whole
from index.filters import Filter
from index.places import Bucket
from index.store import LATEST_MS
from proto.errors import Broken

One = TypeVar("One")

Read = Callable[[Filter], Awaitable[Sequence[One] | None]]
"""Reads what passes; None when there is more than fits."""


async def read_all(read: Read[One], bucket: Bucket, which: Filter) -> list[One]:
    """Everything in the bucket that passes. A read that would be cut off is asked again in halves, all at once."""
    found = await read(which)
    if found is not None:
        return list(found)
    parts = await whole({half: read_all(read, bucket, half) for half in halves(which, bucket)})
    return [one for part in parts for one in part]


async def pieces(read: Read[One], bucket: Bucket, which: Filter) -> AsyncIterator[tuple[Filter, Sequence[One]]]:
    """Everything in the bucket that passes, piece after piece in the order of time, and what each piece is."""
    found = await read(which)
    if found is not None:
        yield which, found
        return
    for half in halves(which, bucket):
        async for piece in pieces(read, bucket, half):
            yield piece


def halves(which: Filter, bucket: Bucket) -> tuple[Filter, Filter]:
    """Two disjoint filters that together pass what this one passes in the bucket."""
    first_ms = max(bucket.start_ms, which.starts_from or 0)
    end_ms = min(bucket.end_ms, LATEST_MS if which.starts_before is None else which.starts_before)
    if end_ms - first_ms > 1:
        middle_ms = (first_ms + end_ms) // 2
        return replace(which, starts_before=middle_ms), replace(which, starts_from=middle_ms)
    cameras = sorted(which.cameras or ())
    if len(cameras) > 1:
        middle = len(cameras) // 2
        return replace(which, cameras=frozenset(cameras[:middle])), replace(which, cameras=frozenset(cameras[middle:]))
    raise Broken(
        f"more rows of {', '.join(cameras) or 'all cameras'} start at {first_ms} than can be read",
        todo="no camera makes these: look for what else writes to this Milvus",
    )
