"""Moments in Milvus: one collection per space and time bucket.

Works with Milvus standalone 2.3 (the embedded one), Milvus >= 2.6, and milvus-lite 2.5 (a file path ending in
.db as the only endpoint, one process).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import grpc
from pymilvus import AsyncMilvusClient, MilvusException
from pymilvus.exceptions import DataNotMatchException

from index.calls import Silent
from index.filters import Filter, asked, expression, rows_filter
from index.marks import NO_MARK, Mark, mark_of
from index.milvus_calls import (
    consistency,
    create_empty,
    is_loaded,
    loaded_and_rows,
    make_mark,
    put,
    server_version,
)
from index.milvus_errors import STORE, WHICH_MILVUS, Missing, NotLoaded, Refused, translated
from index.milvus_kinds import Former, check_lite, index_for, is_lite
from index.milvus_memory import MilvusMemory
from index.places import Bucket, collection_name, collection_named, former_named
from index.rows import (
    BARE_FIELDS,
    HIT_FIELDS,
    MOST_ROWS_EACH,
    ROW_FIELDS,
    WHOLE_ROWS,
    Bare,
    bare_of,
    moments_from,
    rows_beyond,
    rows_of,
    scored,
    vectors_out_of,
)
from index.settings import MilvusSettings
from index.shard import Nearest, Shard
from index.sharded import MOST_ROWS, ShardedStore
from index.shards import ShardSet, listed
from index.store import Ask, Scored, best
from proto import tracing
from proto.errors import Invalid, WatchwordError
from proto.shards import KnownMap, ShardEntry, ShardMap
from proto.types import Moment, SpaceInfo

# pymilvus logs every error with a traceback; here they are translated and raised.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)

_MOMENTS_AT_ONCE = 500
_FIRST_ROWS_EACH = 3
"""How many rows for each moment a search asks for at first; if they are of too few moments, it asks for all. Asking for
all at once costs little more for ten moments, but twice the time for a thousand."""
_CALLS_AT_ONCE = 32
# Limit per bucket, so that hanging searches leave room for other buckets.
_SEARCHES_AT_ONCE = 8
_REFRESH_S = 1.0
# Inner product, which is the cosine for unit vectors.
_METRIC = "IP"

Result = TypeVar("Result")


class MilvusStore(ShardedStore):
    """A MomentStore over one or more Milvus servers.

    A search reads with bounded staleness: a moment is found a fraction of a second after its upsert. The other
    reads are strong.
    """

    def __init__(
        self, space: SpaceInfo, settings: MilvusSettings, most_rows: int = MOST_ROWS, known: KnownMap | None = None
    ) -> None:
        """The shards are those of the map that is known; without one, those of the settings, for good."""
        shards = ShardSet(known or listed(settings), partial(milvus_shard, space=space, settings=settings))
        super().__init__(space, settings, shards, most_rows)


def milvus_shard(
    entry: ShardEntry, of: ShardMap, *, space: SpaceInfo, settings: MilvusSettings, makes: bool = True
) -> Shard:
    """The shard of this entry of the map, for a space. Nothing is connected yet. Unless it `makes` buckets, one that is
    missing stays so."""
    return _MilvusShard(entry.address, space, settings, makes=makes, mark=mark_of(entry, of))


class _MilvusShard:
    def __init__(
        self, endpoint: str, space: SpaceInfo, settings: MilvusSettings, *, makes: bool = True, mark: Mark = NO_MARK
    ) -> None:
        self._makes = makes
        self._mark = mark
        self._endpoint = endpoint
        self._space = space
        self._settings = settings
        self._client: AsyncMilvusClient | None = None
        self._index: dict[str, Any] = {}
        self._connecting = asyncio.Lock()
        # One lock per bucket, so that a bucket that cannot be loaded does not block others.
        self._making: defaultdict[Bucket, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._searching: defaultdict[Bucket, asyncio.Semaphore] = defaultdict(
            partial(asyncio.Semaphore, _SEARCHES_AT_ONCE)
        )
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._known: set[Bucket] = set()
        self._others: Mapping[str, Collection[Bucket]] = {}
        self._known_at = -_REFRESH_S
        self._ready: set[Bucket] = set()
        self._former = Former()
        self._memory = MilvusMemory(settings.most_loaded_bytes, space.dimension, self._look)

    async def buckets(self, *, fresh: bool = False) -> Mapping[str, Collection[Bucket]]:
        asked_at = time.monotonic()
        if fresh or asked_at - self._known_at >= _REFRESH_S:
            names = await self._call("list collections", lambda milvus: milvus.list_collections(retry_times=1))
            self._mark.check(names, self._endpoint)
            self._former.tell(names, self._endpoint)
            by_space: defaultdict[str, set[Bucket]] = defaultdict(set)
            # What an earlier version stored is told like another space: it may answer the question and is not searched.
            for space, bucket in filter(None, (collection_named(name) or former_named(name) for name in names)):
                by_space[space].add(bucket)
            self._known = by_space.pop(self._space.id, set())
            self._others = by_space
            self._ready &= self._known
            self._known_at = asked_at
        return {**self._others, self._space.id: frozenset(self._known)}

    async def make(self, bucket: Bucket) -> None:
        await self._load(bucket)

    async def fitting(self, buckets: Collection[Bucket]) -> Collection[Bucket]:
        if not self._settings.most_loaded_bytes:
            return buckets
        there = (await self.buckets()).get(self._space.id, ())
        searched, leaving = await self._memory.room_for(buckets, {*there, *buckets})
        self._ready -= set(leaving)
        await asyncio.gather(*map(self._release, leaving))
        return searched

    async def upsert(self, bucket: Bucket, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        failed: dict[str, WatchwordError] = {}
        for first in range(0, len(moments), _MOMENTS_AT_ONCE):
            failed |= await self._store(bucket, moments[first : first + _MOMENTS_AT_ONCE])
        return failed

    async def _store(self, bucket: Bucket, moments: Sequence[Moment]) -> dict[str, WatchwordError]:
        """Store them. Milvus rejects the whole batch for one invalid row, so a rejected batch is retried in halves."""
        rows = [row for moment in moments for row in rows_of(moment)]
        gone = [row for moment in moments for row in rows_beyond(moment)]
        try:
            await self._in_bucket(bucket, STORE, partial(put, self._name(bucket), gone, rows), make=True)
        except Refused as error:
            if len(moments) == 1:
                return {moments[0].id: Invalid(error.message, todo="change what makes such a moment")}
            middle = len(moments) // 2
            return await self._store(bucket, moments[:middle]) | await self._store(bucket, moments[middle:])
        except WatchwordError as error:
            return {moment.id: error for moment in moments}
        return {}

    async def search(self, bucket: Bucket, ask: Ask) -> Nearest:
        hits: list[Scored] = []
        try:
            loading_s = await self._load(bucket)
        except Missing:
            return Nearest([])
        for rows_each in (_FIRST_ROWS_EACH, MOST_ROWS_EACH):
            most_rows = ask.limit * rows_each
            rows = await self._nearest(bucket, ask, most_rows)
            hits = best(rows, ask.limit)
            if len(hits) == ask.limit or len(rows) < most_rows:
                break
        return Nearest(hits, loading_s)

    async def _nearest(self, bucket: Bucket, ask: Ask, limit: int) -> list[Scored]:
        """The nearest rows that pass."""

        async def nearest(milvus: AsyncMilvusClient) -> Any:
            return await milvus.search(
                self._name(bucket),
                [ask.vector],
                filter=expression(asked(ask)),
                limit=limit,
                # HNSW returns at most `ef` neighbours; other indexes ignore it.
                search_params={"metric_type": _METRIC, "params": {"ef": max(128, 2 * limit)}},
                output_fields=[*HIT_FIELDS, "vector"] if ask.with_vectors else HIT_FIELDS,
                consistency_level="Bounded",
                retry_times=1,
            )

        try:
            async with self._searching[bucket]:
                replies = await self._in_bucket(bucket, "search", nearest, make=False)
        except Missing:
            return []
        (reply,) = replies
        vectors = vectors_out_of(reply)
        rows = [hit["entity"] | {"id": hit["id"]} for hit in reply]
        for row, vector in zip(rows, vectors, strict=False):
            row["vector"] = vector
        return [scored(row, float(hit["distance"]), self._space.id) for row, hit in zip(rows, reply, strict=True)]

    async def read(self, bucket: Bucket, which: Filter, most_rows: int) -> list[Moment] | None:
        rows = await self._query(bucket, expression(which), ROW_FIELDS, limit=most_rows)
        return moments_from(rows, self._space.id) if len(rows) < most_rows else None

    async def fetch(self, bucket: Bucket, ids: Sequence[str], *, exact: bool = True) -> list[Moment]:
        found: list[Moment] = []
        for first in range(0, len(ids), _MOMENTS_AT_ONCE):
            wanted = rows_filter(ids[first : first + _MOMENTS_AT_ONCE])
            rows = await self._query(bucket, wanted, ROW_FIELDS, consistency=consistency(exact))
            found += moments_from(rows, self._space.id)
        return found

    async def count(self, bucket: Bucket, which: Filter, *, exact: bool = True) -> int:
        passing = " and ".join(filter(None, (WHOLE_ROWS, expression(which))))
        rows = await self._query(bucket, passing, ["count(*)"], consistency=consistency(exact))
        return int(rows[0]["count(*)"]) if rows else 0

    async def rows(self, bucket: Bucket, which: Filter, most: int) -> list[Bare]:
        return [bare_of(row) for row in await self._query(bucket, expression(which), BARE_FIELDS, limit=most)]

    async def remove(self, bucket: Bucket, ids: Sequence[str]) -> None:
        if not ids:  # which pymilvus takes for a missing filter
            return

        async def remove(milvus: AsyncMilvusClient) -> Any:
            return await milvus.delete(self._name(bucket), ids=list(ids), retry_times=1)

        with suppress(Missing):
            await self._in_bucket(bucket, "delete moments", remove, make=False)

    async def drop(self, bucket: Bucket) -> None:
        self._ready.discard(bucket)
        with suppress(Missing):
            await self._call("drop a bucket", lambda milvus: milvus.drop_collection(self._name(bucket), retry_times=1))
        self._known.discard(bucket)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _query(
        self, bucket: Bucket, passing: str, wanted: list[str], *, consistency: str = "Strong", **limits: int
    ) -> list[dict[str, Any]]:
        async def rows(milvus: AsyncMilvusClient) -> Any:
            return await milvus.query(
                self._name(bucket),
                filter=passing,
                output_fields=wanted,
                consistency_level=consistency,
                retry_times=1,
                **limits,
            )

        try:
            return list(await self._in_bucket(bucket, "read moments", rows, make=False))
        except Missing:
            return []

    async def _in_bucket(
        self, bucket: Bucket, action: str, call: Callable[[AsyncMilvusClient], Awaitable[Result]], *, make: bool
    ) -> Result:
        """Load the bucket's collection and call. Without `make`, raises `Missing` if the collection is gone."""
        with self._memory.use.of(bucket):
            await self._load(bucket)
            try:
                return await self._call(action, call)
            except (Missing, NotLoaded) as error:
                self._ready.discard(bucket)
                if isinstance(error, Missing):
                    self._known.discard(bucket)
                    if not make:
                        raise
                await self._make(bucket, from_start=True)
                return await self._call(action, call)

    async def _load(self, bucket: Bucket) -> float:
        """Have the bucket in memory. The seconds that it took to load it; 0 when it was there."""
        if bucket in self._ready:
            return 0.0
        await self.fitting([bucket])
        return await self._make(bucket, from_start=bucket not in self._known)

    async def _make(self, bucket: Bucket, *, from_start: bool) -> float:
        """Load the collection. `from_start` also creates it and its index, which takes longer.

        Every step is idempotent, also across processes.
        """
        name = self._name(bucket)
        begun_s = time.monotonic()
        async with self._making[bucket]:
            if bucket in self._ready:
                return 0.0
            there = not from_start and await self._call("look at a collection", partial(is_loaded, name))
            if not there:
                with tracing.span("load", bucket=str(bucket)):
                    await self._call("create a collection", lambda milvus: self._create(milvus, name))
                    await self._call("load a collection", lambda milvus: milvus.load_collection(name, retry_times=1))
            self._known.add(bucket)
            self._ready.add(bucket)
        return 0.0 if there else time.monotonic() - begun_s

    async def _release(self, bucket: Bucket) -> None:
        name = self._name(bucket)
        async with self._making[bucket]:
            with suppress(WatchwordError):  # the next look at what is loaded tells
                await self._call("release a collection", lambda milvus: milvus.release_collection(name, retry_times=1))
            self._ready.discard(bucket)

    async def _look(self, bucket: Bucket) -> tuple[bool, int]:
        try:
            return await self._call("look at a collection", partial(loaded_and_rows, self._name(bucket)))
        except Missing:  # it is about to be made, or was dropped
            return False, 0

    async def _create(self, milvus: AsyncMilvusClient, name: str) -> None:
        # Creating it twice is allowed, except after a restart of Milvus, which then reports a different schema.
        if not await milvus.has_collection(name, retry_times=1):
            if not self._makes:
                raise Missing(f"Milvus at {self._endpoint} has no collection {name}", todo="it was dropped meanwhile")
            await create_empty(milvus, name, self._space.dimension)
        index = AsyncMilvusClient.prepare_index_params()
        index.add_index("vector", metric_type=_METRIC, **self._index)
        await milvus.create_index(name, index, retry_times=1)

    async def _call(self, action: str, call: Callable[[AsyncMilvusClient], Awaitable[Result]]) -> Result:
        """Make one call within the timeout and translate its errors."""
        try:
            async with asyncio.timeout(self._settings.timeout_s), self._calls:
                return await call(await self._connected())
        except TimeoutError as error:
            raise Silent(
                f"Milvus at {self._endpoint} did not {action} within {self._settings.timeout_s:g} s",
                todo="look at its load and its log, or raise the timeout",
            ) from error
        except DataNotMatchException as error:
            raise Refused(f"pymilvus could not {action} ({error.message[:300]})", todo=WHICH_MILVUS) from error
        except MilvusException as error:
            raise translated(self._endpoint, action, error.code, error.message) from error
        except grpc.RpcError as error:
            raise translated(self._endpoint, action, error.code(), str(error.details())) from error

    async def _connected(self) -> AsyncMilvusClient:
        async with self._connecting:
            if self._client is None:
                if is_lite(self._endpoint):
                    check_lite(self._endpoint)
                # For milvus-lite the constructor blocks: it starts a server process and waits for it.
                client = await asyncio.to_thread(
                    AsyncMilvusClient,
                    self._endpoint,
                    token=self._settings.token.get_secret_value(),
                    timeout=self._settings.timeout_s,
                    dedicated=True,
                )
                self._index = index_for(await server_version(client))
                self._client = client
            return self._client

    def _name(self, bucket: Bucket) -> str:
        return collection_name(self._space.id, bucket)


async def milvus_server(endpoint: str, settings: MilvusSettings) -> tuple[tuple[int, int], frozenset[str]]:
    """Ask one Milvus for its version, (0, 0) if it tells none, and the spaces of which it holds moments."""
    shard = _MilvusShard(endpoint, SpaceInfo("0" * 16, 2), settings)
    try:
        by_space = await shard.buckets(fresh=True)
        version = await shard._call("tell its version", server_version)
        return version, frozenset(space for space, buckets in by_space.items() if buckets)
    finally:
        await shard.close()


async def set_mark(address: str, mark: Mark, settings: MilvusSettings) -> None:
    """Have the store behind the address be this shard. Broken when it is another one, or is not what it was."""
    shard = _MilvusShard(address, SpaceInfo("0" * 16, 2), settings)
    try:
        names = await shard._call("list collections", lambda milvus: milvus.list_collections(retry_times=1))
        if not mark.check(names, address) and mark.cluster:
            await shard._call("mark a shard", partial(make_mark, mark.collection))
    finally:
        await shard.close()
