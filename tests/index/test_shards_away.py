"""What a shard or a bucket that is away, or hangs, does to answers and to writes, and for how long."""

from __future__ import annotations

import asyncio
import logging

import pytest

from index.sharded import ShardedStore
from index.store import LATEST_MS, Ask, Unsearched
from proto.admission import UNDER_WAY, Stay
from proto.errors import Invalid, Transient
from tests.contracts.moments import DAY, HOUR, MINUTE, NOON, SPACE, ids, moment, ranked, unit
from tests.index.shards import CAMERAS, MOMENTS, TODAY, MemoryShard, at_home, over


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
