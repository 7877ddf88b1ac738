"""Several shards as one store: who is asked, what a shard that is away does to an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from index.memory import MemoryStore, bare
from index.places import Bucket, bucket_of, home
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask, Scored, best
from proto.errors import Invalid, Transient
from proto.types import Moment
from tests.contracts.moments import MINUTE, NOON, SPACE, ids, moment, ranked, unit, until

AWAY = Transient("this shard is away", todo="start it")


class MemoryShard:
    """A shard that holds its moments in memory, and does `trouble` before every call."""

    def __init__(self) -> None:
        self.held: dict[Bucket, dict[str, Moment]] = {}
        self.asked: list[Bucket] = []
        self.trouble: Callable[[], None] = lambda: None
        self.hangs = False

    async def buckets(self, *, fresh: bool = False) -> list[Bucket]:
        await self._act()
        return sorted(self.held)

    async def make(self, bucket: Bucket) -> None:
        await self._act()
        self.held.setdefault(bucket, {})

    async def upsert(self, bucket: Bucket, moments: Sequence[Moment]) -> None:
        await self.make(bucket)
        self.held[bucket].update({m.id: m for m in moments})

    async def search(self, bucket: Bucket, ask: Ask, passing: str) -> list[Scored]:
        await self._act()
        self.asked.append(bucket)
        twin = MemoryStore(SPACE)
        await twin.upsert(list(self.held[bucket].values()))
        return (await twin.search(ask)).hits

    async def fetch(self, bucket: Bucket, ids: Sequence[str]) -> list[Moment]:
        await self._act()
        return [self.held[bucket][name] for name in ids if name in self.held[bucket]]

    async def count(self, bucket: Bucket, passing: str) -> int:
        await self._act()
        return len(self.held[bucket])

    async def close(self) -> None:
        return None

    async def _act(self) -> None:
        self.trouble()
        if self.hangs:
            await asyncio.Event().wait()


def away() -> None:
    raise AWAY


ENDPOINTS = ("http://a", "http://b", "http://c")
CAMERAS = [f"camera-{n}" for n in range(30)]
MOMENTS = [moment(name, NOON + n * 7, vector=unit(n)) for n, name in enumerate(CAMERAS)]


@pytest.fixture
def shards() -> dict[str, MemoryShard]:
    return {name: MemoryShard() for name in ENDPOINTS}


@pytest.fixture
async def store(shards: dict[str, MemoryShard]) -> ShardedStore:
    store = ShardedStore(SPACE, MilvusSettings(endpoints=ENDPOINTS, timeout_s=5.0), shards)
    await store.upsert(MOMENTS)
    return store


async def test_hits_of_all_shards_are_merged_exactly(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    assert all(shard.held for shard in shards.values())
    answer = await store.search(Ask(unit(99), 12))
    assert ids(answer.hits) == ranked(MOMENTS, unit(99))[:12]
    assert (answer.shards_searched, answer.buckets_searched, answer.shards_missing) == (3, 1, [])


async def test_a_camera_is_asked_of_its_home_only(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    answer = await store.search(Ask(unit(99), 5, frozenset({CAMERAS[0]})))
    assert [name for name, shard in shards.items() if shard.asked] == [home(CAMERAS[0], ENDPOINTS)]
    assert answer.shards_searched == 1


async def test_a_shard_that_is_away_is_named_and_the_others_answer(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://b"].trouble = away
    answer = await store.search(Ask(unit(99), 40))
    there = [m for m in MOMENTS if home(m.camera, ENDPOINTS) != "http://b"]
    assert ids(answer.hits) == ranked(there, unit(99))
    assert (answer.shards_missing, answer.shards_searched) == (["http://b"], 2)


async def test_a_shard_that_hangs_is_missing_after_the_time_of_the_question(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://b"].hangs = True
    begun = time.monotonic()
    answer = await store.search(Ask(unit(99), 40, timeout_s=0.05))
    assert answer.shards_missing == ["http://b"]
    assert time.monotonic() - begun < 2.0


async def test_a_shard_that_is_back_is_searched_again(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    shards["http://b"].trouble = away
    assert (await store.search(Ask(unit(99), 5))).shards_missing == ["http://b"]
    shards["http://b"].trouble = lambda: None
    assert (await store.search(Ask(unit(99), 5))).shards_missing == []


async def test_a_search_that_no_shard_answers_fails(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    for shard in shards.values():
        shard.trouble = away
    with pytest.raises(Transient, match="start it"):
        await store.search(Ask(unit(99), 5))


async def test_an_upsert_fails_when_a_shard_it_needs_is_away_and_may_be_repeated(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://b"].trouble = away
    batch = [moment(name, NOON + MINUTE) for name in CAMERAS]
    with pytest.raises(Transient):
        await store.upsert(batch)
    shards["http://b"].trouble = lambda: None
    await store.upsert(batch)
    assert await store.count() == 2 * len(CAMERAS)


async def test_truth_is_not_told_while_a_shard_is_away(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    shards["http://b"].trouble = away
    with pytest.raises(Transient):
        await store.count()
    with pytest.raises(Transient):
        await store.fetch([m.id for m in MOMENTS])
    here = [m for m in MOMENTS if home(m.camera, ENDPOINTS) != "http://b"]
    assert [m.id for m in await store.fetch([m.id for m in here])] == [m.id for m in here]


async def test_a_store_opens_while_one_shard_is_there(shards: dict[str, MemoryShard]) -> None:
    store = ShardedStore(SPACE, MilvusSettings(), shards)
    shards["http://a"].trouble = shards["http://b"].trouble = away
    await store.open()
    shards["http://c"].trouble = away
    with pytest.raises(Transient):
        await store.open()


async def test_only_the_buckets_that_a_search_can_touch_are_searched(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    day = 24 * 60 * MINUTE
    camera = CAMERAS[0]
    await store.upsert([moment(camera, NOON + n * day) for n in range(-3, 4)])
    answer = await store.search(Ask(unit(1), 50, frozenset({camera}), NOON, NOON + MINUTE))
    assert shards[home(camera, ENDPOINTS)].asked == [bucket_of(NOON, 24)]
    assert answer.buckets_searched == 1


async def test_buckets_of_another_width_stay_searchable(shards: dict[str, MemoryShard]) -> None:
    daily = ShardedStore(SPACE, MilvusSettings(bucket_hours=24), shards)
    hourly = ShardedStore(SPACE, MilvusSettings(bucket_hours=1), shards)
    await daily.upsert([moment("gate", NOON)])
    await hourly.upsert([moment("gate", NOON + MINUTE)])
    answer = await hourly.search(Ask(unit(1), 5, start_ms=NOON, end_ms=NOON + 2 * MINUTE))
    assert len(answer.hits) == 2
    assert answer.buckets_searched == 2


async def test_the_next_bucket_is_made_before_it_is_needed(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    late = bucket_of(NOON, 24).end_ms - MINUTE
    await store.upsert([moment("gate", late)])
    shard = shards[home("gate", ENDPOINTS)]
    await until(lambda: bucket_of(NOON, 24).next in shard.held)
    assert shard.held[bucket_of(NOON, 24).next] == {}
    await store.close()


async def test_a_moment_longer_than_a_search_reaches_back_is_refused(store: ShardedStore) -> None:
    with pytest.raises(Invalid, match="longest_moment_s"):
        await store.upsert([moment("gate", length_ms=3_600_001)])


def test_the_best_hits_come_by_score_then_id_and_each_once() -> None:
    spans = [bare(moment("gate", NOON + n)) for n in range(4)]
    first, second = sorted(spans[:2], key=lambda span: span.id)
    hits = [Scored(second, 0.5), Scored(spans[2], 0.9), Scored(first, 0.5), Scored(second, 0.4), Scored(spans[3], 0.1)]
    assert best(hits, 3) == [Scored(spans[2], 0.9), Scored(first, 0.5), Scored(second, 0.5)]
