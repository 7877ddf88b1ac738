"""A MomentStore over several shards: who is asked, for how long, and how the answers become one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from index.filters import moments_filter
from index.places import Bucket, bucket_of, home
from index.settings import MilvusSettings
from index.store import Answer, Ask, Scored, best, check_ask, check_filter, last_of_each
from proto.errors import Invalid, Transient, WatchwordError
from proto.metrics import SHARDS_MISSING
from proto.types import Moment, SpaceInfo, check_moment_ids

log = logging.getLogger("watchword.index")

Key = TypeVar("Key")
Result = TypeVar("Result")


class Shard(Protocol):
    """One endpoint with some of the cameras, in time buckets. Raises only errors of our tree."""

    async def buckets(self, *, fresh: bool = False) -> list[Bucket]:
        """The buckets that exist. Unless `fresh`, one that another process just made may be missing for a second."""

    async def make(self, bucket: Bucket) -> None:
        """Make the bucket unless it exists, ready for all below."""

    async def upsert(self, bucket: Bucket, moments: Sequence[Moment]) -> None:
        """Store them in the bucket, which is made when needed."""

    async def search(self, bucket: Bucket, ask: Ask, passing: str) -> list[Scored]:
        """The best of the bucket that pass the filter expression. Nothing when the bucket is gone, as below."""

    async def fetch(self, bucket: Bucket, ids: Sequence[str]) -> list[Moment]:
        """Those of the ids that are in the bucket."""

    async def count(self, bucket: Bucket, passing: str) -> int:
        """How many of the bucket pass."""

    async def close(self) -> None:
        """Let go of the connection."""


class ShardedStore:
    """A MomentStore over shards by their endpoint: each camera has one home, and time is cut into buckets.

    A shard that is away fails upserts with Transient and is named in `Answer.shards_missing`; it is asked
    again at every call, so it is used as soon as it is back.
    """

    def __init__(self, space: SpaceInfo, settings: MilvusSettings, shards: Mapping[str, Shard]) -> None:
        self._space = space
        self._settings = settings
        self._longest_ms = settings.longest_moment_s * 1000
        self._shards = dict(shards)
        self._preparing: dict[tuple[str, Bucket], asyncio.Task[None]] = {}

    @property
    def space(self) -> SpaceInfo:
        return self._space

    async def open(self) -> None:
        _, missing = await _all({name: shard.buckets(fresh=True) for name, shard in self._shards.items()})
        if len(missing) == len(self._shards):
            raise _first(missing)
        for error in missing.values():
            log.warning("%s", error)

    async def upsert(self, moments: Sequence[Moment]) -> None:
        groups: dict[tuple[str, Bucket], list[Moment]] = {}
        for moment in last_of_each(moments, self._space):
            self._check_length(moment)
            place = (home(moment.camera, list(self._shards)), bucket_of(moment.start_ms, self._settings.bucket_hours))
            groups.setdefault(place, []).append(moment)
        _, missing = await _all(
            {(name, bucket): self._shards[name].upsert(bucket, rows) for (name, bucket), rows in groups.items()}
        )
        if missing:
            raise _first(missing)
        for (name, bucket), rows in groups.items():
            if bucket.nearly_over(max(moment.start_ms for moment in rows)):
                self._prepare(name, bucket.next)

    async def search(self, ask: Ask) -> Answer:
        check_ask(ask, self._space)
        shards = self._touched(ask.cameras)
        if not shards:
            return Answer([])
        passing = moments_filter(ask.cameras, ask.start_ms, ask.end_ms)
        answers, missing = await _all({name: self._search_shard(name, ask, passing) for name in shards})
        for error in missing.values():
            SHARDS_MISSING.inc()
            log.warning("%s", error)
        if not answers:
            raise _first(missing)
        return Answer(
            best((hit for hits, _ in answers.values() for hit in hits), ask.limit),
            shards_missing=sorted(missing),
            shards_searched=len(answers),
            buckets_searched=len({bucket for _, buckets in answers.values() for bucket in buckets}),
        )

    async def fetch(self, ids: Sequence[str]) -> list[Moment]:
        check_moment_ids(ids)
        if not ids:
            return []
        parts, missing = await _all({name: self._fetch_from(shard, ids) for name, shard in self._shards.items()})
        found = {moment.id: moment for part in parts.values() for moment in part}
        if missing and not found.keys() >= set(ids):
            raise _first(missing)
        return [found[name] for name in ids if name in found]

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        check_filter(cameras, start_ms, end_ms)
        shards = self._touched(cameras)
        if not shards:
            return 0
        passing = moments_filter(cameras, start_ms, end_ms)
        counts, missing = await _all(
            {name: self._count_in(shard, passing, start_ms, end_ms) for name, shard in shards.items()}
        )
        if missing:
            raise _first(missing)
        return sum(counts.values())

    async def close(self) -> None:
        for task in self._preparing.values():
            task.cancel()
        await asyncio.gather(*self._preparing.values(), return_exceptions=True)
        self._preparing.clear()
        for shard in self._shards.values():
            await shard.close()

    def _check_length(self, moment: Moment) -> None:
        if moment.end_ms - moment.start_ms > self._longest_ms:
            raise Invalid(
                f"moment {moment.id} of {moment.camera} is longer than {self._settings.longest_moment_s} s: "
                "a search could miss it",
                todo="raise the index's longest_moment_s above the longest moment of the stream",
            )

    def _touched(self, cameras: frozenset[str] | None) -> dict[str, Shard]:
        if cameras is None:
            return self._shards
        homes = {home(camera, list(self._shards)) for camera in cameras}
        return {name: shard for name, shard in self._shards.items() if name in homes}

    async def _search_shard(self, name: str, ask: Ask, passing: str) -> tuple[list[Scored], list[Bucket]]:
        shard = self._shards[name]
        deadline_s = min(ask.timeout_s or self._settings.timeout_s, self._settings.timeout_s)
        try:
            async with asyncio.timeout(deadline_s):
                buckets = self._in_time(await shard.buckets(), ask.start_ms, ask.end_ms)
                parts = await asyncio.gather(*(shard.search(bucket, ask, passing) for bucket in buckets))
        except TimeoutError as error:
            raise Transient(
                f"Milvus at {name} did not answer a search within {deadline_s:g} s",
                todo="look at its load and its log, or raise the timeout",
            ) from error
        return best((hit for hits in parts for hit in hits), ask.limit), buckets

    async def _fetch_from(self, shard: Shard, ids: Sequence[str]) -> list[Moment]:
        buckets = await shard.buckets(fresh=True)
        parts = await asyncio.gather(*(shard.fetch(bucket, ids) for bucket in buckets))
        return [moment for part in parts for moment in part]

    async def _count_in(self, shard: Shard, passing: str, start_ms: int | None, end_ms: int | None) -> int:
        buckets = self._in_time(await shard.buckets(fresh=True), start_ms, end_ms)
        return sum(await asyncio.gather(*(shard.count(bucket, passing) for bucket in buckets)))

    def _in_time(self, buckets: Iterable[Bucket], start_ms: int | None, end_ms: int | None) -> list[Bucket]:
        return [bucket for bucket in buckets if bucket.touches(start_ms, end_ms, self._longest_ms)]

    def _prepare(self, name: str, bucket: Bucket) -> None:
        """Make the next bucket in the background: it takes Milvus seconds, and no moment should wait for it."""
        if (name, bucket) not in self._preparing:
            self._preparing[name, bucket] = asyncio.create_task(self._shards[name].make(bucket))
            self._preparing[name, bucket].add_done_callback(_tell_failure)


async def _all(calls: Mapping[Key, Awaitable[Result]]) -> tuple[dict[Key, Result], dict[Key, WatchwordError]]:
    """Make all calls at once: what they gave, and what went wrong in our tree. Other errors are raised."""
    outcomes = await asyncio.gather(*calls.values(), return_exceptions=True)
    given: dict[Key, Result] = {}
    wrong: dict[Key, WatchwordError] = {}
    for key, outcome in zip(calls, outcomes, strict=True):
        if isinstance(outcome, WatchwordError):
            wrong[key] = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            given[key] = outcome
    return given, wrong


def _first(missing: Mapping[Key, WatchwordError]) -> WatchwordError:
    return next(iter(missing.values()))


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("the next time bucket could not be made ahead, it is made when needed: %s", error)
