"""What is stored, for whoever removes, exports or copies it: every bucket of every space on every shard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from index.calls import all_of
from index.filters import Filter
from index.places import Bucket
from index.rows import Bare
from index.sharded import MOST_ROWS, Shard, read_all
from proto.errors import WatchwordError
from proto.types import Moment


@dataclass(frozen=True, slots=True, order=True)
class Holding:
    """A bucket of one space on one shard."""

    shard: str
    space: str
    bucket: Bucket


@dataclass(frozen=True, slots=True)
class Holdings:
    """All there are, oldest first, and the shards that did not say what they have."""

    known: Sequence[Holding]
    missing: dict[str, WatchwordError]


class Removal:
    """Removes rows of any space. Raises the errors of the shards.

    Buckets with the rows of an earlier version are not among the holdings: their rows cannot be read.
    """

    def __init__(self, shards: Collection[str], opened: Callable[[str, str], Shard]) -> None:
        """`opened` gives the shard of this name for a space. It must make no bucket."""
        self._names = sorted(shards)
        self._opened = opened
        self._shards: dict[tuple[str, str], Shard] = {}

    async def holdings(self) -> Holdings:
        """Everything that is stored now."""
        asked = {name: self._shard(name, "0" * 16).buckets(fresh=True) for name in self._names}
        found, missing = await all_of(asked)
        known = [
            Holding(name, space, bucket)
            for name, by_space in found.items()
            for space, buckets in by_space.items()
            if " " not in space
            for bucket in buckets
        ]
        return Holdings(sorted(known, key=lambda one: (one.bucket.start_ms, one)), missing)

    async def rows(self, holding: Holding, which: Filter, most: int) -> list[Bare]:
        """Up to `most` rows that pass. Sees every upsert."""
        return await self._of(holding).rows(holding.bucket, which, most)

    async def read(self, holding: Holding, which: Filter, most: int) -> list[Moment] | None:
        """All moments that pass, unordered; None when they have `most` rows. Sees every upsert."""
        return await self._of(holding).read(holding.bucket, which, most)

    async def count(self, holding: Holding, which: Filter) -> int:
        """How many moments pass. Sees every upsert."""
        return await self._of(holding).count(holding.bucket, which)

    async def moments(self, holding: Holding, which: Filter) -> list[Moment]:
        """The moments that pass, whole. Sees every upsert."""
        return await read_all(self._of(holding), holding.bucket, which, MOST_ROWS)

    async def known(self, holding: Holding, ids: Sequence[str]) -> set[str]:
        """Those of these moments that are there. Sees every upsert."""
        return {one.id for one in await self._of(holding).fetch(holding.bucket, ids)} if ids else set()

    async def remove(self, holding: Holding, ids: Sequence[str]) -> None:
        """Delete the rows with these ids."""
        await self._of(holding).remove(holding.bucket, ids)

    async def drop(self, holding: Holding) -> None:
        """Delete the bucket with all that is in it."""
        await self._of(holding).drop(holding.bucket)

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        for shard in self._shards.values():
            await shard.close()

    def _of(self, holding: Holding) -> Shard:
        return self._shard(holding.shard, holding.space)

    def _shard(self, name: str, space: str) -> Shard:
        if (name, space) not in self._shards:
            self._shards[name, space] = self._opened(name, space)
        return self._shards[name, space]
