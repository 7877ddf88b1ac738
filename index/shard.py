"""One shard of the index, as the rest of the room sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from index.filters import Filter
from index.places import Bucket
from index.rows import Bare
from index.store import Ask, Scored
from proto.errors import WatchwordError
from proto.types import Moment


@dataclass(frozen=True, slots=True)
class Nearest:
    """What a bucket answers to a search."""

    hits: list[Scored]
    loading_s: float = 0.0
    """How long it took to load the bucket into memory first; 0 when it was there."""


class Shard(Protocol):
    """One store with some of the cameras, in time buckets. Raises only WatchwordErrors."""

    async def buckets(self, *, fresh: bool = False) -> Mapping[str, Collection[Bucket]]:
        """The existing buckets, by space.

        Unless `fresh`, a bucket that another process just created may be missing for a second.
        """

    async def make(self, bucket: Bucket) -> None:
        """Create the bucket if it is missing, and make it ready for the methods below."""

    async def upsert(self, bucket: Bucket, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        """Store them in the bucket, creating it if needed. Returns what was not stored, like MomentStore.upsert."""

    async def fitting(self, buckets: Collection[Bucket]) -> Collection[Bucket]:
        """Those of the buckets that one question may have searched: all, unless they do not fit into memory."""

    async def search(self, bucket: Bucket, ask: Ask) -> Nearest:
        """The bucket's best moments that pass the filter, best first, as many as asked for if there are.

        Empty when the bucket is gone, as for the methods below.
        """

    async def read(self, bucket: Bucket, which: Filter, most_rows: int) -> list[Moment] | None:
        """The bucket's moments that pass, unordered; None when they have `most_rows` rows. Sees every upsert."""

    async def fetch(self, bucket: Bucket, ids: Sequence[str], *, exact: bool = True) -> list[Moment]:
        """The moments with these ids in the bucket. Sees every upsert."""

    async def count(self, bucket: Bucket, which: Filter, *, exact: bool = True) -> int:
        """How many of the bucket's moments pass. `exact` sees every upsert, which takes longer."""

    async def rows(self, bucket: Bucket, which: Filter, most: int) -> list[Bare]:
        """Up to `most` of the bucket's rows that pass, without their vectors. Sees every upsert."""

    async def remove(self, bucket: Bucket, ids: Sequence[str]) -> None:
        """Delete the rows with these ids; those that are not there are passed over."""

    async def drop(self, bucket: Bucket) -> None:
        """Delete the bucket with all that is in it. No effect when it is gone."""

    async def close(self) -> None:
        """Close the connection."""
