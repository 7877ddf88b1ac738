"""Several shards as one store: who is asked, and what a part that is away does to an answer."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from index.memory import bare
from index.places import MOST_STRETCHES, Bucket, bucket_of
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import LATEST_MS, Ask, Scored, Unsearched, best
from proto.admission import UNDER_WAY, Stay
from proto.errors import Broken, Invalid, Transient, WatchwordError
from proto.life import DEFAULT, Rules
from proto.shards import home
from tests.contracts.moments import DAY, HOUR, MINUTE, NOON, SPACE, ids, moment, ranked, unit, until
from tests.index.shards import MemoryShard

ENDPOINTS = ("http://a", "http://b", "http://c")
CAMERAS = [f"camera-{n}" for n in range(30)]
MOMENTS = [moment(name, NOON + n * 7, vector=unit(n)) for n, name in enumerate(CAMERAS)]
TODAY = bucket_of(NOON, 24)


def over(shards: dict[str, MemoryShard], **settings: float) -> ShardedStore:
    return ShardedStore(SPACE, MilvusSettings.model_validate({"endpoints": tuple(shards), **settings}), shards)


def days_of(first: Bucket, days: int) -> list[Bucket]:
    return [Bucket(first.hours, first.number + n) for n in range(days)]


@pytest.fixture
def shards() -> dict[str, MemoryShard]:
    return {name: MemoryShard(SPACE) for name in ENDPOINTS}


@pytest.fixture
async def store(shards: dict[str, MemoryShard]) -> ShardedStore:
    store = over(shards, timeout_s=5.0)
    assert await store.upsert(MOMENTS) == {}
    return store


def at_home(name: str) -> list[str]:
    return [camera for camera in CAMERAS if home(camera, ENDPOINTS) == name]


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


async def test_a_shard_that_is_away_is_named_and_the_others_answer(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://b"].away = True
    answer = await store.search(Ask(unit(99), 40))
    there = [m for m in MOMENTS if m.camera not in at_home("http://b")]
    assert ids(answer.hits) == ranked(there, unit(99))
    assert (answer.shards_missing, answer.shards_searched) == (["http://b"], 2)
    assert answer.unsearched == [Unsearched("http://b", 0, LATEST_MS)]
    asked = await store.search(Ask(unit(99), 40, start_ms=NOON, end_ms=NOON + HOUR))
    assert asked.unsearched == [Unsearched("http://b", NOON, NOON + HOUR)]


async def test_a_shard_that_hangs_is_missing_after_the_time_of_the_question(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://b"].hangs = True
    answer = await store.search(Ask(unit(99), 40, timeout_s=0.05))
    assert answer.shards_missing == ["http://b"]
    assert len(answer.hits) == len(MOMENTS) - len(at_home("http://b"))


@pytest.mark.parametrize("trouble", ["buckets_hang", "buckets_away"])
async def test_a_bucket_that_does_not_answer_costs_only_its_own_part(trouble: str) -> None:
    shard = MemoryShard(SPACE)
    store = over({"http://a": shard})
    batch = [moment("gate", NOON + n * DAY) for n in range(30)]
    await store.upsert(batch)
    setattr(shard, trouble, {TODAY})
    answer = await store.search(Ask(unit(1), 50, timeout_s=0.2))
    assert {hit.span.id for hit in answer.hits} == {m.id for m in batch[1:]}
    assert (answer.shards_missing, answer.buckets_searched) == ([], 29)
    assert answer.unsearched == [Unsearched("http://a", TODAY.start_ms, TODAY.end_ms)]


async def test_a_shard_of_which_no_bucket_answers_is_missing(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://b"].buckets_away = {TODAY}
    answer = await store.search(Ask(unit(99), 40))
    assert (answer.shards_missing, answer.shards_searched) == (["http://b"], 2)
    nothing_there = await store.search(Ask(unit(99), 40, start_ms=NOON + 9 * DAY))
    assert (nothing_there.shards_missing, nothing_there.shards_searched) == ([], 3)


async def test_a_shard_that_is_back_is_searched_again(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    shards["http://b"].away = True
    assert (await store.search(Ask(unit(99), 5))).shards_missing == ["http://b"]
    shards["http://b"].away = False
    assert (await store.search(Ask(unit(99), 5))).shards_missing == []


async def test_a_search_that_nothing_answers_fails(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    shards["http://a"].away = True
    shards["http://b"].buckets_away = shards["http://c"].buckets_away = {TODAY}
    with pytest.raises(Transient, match="start it"):
        await store.search(Ask(unit(99), 5))


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


async def test_a_shard_that_is_away_keeps_out_only_its_own_moments(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://b"].away = True
    batch = [moment(name, NOON + MINUTE) for name in CAMERAS]
    failed = await store.upsert(batch)
    assert failed.keys() == {m.id for m in batch if m.camera in at_home("http://b")}
    assert all(isinstance(error, Transient) for error in failed.values())
    shards["http://b"].away = False
    assert await store.upsert([m for m in batch if m.id in failed]) == {}
    assert await store.count() == 2 * len(CAMERAS)


async def test_a_bucket_that_is_away_keeps_out_only_its_own_moments(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    camera = at_home("http://b")[0]
    shards["http://b"].buckets_away = {TODAY}
    today, tomorrow, bad = (moment(camera, NOON + n) for n in (MINUTE, DAY, 2 * HOUR))
    too_long = moment(camera, NOON + 3, length_ms=HOUR + 1)
    failed = await store.upsert([today, tomorrow, bad, too_long])
    assert {name: type(error) for name, error in failed.items()} == {
        today.id: Transient,
        bad.id: Transient,
        too_long.id: Invalid,
    }
    assert await store.fetch([tomorrow.id]) == [tomorrow]


async def test_nobody_waits_for_a_shard_that_hangs_until_it_answers_again(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    """The second batch is refused without a call to its bucket; the shard is asked in the background."""
    shard, camera = shards["http://b"], at_home("http://b")[0]
    shard.silent = True
    late = moment(camera, NOON + HOUR)
    assert "in time" in str((await store.upsert([late]))[late.id])
    shard.asked.clear()
    for _ in range(2):
        failed = await store.upsert([late, moment(at_home("http://a")[0], NOON + HOUR)])
        assert failed.keys() == {late.id}
        assert isinstance(failed[late.id], Transient)
        assert "has not answered lately" in str(failed[late.id])
        with pytest.raises(Transient, match="has not answered lately"):
            await store.between(frozenset({camera}), NOON, NOON + HOUR)
        await asyncio.sleep(0)
    assert shard.asked == []
    shard.silent = False
    for _ in range(3):
        failed = await store.upsert([late])
        await asyncio.sleep(0)
    assert failed == {}
    assert await store.fetch([late.id]) == [late]
    await store.close()


async def test_a_shard_that_hangs_costs_one_search_its_time_and_the_next_ones_nothing(
    store: ShardedStore, shards: dict[str, MemoryShard], caplog: pytest.LogCaptureFixture
) -> None:
    shard, others = shards["http://b"], [m for m in MOMENTS if m.camera not in at_home("http://b")]

    async def missing(timeout_s: float | None = None) -> str:
        caplog.clear()
        answer = await store.search(Ask(unit(99), 40, timeout_s=timeout_s))
        if answer.shards_missing:
            assert (answer.shards_missing, ids(answer.hits)) == (["http://b"], ranked(others, unit(99)))
        await asyncio.sleep(0)
        return caplog.text

    shard.silent = True
    assert "in time" in await missing(timeout_s=0.5)
    assert "in time" in await missing()  # the one before was in a hurry, and judged nothing
    assert "has not answered lately" in await missing()
    assert "has not answered lately" in await missing()
    shard.silent = False
    await missing()
    assert await missing() == ""
    await store.close()


async def test_the_first_question_does_not_wait_its_whole_time_for_a_shard_that_hangs(
    store: ShardedStore, shards: dict[str, MemoryShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.sharded._GRACE_S", 0.05)
    shard = shards["http://b"]
    shard.hangs = True
    others = [m for m in MOMENTS if m.camera not in at_home("http://b")]
    teaches = []
    async with asyncio.timeout(4):  # the store's own is 5 s
        for _ in range(2):
            UNDER_WAY.set(stay := Stay(0.0, 0.0))
            answer = await store.search(Ask(unit(99), 40))
            assert (answer.shards_missing, ids(answer.hits)) == (["http://b"], ranked(others, unit(99)))
            teaches.append(stay.teaches)
    assert teaches == [False, True]
    assert [call for call, _ in shard.asked if call == "search"] == []  # it hung before
    shard.hangs = False
    await asyncio.sleep(0.1)
    assert (await store.search(Ask(unit(99), 40))).shards_missing == []
    await store.close()


async def test_a_shard_that_tells_what_it_has_and_cannot_search_it_yet_is_passed_over_until_it_can() -> None:
    """As a Milvus that was started again and is loading."""
    shards = {name: MemoryShard(SPACE) for name in ("http://a", "http://b")}
    store = over(shards, timeout_s=1.0)
    assert await store.upsert(MOMENTS) == {}
    loading = shards["http://b"]
    loading.buckets_hang = {TODAY}
    loading.asked.clear()
    for _ in range(4):
        assert (await store.search(Ask(unit(99), 40))).shards_missing == ["http://b"]
        await asyncio.sleep(0)
    assert loading.asked == [("search", TODAY), ("about", TODAY)]  # one search, and one probe
    loading.buckets_hang = set()
    await asyncio.sleep(0.05)
    assert (await store.search(Ask(unit(99), 40))).shards_missing == []
    await store.close()


async def test_a_shard_that_is_the_only_one_is_asked_although_it_hangs() -> None:
    store = over({"http://a": MemoryShard(SPACE, silent=True)})
    for _ in range(2):
        with pytest.raises(Transient, match="in time"):
            await store.search(Ask(unit(99), 40))
    await store.close()


async def test_truth_is_not_told_while_a_shard_is_away(store: ShardedStore, shards: dict[str, MemoryShard]) -> None:
    shards["http://b"].away = True
    with pytest.raises(Transient):
        await store.count()
    with pytest.raises(Transient):
        await store.fetch([m.id for m in MOMENTS])
    here = [m for m in MOMENTS if m.camera not in at_home("http://b")]
    assert await store.fetch([m.id for m in here]) == here


@pytest.mark.parametrize("trouble", ["away", "buckets_away"])
async def test_a_span_is_not_told_while_the_home_of_one_camera_is_away(
    store: ShardedStore, shards: dict[str, MemoryShard], trouble: str
) -> None:
    setattr(shards["http://b"], trouble, {TODAY})
    asked = frozenset({at_home("http://a")[0], at_home("http://b")[0]})
    with pytest.raises(Transient, match="start it"):
        await store.between(asked, NOON, NOON + HOUR)


async def test_a_home_that_hangs_is_not_waited_for_by_the_next_span(
    store: ShardedStore, shards: dict[str, MemoryShard]
) -> None:
    shards["http://b"].silent = True
    asked = frozenset({at_home("http://b")[0]})
    for told in ("in time", "has not answered lately"):
        with pytest.raises(Transient, match=told):
            await store.between(asked, NOON, NOON + HOUR)
    await store.close()


@pytest.mark.parametrize("trouble", ["away", "hangs"])
async def test_a_span_is_told_while_a_shard_that_is_nobodys_home_is_away(
    store: ShardedStore,
    shards: dict[str, MemoryShard],
    trouble: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("index.sharded._FORMER_S", 0.05)
    setattr(shards["http://b"], trouble, True)
    camera = at_home("http://a")[0]
    with caplog.at_level(logging.WARNING, "watchword.index"):
        found = await store.between(frozenset({camera}), NOON, NOON + HOUR)
    assert [m.camera for m in found] == [camera]
    assert "from before there was a map of shards may be missing" in caplog.text


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
