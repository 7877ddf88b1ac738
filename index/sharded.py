"""A MomentStore over several shards: which shards are asked, their deadlines, and merging the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from index.calls import Deadline, Key, PassedOver, Silence, Silent, all_of, all_soon, first, whole
from index.checks import check_ask, check_batch, check_filter
from index.counts import Counts, share_of
from index.filters import Filter, overlapping
from index.places import MOST_STRETCHES, Bucket, bucket_for, may_be_made, stretches
from index.reading import read_all
from index.settings import MilvusSettings
from index.shard import Nearest, Shard
from index.shards import ShardSet
from index.store import LATEST_MS, Answer, Ask, Scored, Unsearched, best, fullest
from proto import tracing
from proto.admission import waited_in_vain
from proto.errors import Invalid, Transient, WatchwordError
from proto.life import Gone
from proto.metrics import SHARDS_MISSING
from proto.types import Moment, SpaceInfo, check_moment_ids, now_ms, start_of

log = logging.getLogger("watchword.index")

MOST_ROWS = 4096
"""Most rows per read: a few MB, and well below Milvus' own limit of 16,384."""
_PATIENT_S = 1.0
"""A search that had less time does not judge a shard that did not answer: it may have asked for the impossible."""
_GRACE_S = 3.0
"""How much longer than another shard one may take for a search. Then it is named as missing, and passed over until it
answers again: else all questions of the first seconds would wait for a shard that hangs until their deadlines."""
_FORMER_S = 3.0
"""How long `between` waits for shards that are home to none of the cameras."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One shard's answer to a search."""

    hits: list[Scored]
    searched: Collection[Bucket]
    failed: Mapping[Bucket, WatchwordError]
    cold: Collection[Bucket]
    """What does not fit into memory beside what was searched."""
    loading_s: float
    spaces: Collection[str]
    moments: int
    """About how many moments passed the filter."""


