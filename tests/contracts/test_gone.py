"""What is gone is not found, and nothing else is missed: k when k exist. And what removes rows removes these."""

from __future__ import annotations

import pytest

from index.filters import Filter
from index.opening import new_removal
from index.removal import Removal
from index.settings import MilvusSettings
from index.store import Ask, MomentStore
from proto.life import DAY_MS, DEFAULT, Erasure, Gone, Hold, Rules, Stretch
from proto.shards import FixedMap
from proto.types import Moment, SpaceInfo
from tests.contracts.conftest import Open
from tests.contracts.moments import HOUR, MINUTE, NOON, SPACE, ids, moment, of, ranked, region, unit, until_found
from tests.index.shards import Held, MemoryShard


def rules(yard: str) -> Rules:
    """`yard-own` is kept for two days, others for one; times were erased, and some of it is held."""
    return Rules(
        days={DEFAULT: 1.0, f"{yard}-own": 2.0, f"{yard}-ever": 36_500.0},
        holds=(
            Hold(1, Stretch(f"{yard}-a", NOON - 40 * HOUR, NOON - 39 * HOUR), "", 0),
            Hold(3, Stretch(f"{yard}-b", NOON - 7 * HOUR, NOON - 6 * HOUR), "", 0),
        ),
        erasures=(
            Erasure(2, Stretch(f"{yard}-own", NOON - 12 * HOUR, NOON - 4 * HOUR), "", "", 0),
            Erasure(4, Stretch(f"{yard}-b", NOON - 9 * HOUR, NOON - 3 * HOUR), "", "", 0),
            Erasure(5, Stretch(f"{yard}-ever", 0, NOON - 50 * HOUR), "", "", 0),
        ),
    )


def moments(yard: str, space: SpaceInfo = SPACE) -> list[Moment]:
    return [
        moment(f"{yard}-{name}", NOON - hours * HOUR, length_ms=MINUTE, space=space, vector=unit(hours * 7 + place))
        for place, name in enumerate(("a", "b", "own", "ever"))
        for hours in range(0, 60, 3)
    ]


def left_of(all_of_them: list[Moment], gone: Gone) -> list[Moment]:
    return [one for one in all_of_them if not gone.covers(one.camera, one.start_ms, one.end_ms)]


async def test_what_is_gone_is_not_found_and_nothing_else_is_missed(store: MomentStore, yard: str) -> None:
    stored = moments(yard)
    await store.upsert(stored)
    cameras = frozenset(one.camera for one in stored)
    gone = rules(yard).gone(NOON)
    left = left_of(stored, gone)
    assert 20 < len(left) < len(stored) - 20
    for asked in (cameras, of(f"{yard}-a"), of(f"{yard}-own"), of(f"{yard}-b", f"{yard}-ever")):
        wanted = [one for one in left if one.camera in asked]
        for part in (gone, gone.among(asked, None, None)):
            ask = Ask(unit(5), len(wanted) + 5, asked, without=part)
            assert ids((await until_found(store, ask, len(wanted))).hits) == ranked(wanted, unit(5))
    few = await store.search(Ask(unit(5), 3, cameras, NOON - 8 * HOUR, NOON, without=gone))
    recent = [one for one in left if one.end_ms >= NOON - 8 * HOUR and one.start_ms < NOON]
    assert ids(few.hits) == ranked(recent, unit(5))[:3]


async def test_hundreds_of_erasures_and_holds_are_one_filter_that_the_store_takes(
    store: MomentStore, yard: str
) -> None:
    stored = moments(yard)
    await store.upsert(stored)
    other = f"{yard}-other"
    erased = [
        Erasure(number, Stretch(f"{yard}-a", NOON - 2 * number * HOUR, NOON - 2 * number * HOUR + 1), "", "", 0)
        for number in range(1, 121)
    ]
    held = [Hold(200 + number, Stretch(other, number * HOUR, number * HOUR + 1), "", 0) for number in range(120)]
    gone = Rules(days={DEFAULT: 36_500.0}, holds=tuple(held), erasures=tuple(erased)).gone(NOON)
    left = left_of(stored, gone)
    assert len(stored) - len(left) == 9
    ask = Ask(unit(5), len(left) + 5, frozenset(one.camera for one in stored), without=gone)
    assert ids((await until_found(store, ask, len(left))).hits) == ranked(left, unit(5))


