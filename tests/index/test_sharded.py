"""Several shards as one store: who is asked, and how their answers become one."""

from __future__ import annotations

import random

import pytest

from index.memory import bare
from index.places import MOST_STRETCHES, Bucket, bucket_of
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask, Scored, best
from proto.errors import Broken, Invalid, Transient, WatchwordError
from proto.life import DEFAULT, Rules
from proto.shards import home
from tests.contracts.moments import DAY, HOUR, MINUTE, NOON, SPACE, ids, moment, ranked, unit, until
from tests.index.shards import CAMERAS, ENDPOINTS, MOMENTS, TODAY, MemoryShard, at_home, days_of, over


async def test_hits_of_all_shards_are_merged_exactly(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    assert all(shard.held for shard in shards.values())
    answer = await store.search(Ask(unit(99), 12))
    assert ids(answer.hits) == ranked(MOMENTS, unit(99))[:12]
    assert (answer.shards_searched, answer.buckets_searched, answer.shards_missing) == (3, 1, [])
    assert (answer.unsearched, answer.spaces) == ([], [])


@pytest.mark.parametrize("now", [("http://a", "http://b", "http://c"), ("http://m-0.svc", "http://m-1.svc")])
async def test_moments_are_found_whatever_the_list_of_shards_was_when_they_were_stored(now: tuple[str, ...]) -> None:
    """One shard more, and the same two under other names: most cameras have another home then."""
    servers = [MemoryShard(SPACE) for _ in range(3)]
    before = dict(zip(("http://a", "http://b"), servers, strict=False))
    assert await over(before).upsert(MOMENTS) == {}
    after = over(dict(zip(now, servers, strict=False)))
    for stored in MOMENTS:
        answer = await after.search(Ask(unit(99), 5, frozenset({stored.camera})))
        assert ids(answer.hits) == [stored.id]
        assert await after.fetch([stored.id]) == [stored]
        assert await after.between(frozenset({stored.camera}), NOON, NOON + HOUR) == [stored]


async def test_of_copies_of_a_moment_the_fullest_is_given(shards: dict[str, MemoryShard]) -> None:
    """It was open when its camera got another home."""
    former = {"http://b": shards["http://b"]}
    camera = at_home("http://a")[0]
    closed = moment(camera, frames=9, length_ms=9000, vector=unit(2))
    copies = [moment(camera, frames=n, closed=False, vector=unit(1)) for n in (5, 11)]
    await over(former).upsert(copies[:1])
    await over({"http://c": shards["http://c"]}).upsert(copies[1:])
    store = over(shards)
    await store.upsert([closed])
    assert await store.between(frozenset({camera}), NOON, NOON + HOUR) == [closed]
    assert await store.fetch([closed.id]) == [closed]
    (hit,) = (await store.search(Ask(unit(1), 5))).hits
    assert hit.span == bare(closed)
    assert hit.score == pytest.approx(float(unit(2) @ unit(1)), abs=1e-6)


async def test_what_does_not_fit_into_memory_is_named_and_the_rest_answers(shards: dict[str, MemoryShard]) -> None:
    shard = shards["http://a"]
    store = over({"http://a": shard})
    days = [moment("gate", NOON + n * DAY, vector=unit(n)) for n in (0, 1, 2, 3, 5)]
    await store.upsert(days)
    shard.most_loaded = 2  # of which a question that asks for more gets one and a half
    answer = await store.search(Ask(unit(9), 10))
    assert ids(answer.hits) == [days[-1].id]
    cold = [(part.shard, part.start_ms, part.end_ms) for part in answer.unsearched if part.cold]
    assert cold == [("http://a", TODAY.start_ms, TODAY.start_ms + 4 * DAY)]
    narrow = await store.search(Ask(unit(9), 10, start_ms=NOON + 2 * DAY, end_ms=NOON + 2 * DAY + MINUTE))
    assert (ids(narrow.hits), narrow.unsearched) == ([days[2].id], [])


async def test_other_spaces_that_may_hold_the_asked_time_are_told(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://a"].everything |= {"0" * 16: {TODAY: {}}, "2" * 16: {Bucket(24, TODAY.number - 9): {}}}
    shards["http://b"].everything |= {"0" * 16: {TODAY: {}}, "1" * 16: {bucket_of(NOON, 6): {}}}
    assert (await store.search(Ask(unit(1), 5))).spaces == ["0" * 16, "1" * 16, "2" * 16]
    assert (await store.search(Ask(unit(1), 5, start_ms=NOON))).spaces == ["0" * 16, "1" * 16]
    assert (await store.search(Ask(unit(1), 5, start_ms=NOON - 9 * DAY, end_ms=NOON - 8 * DAY))).spaces == ["2" * 16]
    assert (await store.search(Ask(unit(1), 5, start_ms=NOON + 2 * DAY))).spaces == []


async def test_a_span_of_many_cameras_is_one_read_of_each_bucket_that_can_hold_it(
    shards: dict[str, MemoryShard],
) -> None:
    for shard in shards.values():
        shard.held.update({bucket: {} for bucket in days_of(Bucket(24, TODAY.number - 179), 180)})
    store = over(shards)
    batch = [moment(name, NOON + n) for n, name in enumerate(CAMERAS[:16])]
    await store.upsert(batch)
    found = await store.between(frozenset(CAMERAS[:16]), NOON, NOON + 6 * HOUR)
    assert {m.id for m in found} == {m.id for m in batch}
    across = await store.between(frozenset(CAMERAS[:16]), TODAY.start_ms + MINUTE, NOON)
    assert across == []
    for shard in shards.values():
        reads = [bucket for call, bucket in shard.asked if call == "read"]
        assert reads == [TODAY, Bucket(24, TODAY.number - 1), TODAY]


async def test_more_rows_of_one_camera_and_instant_than_can_be_read_are_broken(
    shards: dict[str, MemoryShard],
) -> None:
    store = ShardedStore(SPACE, MilvusSettings(endpoints=ENDPOINTS), shards, most_rows=3)
    await store.upsert([moment("gate", first_offset=n) for n in range(3)])
    with pytest.raises(Broken, match=f"gate start at {NOON}"):
        await store.between(frozenset({"gate"}), NOON, NOON + HOUR)


async def test_moments_are_fetched_from_the_buckets_of_their_start_only(shards: dict[str, MemoryShard]) -> None:
    store = over(shards)
    batch = [moment("gate", NOON + n * DAY) for n in range(30)]
    await store.upsert(batch)
    for shard in shards.values():
        shard.asked.clear()
    assert await store.fetch([batch[7].id, batch[3].id]) == [batch[7], batch[3]]
    asked = [call for shard in shards.values() for call in shard.asked]
    assert sorted(asked) == [("fetch", days_of(TODAY, 30)[n]) for n in (3, 7)]


async def test_a_store_opens_while_one_shard_is_there(shards: dict[str, MemoryShard]) -> None:
    store = over(shards)
    shards["http://a"].away = shards["http://b"].away = True
    await store.open()
    shards["http://c"].away = True
    with pytest.raises(Transient):
        await store.open()


async def test_only_the_buckets_that_a_search_can_touch_are_searched(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    camera = CAMERAS[0]
    await store.upsert([moment(camera, NOON + n * DAY) for n in range(-3, 4)])
    answer = await store.search(Ask(unit(1), 50, frozenset({camera}), NOON, NOON + MINUTE))
    assert {bucket for shard in shards.values() for call, bucket in shard.asked if call == "search"} == {TODAY}
    assert answer.buckets_searched == 1


async def test_a_moment_that_is_open_while_the_width_of_buckets_changes_is_stored_once(
    shards: dict[str, MemoryShard],
) -> None:
    daily, six_hourly = over(shards, bucket_hours=24), over(shards, bucket_hours=6)
    await daily.upsert([moment("gate", closed=False)])
    await six_hourly.upsert([moment("gate", frames=9), moment("gate", NOON + HOUR), moment("gate", NOON + DAY)])
    held = shards[home("gate", ENDPOINTS)].held
    assert {bucket: len(rows) for bucket, rows in held.items()} == {TODAY: 2, bucket_of(NOON + DAY, 6): 1}
    (found,) = await six_hourly.between(frozenset({"gate"}), NOON, NOON + MINUTE)
    assert found.frames == 9


async def test_buckets_of_another_width_stay_searchable(shards: dict[str, MemoryShard]) -> None:
    daily, hourly = over(shards, bucket_hours=24), over(shards, bucket_hours=1)
    await daily.upsert([moment("gate", NOON)])
    await hourly.upsert([moment("gate", NOON + DAY)])
    answer = await hourly.search(Ask(unit(1), 5, start_ms=NOON, end_ms=NOON + 2 * DAY))
    assert len(answer.hits) == 2
    assert answer.buckets_searched == 2


async def test_a_clock_that_is_wild_makes_few_buckets_and_costs_no_other_moment(
    shards: dict[str, MemoryShard],
) -> None:
    store = over(shards)
    chance = random.Random(1)
    wild = [moment("gate", chance.randrange(1, 2**53 - HOUR)) for _ in range(200)]
    refused: dict[str, WatchwordError] = {}
    for first in range(0, 200, 16):
        refused |= await store.upsert(wild[first : first + 16])
        assert await store.upsert([moment(name, NOON + first) for name in CAMERAS]) == {}
    shard = shards[home("gate", ENDPOINTS)]
    assert len(shard.held) <= 2 * MOST_STRETCHES  # One more beside each, made ahead.
    assert all(isinstance(error, Invalid) and "clock" in error.todo for error in refused.values())
    assert await store.count(frozenset({"gate"})) == 200 - len(refused)
    assert await store.upsert([moment("gate", NOON + DAY)]) == {}


async def test_the_next_bucket_is_made_before_it_is_needed(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    await store.upsert([moment("gate", TODAY.end_ms - MINUTE)])
    shard = shards[home("gate", ENDPOINTS)]
    tomorrow = bucket_of(TODAY.end_ms, 24)
    await until(lambda: tomorrow in shard.held)
    assert shard.held[tomorrow] == {}
    await store.close()


async def test_the_next_bucket_is_tried_again_when_it_could_not_be_made(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shard, tomorrow = shards[home("gate", ENDPOINTS)], bucket_of(TODAY.end_ms, 24)
    shard.buckets_away = {tomorrow}
    await store.upsert([moment("gate", TODAY.end_ms - MINUTE)])
    await until(lambda: ("make", tomorrow) in shard.asked)
    shard.buckets_away = set()
    await store.upsert([moment("gate", TODAY.end_ms - MINUTE + 1)])
    await until(lambda: tomorrow in shard.held)
    await store.close()


def test_the_best_hits_come_by_score_then_id_and_each_once() -> None:
    spans = [bare(moment("gate", NOON + n)) for n in range(4)]
    first, second = sorted(spans[:2], key=lambda span: span.id)
    hits = [Scored(second, 0.5), Scored(spans[2], 0.9), Scored(first, 0.5), Scored(second, 0.4), Scored(spans[3], 0.1)]
    assert best(hits, 3) == [Scored(spans[2], 0.9), Scored(first, 0.5), Scored(second, 0.5)]


async def test_a_bucket_in_which_all_is_gone_is_neither_searched_nor_missed() -> None:
    shard = MemoryShard(SPACE)
    store = ShardedStore(SPACE, MilvusSettings(endpoints=("http://a",)), {"http://a": shard})
    await store.upsert([moment("gate", NOON), moment("gate", NOON - 40 * DAY)])
    shard.everything["0" * 16] = {Bucket(24, 1): {}}
    shard.buckets_away = {bucket_of(NOON - 40 * DAY, 24)}
    gone = Rules(days={DEFAULT: 30.0}).gone(NOON)
    answer = await store.search(Ask(unit(1), 5, without=gone))
    assert (len(answer.hits), answer.unsearched, answer.spaces) == (1, [], [])
    assert (await store.search(Ask(unit(1), 5))).unsearched
    await store.close()