class ShardedStore:
    """A MomentStore over the shards of a map: each camera has one home shard, and time is divided into buckets.

    Moments are written to the camera's home, and read from every shard that may have some by the map. A shard that
    refuses is tried at every call, so it is used as soon as it is back; one that hangs is passed over until it answers
    a probe. An existing bucket is used whatever its width.
    """

    def __init__(
        self,
        space: SpaceInfo,
        settings: MilvusSettings,
        shards: Mapping[str, Shard] | ShardSet,
        most_rows: int = MOST_ROWS,
    ) -> None:
        """Of shards without a map any may have moments of every camera."""
        self._space = space
        self._settings = settings
        self._longest_ms = settings.longest_moment_s * 1000
        self._most_rows = most_rows
        self._shards = shards if isinstance(shards, ShardSet) else ShardSet.fixed(shards)
        self._silence = Silence(self._probe)
        self._preparing: dict[tuple[str, Bucket], asyncio.Task[None]] = {}
        self._counts = Counts()

    @property
    def space(self) -> SpaceInfo:
        return self._space

    async def open(self) -> None:
        asked = self._asked(None)
        _, missing = await all_of({name: shard.buckets(fresh=True) for name, shard in asked.items()})
        if len(missing) == len(asked):
            raise first(missing)
        for error in missing.values():
            log.warning("%s", error)

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        left, failed = check_batch(moments, self._space, self._longest_ms)
        while left:
            homes: dict[str, list[Moment]] = {}
            for moment in left:
                name = self._shards.writable(moment.camera)
                if name is None:
                    failed[moment.id] = _being_moved(moment)
                else:
                    homes.setdefault(name, []).append(moment)
            failed |= await _stored(homes, self._upsert_at)
            # A camera whose home changed meanwhile: its former one may have been emptied before this was stored there.
            left = [
                moment
                for name, some in homes.items()
                for moment in some
                if moment.id not in failed and self.shard_of(moment.camera) != name
            ]
        return failed

    async def between(self, cameras: frozenset[str], start_ms: int, end_ms: int) -> list[Moment]:
        check_filter(cameras, start_ms, end_ms)
        if not cameras:
            return []
        which = overlapping(cameras, start_ms, end_ms)
        known = self._shards.map
        needed = known.needed(cameras)
        parts, missing = await all_of(
            {
                name: self._read(name, which) if name in needed else self._read_soon(name, which)
                for name in sorted(known.places(cameras))
            }
        )
        for name, error in missing.items():
            if isinstance(error, Silent):
                self._silence.begins(name)
            if name in needed:
                raise error
            log.warning("moments from before there was a map of shards may be missing: %s", error)
        found = fullest(moment for part in parts.values() for moment in part)
        return sorted(found.values(), key=lambda moment: (moment.camera, moment.start_ms, moment.id))

    async def search(self, ask: Ask) -> Answer:
        check_ask(ask, self._space)
        if ask.cameras is not None and not ask.cameras:
            return Answer([])
        deadline_s = min(ask.timeout_s or self._settings.timeout_s, self._settings.timeout_s)
        asked = self._asked(ask.cameras)
        searches = {name: self._search_shard(name, ask, deadline_s, alone=len(asked) == 1) for name in asked}
        parts, missing = await all_soon(searches, _GRACE_S)
        if parts and any(isinstance(error, Silent) and not isinstance(error, PassedOver) for error in missing.values()):
            waited_in_vain()
        for name, error in missing.items():
            if isinstance(error, Silent) and deadline_s >= _PATIENT_S:
                self._silence.begins(name)
            SHARDS_MISSING.inc()
            log.warning("%s", error)
        if not parts:
            raise first(missing)
        time_asked = (ask.start_ms or 0, LATEST_MS if ask.end_ms is None else ask.end_ms)
        return Answer(
            best((hit for part in parts.values() for hit in part.hits), ask.limit),
            shards_missing=sorted(missing),
            shards_searched=len(parts),
            buckets_searched=len({bucket for part in parts.values() for bucket in part.searched}),
            unsearched=[
                *(Unsearched(name, *time_asked) for name in sorted(missing)),
                *(Unsearched(name, b.start_ms, b.end_ms) for name, part in parts.items() for b in sorted(part.failed)),
                *(Unsearched(name, *time, cold=True) for name, part in parts.items() for time in stretches(part.cold)),
            ],
            loading_s=max(part.loading_s for part in parts.values()),
            moments_searched=sum(part.moments for part in parts.values()),
            spaces=sorted({space for part in parts.values() for space in part.spaces}),
        )

    async def fetch(self, ids: Sequence[str], *, exact: bool = True) -> list[Moment]:
        check_moment_ids(ids)
        if not ids:
            return []
        parts, missing = await all_of(
            {name: self._fetch_from(shard, ids, exact) for name, shard in self._asked(None).items()}
        )
        found = fullest(moment for part in parts.values() for moment in part)
        if missing and not found.keys() >= set(ids):
            raise first(missing)
        return [found[name] for name in ids if name in found]

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        check_filter(cameras, start_ms, end_ms)
        if cameras is not None and not cameras:
            return 0
        which = overlapping(cameras, start_ms, end_ms)
        asked = self._asked(cameras)
        return sum(await whole({name: self._count_in(shard, which) for name, shard in asked.items()}))

    async def close(self) -> None:
        preparing = list(self._preparing.values())
        for task in preparing:
            task.cancel()
        await asyncio.gather(*preparing, self._silence.close(), self._counts.close(), return_exceptions=True)
        await self._shards.close()

    def shard_of(self, camera: str) -> str:
        return self._shards.map.home(camera)

    def cameras_at(self, shard: str, cameras: Iterable[str]) -> list[str]:
        return [camera for camera in cameras if shard in self._shards.map.places({camera})]

    def _asked(self, cameras: frozenset[str] | None) -> dict[str, Shard]:
        """The shards that may have moments of these cameras (None: of any)."""
        return {name: self._shards.get(name) for name in sorted(self._shards.map.places(cameras))}

    async def _probe(self, name: str) -> None:
        """Ask the shard something that it must have its moments at hand for: after a restart a Milvus tells what
        collections it has long before it has loaded them, and searches hang meanwhile."""
        shard = self._shards.get(name)
        held = (await shard.buckets(fresh=True)).get(self._space.id, ())
        if held:
            await shard.count(max(held, key=lambda one: one.end_ms), Filter(), exact=False)

    async def _upsert_at(self, name: str, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        """Store moments of cameras whose home this is. Raises when the shard is down."""
        self._silence.check(name)
        shard = self._shards.get(name)
        try:
            existing = (await shard.buckets()).get(self._space.id, ())
        except Silent:
            self._silence.begins(name)
            raise
        groups, refused = planned(moments, existing, self._settings.bucket_hours)
        failed = await _stored(groups, shard.upsert)
        if any(isinstance(error, Silent) for error in failed.values()):
            self._silence.begins(name)
        for bucket, rows in groups.items():
            latest_ms = max((moment.start_ms for moment in rows if moment.id not in failed), default=0)
            if bucket.nearly_over(latest_ms):
                self._prepare(name, bucket_for(bucket.end_ms, self._settings.bucket_hours, existing), existing)
        return refused | failed

    async def _search_shard(self, name: str, ask: Ask, deadline_s: float, *, alone: bool) -> _Part:
        """The answers of the shard's buckets within the deadline. Raises when none answers, and at once when the shard
        hangs, unless it is `alone`: then there is nothing else to answer with."""
        if not alone:
            self._silence.check(name)
        with tracing.span("shard", shard=name):
            return await self._search_buckets(name, ask, deadline_s)

    async def _search_buckets(self, name: str, ask: Ask, deadline_s: float) -> _Part:
        shard = self._shards.get(name)
        deadline = Deadline(name, deadline_s)
        with tracing.span("buckets"):
            by_space = await deadline.of(shard.buckets())
            in_time = {
                space: [b for b in self._in_time(buckets, ask.start_ms, ask.end_ms) if not _is_over(b, ask.without)]
                for space, buckets in by_space.items()
            }
        own = in_time.pop(self._space.id, [])
        fit = await deadline.of(shard.fitting(own))
        found, failed = await all_of({bucket: deadline.of(_search_bucket(shard, bucket, ask)) for bucket in fit})
        if failed and not found:
            raise first(failed)
        if failed:
            log.warning("%d of %d buckets at %s were not searched: %s", len(failed), len(fit), name, first(failed))
        hits = {bucket: one.hits for bucket, one in found.items()}
        return _Part(
            hits=[hit for some in hits.values() for hit in some],
            searched=found.keys(),
            failed=failed,
            cold=set(own) - set(fit),
            loading_s=max((one.loading_s for one in found.values()), default=0.0),
            spaces=[space for space, buckets in in_time.items() if buckets],
            moments=await self._passing(name, hits, ask, deadline),
        )

    async def _passing(self, name: str, found: Mapping[Bucket, list[Scored]], ask: Ask, deadline: Deadline) -> int:
        """About how many moments of these buckets pass the filter: all that were found, if more were asked for."""
        cut = [bucket for bucket, hits in found.items() if len(hits) >= ask.limit]
        returned = sum(len(hits) for hits in found.values())
        if not cut:
            return returned
        with tracing.span("count", buckets=len(cut)):
            estimates = await asyncio.gather(*(self._estimate(name, bucket, ask, deadline) for bucket in cut))
        return returned + sum(
            max(0, estimate - len(found[bucket])) for bucket, estimate in zip(cut, estimates, strict=True)
        )

    async def _estimate(self, name: str, bucket: Bucket, ask: Ask, deadline: Deadline) -> int:
        """The moments of the bucket that pass but for the time, scaled by it; 0 when they are not counted in time.

        The time is not counted by: most questions ask about another one.
        """
        # Nor by age, which changes each minute: an old number is better than none.
        which = overlapping(ask.cameras, None, None, ask.objects, Gone(erased=ask.without.erased))
        count = partial(self._shards.get(name).count, bucket, which, exact=False)
        number = await self._counts.about((name, bucket, which), count, deadline.left_s)
        return round((number or 0) * share_of(bucket, ask.start_ms, ask.end_ms, now_ms()))

    async def _read_soon(self, name: str, which: Filter) -> list[Moment]:
        """Like `_read`, with a short deadline, for a shard whose answer is optional."""
        return await Deadline(name, min(_FORMER_S, self._settings.timeout_s)).of(self._read(name, which))

    async def _read(self, name: str, which: Filter) -> list[Moment]:
        """All moments of the shard that pass."""
        self._silence.check(name)
        shard = self._shards.get(name)
        held = (await shard.buckets(fresh=True)).get(self._space.id, ())
        buckets = self._in_time(held, which.ends_from, which.starts_before)
        parts = await whole({bucket: self._read_bucket(shard, bucket, which) for bucket in buckets})
        return [moment for part in parts for moment in part]

    async def _read_bucket(self, shard: Shard, bucket: Bucket, which: Filter) -> list[Moment]:
        """All moments of the bucket that pass."""
        return await read_all(lambda part: shard.read(bucket, part, self._most_rows), bucket, which)

    async def _fetch_from(self, shard: Shard, ids: Sequence[str], exact: bool) -> list[Moment]:
        held = (await shard.buckets(fresh=exact)).get(self._space.id, ())
        wanted = {bucket: [name for name in ids if bucket.holds(start_of(name))] for bucket in held}
        parts = await whole({bucket: shard.fetch(bucket, own, exact=exact) for bucket, own in wanted.items() if own})
        return [moment for part in parts for moment in part]

    async def _count_in(self, shard: Shard, which: Filter) -> int:
        held = (await shard.buckets(fresh=True)).get(self._space.id, ())
        buckets = self._in_time(held, which.ends_from, which.starts_before)
        return sum(await whole({bucket: shard.count(bucket, which) for bucket in buckets}))

    def _in_time(self, buckets: Collection[Bucket], start_ms: int | None, end_ms: int | None) -> list[Bucket]:
        return sorted(bucket for bucket in buckets if bucket.touches(start_ms, end_ms, self._longest_ms))

    def _prepare(self, name: str, bucket: Bucket, existing: Collection[Bucket]) -> None:
        """Make the next bucket in the background: Milvus needs seconds for it, and no moment should wait."""
        if bucket not in existing and (name, bucket) not in self._preparing:
            task = asyncio.create_task(self._shards.get(name).make(bucket))
            self._preparing[name, bucket] = task
            task.add_done_callback(lambda done: self._prepared(name, bucket, done))

    def _prepared(self, name: str, bucket: Bucket, task: asyncio.Task[None]) -> None:
        del self._preparing[name, bucket]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("the next time bucket could not be made ahead, it is made when needed: %s", error)


def planned(
    moments: Sequence[Moment], existing: Collection[Bucket], hours: int
) -> tuple[dict[Bucket, list[Moment]], dict[str, WatchwordError]]:
    """The moments by the bucket that stores them, and errors for those whose bucket may not be made."""
    groups: dict[Bucket, list[Moment]] = {}
    refused: dict[str, WatchwordError] = {}
    usable = set(existing)
    for moment in moments:
        bucket = bucket_for(moment.start_ms, hours, usable)
        if may_be_made(bucket, usable):
            usable.add(bucket)
            groups.setdefault(bucket, []).append(moment)
        else:
            refused[moment.id] = Invalid(
                f"moment {moment.id} of {moment.camera} starts at {moment.start_ms}, more than a week from all "
                f"others, and there are {MOST_STRETCHES} such stretches of time already",
                todo="set the clock of the camera, and drop the collections of times that never were",
            )
    return groups, refused


def _being_moved(moment: Moment) -> Transient:
    return Transient(
        f"{moment.camera} is being moved to another shard, and the catalog does not say whether it is there yet",
        todo="nothing: it is stored when the catalog answers",
    )


async def _search_bucket(shard: Shard, bucket: Bucket, ask: Ask) -> Nearest:
    with tracing.span("bucket", bucket=str(bucket)):
        return await shard.search(bucket, ask)


def _is_over(bucket: Bucket, gone: Gone) -> bool:
    """Whether everything in the bucket is gone, whatever it is."""
    return bucket.end_ms <= gone.floor_ms and not gone.held


async def _stored(
    groups: Mapping[Key, Sequence[Moment]],
    store: Callable[[Key, Sequence[Moment]], Awaitable[Mapping[str, WatchwordError]]],
) -> dict[str, WatchwordError]:
    """Store all groups concurrently. Returns what was not stored, by id; a failed call counts for its whole group."""
    parts, wrong = await all_of({key: store(key, moments) for key, moments in groups.items()})
    failed = {name: error for part in parts.values() for name, error in part.items()}
    return failed | {moment.id: error for key, error in wrong.items() for moment in groups[key]}
