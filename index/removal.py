"""What is stored, for whoever removes, exports or copies it: every bucket of every space on every shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from index.calls import all_of
from index.filters import Filter
from index.places import Bucket
from index.reading import read_all
from index.rows import Bare
from index.shard import Shard
from index.sharded import MOST_ROWS
from index.shards import ShardSet
from proto.errors import WatchwordError
from proto.shards import KnownMap, ShardEntry, ShardMap
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


class Opened(Protocol):
    """Gives the shard of an entry of the map for a space, without connecting. It makes no bucket."""

    def __call__(self, entry: ShardEntry, of: ShardMap, /, *, space: str) -> Shard: ...


class Removal:
    """Removes rows of any space. Raises the errors of the shards.

    Buckets with the rows of an earlier version are not among the holdings: their rows cannot be read.
    """

    def __init__(self, known: KnownMap, opened: Opened) -> None:
        self._known = known
        self._opened = opened
        self._spaces: dict[str, ShardSet] = {}

    async def holdings(self) -> Holdings:
        """Everything that is stored now, also where the map does not look for it: on every shard that is not gone."""
        names = [entry.name for entry in self._known.map().serving]
        asked = {name: self._shard(name, "0" * 16).buckets(fresh=True) for name in names}
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
        shard = self._of(holding)
        return await read_all(lambda part: shard.read(holding.bucket, part, MOST_ROWS), holding.bucket, which)

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
        for shards in self._spaces.values():
            await shards.close()

    def _of(self, holding: Holding) -> Shard:
        return self._shard(holding.shard, holding.space)

    def _shard(self, name: str, space: str) -> Shard:
        if space not in self._spaces:
            self._spaces[space] = ShardSet(self._known, partial(self._opened, space=space))
        return self._spaces[space].get(name)
