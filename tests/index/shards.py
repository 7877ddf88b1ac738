"""Shards in memory, which can be away or hang (real servers do not do so for one bucket at will), and a store over
three."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from index.calls import Silent
from index.filters import Filter, asked
from index.loaded import fitting
from index.memory import nearest
from index.places import Bucket, bucket_of
from index.rows import Bare, bare_rows
from index.settings import MilvusSettings
from index.shard import Nearest
from index.sharded import ShardedStore
from index.store import Ask
from proto.errors import Transient, WatchwordError
from proto.shards import home
from proto.types import Moment, SpaceInfo
from tests.contracts.moments import NOON, SPACE, moment, unit

AWAY = Transient("this shard is away", todo="start it")
Held = dict[str, dict[Bucket, dict[str, Moment]]]
"""By space, bucket and id."""


@dataclass
class MemoryShard:
    """A Shard over what it is given to hold, which may be another shard's too."""

    space: SpaceInfo
    everything: Held = field(default_factory=dict)
    away: bool = False
    hangs: bool = False
    silent: bool = False
    """It hangs, and the deadline of every call to it has passed."""
    most_loaded: int = 0
    """How many buckets fit into memory; 0: all."""
    buckets_away: set[Bucket] = field(default_factory=set)
    buckets_hang: set[Bucket] = field(default_factory=set)
    asked: list[tuple[str, Bucket]] = field(default_factory=list)
    """The calls on a bucket so far."""

    @property
    def held(self) -> dict[Bucket, dict[str, Moment]]:
        return self.everything.setdefault(self.space.id, {})

    async def buckets(self, *, fresh: bool = False) -> Mapping[str, Collection[Bucket]]:
        await self._act()
        return {space: frozenset(buckets) for space, buckets in self.everything.items()}

    async def make(self, bucket: Bucket) -> None:
        await self._act("make", bucket)
        self.held.setdefault(bucket, {})

    async def upsert(self, bucket: Bucket, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        await self._act("upsert", bucket)
        self.held.setdefault(bucket, {}).update({m.id: m for m in moments})
        return {}

    async def fitting(self, buckets: Collection[Bucket]) -> Collection[Bucket]:
        return fitting(buckets, dict.fromkeys(buckets, 1), self.most_loaded) if self.most_loaded else buckets

    async def search(self, bucket: Bucket, ask: Ask) -> Nearest:
        await self._act("search", bucket)
        return Nearest(nearest(list(self._passing(bucket, asked(ask))), ask))

    async def read(self, bucket: Bucket, which: Filter, most_rows: int) -> list[Moment] | None:
        await self._act("read", bucket)
        moments = list(self._passing(bucket, which))
        return moments if sum(1 + len(m.regions) for m in moments) < most_rows else None

    async def fetch(self, bucket: Bucket, ids: Sequence[str], *, exact: bool = True) -> list[Moment]:
        await self._act("fetch", bucket)
        return [self.held[bucket][name] for name in ids if name in self.held[bucket]]

    async def count(self, bucket: Bucket, which: Filter, *, exact: bool = True) -> int:
        await self._act("count" if exact else "about", bucket)
        return len(list(self._passing(bucket, which)))

    async def rows(self, bucket: Bucket, which: Filter, most: int) -> list[Bare]:
        await self._act("rows", bucket)
        return [row for moment in self._passing(bucket, which) for row in bare_rows(moment)][:most]

    async def remove(self, bucket: Bucket, ids: Sequence[str]) -> None:
        """Of a moment whose whole picture goes nothing is left; a region alone goes from its moment."""
        await self._act("remove", bucket)
        held = self.held.get(bucket, {})
        for name in ids:
            held.pop(name, None)

    async def drop(self, bucket: Bucket) -> None:
        await self._act("drop", bucket)
        self.held.pop(bucket, None)

    async def close(self) -> None:
        return None

    def _passing(self, bucket: Bucket, which: Filter) -> Iterator[Moment]:
        return filter(which.passes, self.held.get(bucket, {}).values())

    async def _act(self, call: str = "", bucket: Bucket | None = None) -> None:
        if bucket:
            self.asked.append((call, bucket))
        if self.silent:
            raise Silent("this shard did not answer in time", todo="wake it")
        if self.away or bucket in self.buckets_away:
            raise AWAY
        while self.hangs or bucket in self.buckets_hang:  # noqa: ASYNC110 - set by a test
            await asyncio.sleep(0.01)


ENDPOINTS = ("http://a", "http://b", "http://c")
CAMERAS = [f"camera-{n}" for n in range(30)]
MOMENTS = [moment(name, NOON + n * 7, vector=unit(n)) for n, name in enumerate(CAMERAS)]
TODAY = bucket_of(NOON, 24)


def over(shards: dict[str, MemoryShard], **settings: float) -> ShardedStore:
    return ShardedStore(SPACE, MilvusSettings.model_validate({"endpoints": tuple(shards), **settings}), shards)


def days_of(first: Bucket, days: int) -> list[Bucket]:
    return [Bucket(first.hours, first.number + n) for n in range(days)]


def at_home(name: str) -> list[str]:
    return [camera for camera in CAMERAS if home(camera, ENDPOINTS) == name]