@pytest.fixture
def removal(kind: str, endpoint: str, servers: dict[str, Held]) -> Removal:
    if kind == "memory":
        pytest.skip("the twin in memory has no shards")
    if kind == "shards":
        known = FixedMap({name: name for name in servers})
        return Removal(known, lambda entry, _, /, *, space: MemoryShard(SpaceInfo(space, 16), servers[entry.name]))
    return new_removal(MilvusSettings(endpoints=(endpoint,)))


async def test_rows_that_are_gone_are_told_and_removed_in_every_space(
    opened: Open, removal: Removal, yard: str
) -> None:
    spaces = [SPACE, SpaceInfo("0dd5" * 4, 16)]
    stores = [await opened(space) for space in spaces]
    # Of the second space only the latest day: a server takes seconds for each bucket.
    latest = [one for one in moments(yard, spaces[1]) if one.start_ms > NOON - 12 * HOUR]
    stored = {SPACE.id: moments(yard), spaces[1].id: latest}
    for store in stores:
        await store.upsert(stored[store.space.id])
    cameras = frozenset(one.camera for one in moments(yard))
    gone = rules(yard).gone(NOON)
    left = {one.id for one in left_of(moments(yard), gone)}
    which = Filter(cameras, only=gone)
    found = await removal.holdings()
    assert found.missing == {}
    ours = [one for one in found.known if one.space in {space.id for space in spaces}]
    assert [one.bucket.start_ms for one in ours] == sorted(one.bucket.start_ms for one in ours)
    for holding in ours:
        rows = await removal.rows(holding, which, 1000)
        assert len(rows) == await removal.count(holding, which)
        assert not left & {row.moment for row in rows}
        await removal.remove(holding, [row.id for row in rows])
        assert await removal.rows(holding, which, 1000) == []
        await removal.remove(holding, [])
    for store in stores:
        kept = {one.id for one in stored[store.space.id]} & left
        assert {one.id for one in await store.fetch([one.id for one in moments(yard)])} == kept
        assert await store.count(cameras) == len(kept) > 0
    await removal.close()


async def test_a_bucket_is_dropped_whole_and_what_comes_again_is_stored_again(
    opened: Open, removal: Removal, yard: str
) -> None:
    space = SpaceInfo("d20b" * 4, 16)
    store = await opened(space)
    old = moment(yard, NOON - 100 * DAY_MS, space=space, regions=[region(1, at_ms=NOON - 100 * DAY_MS)])
    new = moment(yard, NOON, space=space)
    await store.upsert([old, new])
    (first, *_) = [one for one in (await removal.holdings()).known if one.space == space.id]
    assert first.bucket.holds(old.start_ms)
    rows = await removal.rows(first, Filter(of(yard)), 10)
    assert sorted(row.id for row in rows) == [old.id, f"{old.id}.1"]
    await removal.drop(first)
    await removal.drop(first)
    assert await removal.rows(first, Filter(of(yard)), 10) == []
    assert first not in (await removal.holdings()).known
    answer = await until_found(store, Ask(unit(1), 5, of(yard)), 1)
    assert (ids(answer.hits), answer.unsearched) == ([new.id], [])
    assert [one.id for one in await store.between(of(yard), 0, NOON + HOUR)] == [new.id]
    await store.upsert([old])
    assert len((await until_found(store, Ask(unit(1), 5, of(yard)), 2)).hits) == 2
    await removal.close()
