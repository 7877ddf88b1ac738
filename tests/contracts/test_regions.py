"""What every MomentStore does with the regions and the objects of moments."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace

import numpy as np
import pytest

from index.store import Ask, MomentStore
from proto.errors import Invalid
from proto.types import MOST_REGIONS, WHOLE, Moment, Region, SpaceInfo
from tests.contracts.conftest import Open
from tests.contracts.moments import (
    DAY,
    FRESH_S,
    HOUR,
    MINUTE,
    NOON,
    SPACE,
    ids,
    moment,
    near,
    of,
    ranked,
    region,
    unit,
    until_found,
)


def told(one: Region) -> tuple[object, ...]:
    return one.at_ms, one.box, one.kind, one.score, one.since_ms, one.until_ms


async def test_regions_are_read_as_they_were_stored_and_in_their_order(store: MomentStore, yard: str) -> None:
    regions = [
        region(5, at_ms=NOON + 2000, kind="traffic light", score=1.0),
        Region(NOON, WHOLE, unit(6)),
        region(7, at_ms=NOON + 1, kind="person", score=1 / 3),
        Region(NOON, region(3).box, unit(8), "a", 0.1, NOON - 3_600_000, NOON + 1),
    ]
    stored = moment(yard, regions=regions, objects=(("person", 3), ("traffic light", 2**31 - 1)))
    assert await store.upsert([stored]) == {}
    (fetched,) = await store.fetch([stored.id])
    (read,) = await store.between(of(yard), NOON, NOON + 1)
    for found in (fetched, read):
        assert [told(one) for one in found.regions] == [told(one) for one in regions]
        for ours, theirs in zip(found.regions, regions, strict=True):
            np.testing.assert_allclose(ours.vector, theirs.vector, atol=1e-6)
            assert ours.vector.dtype == np.float32
        assert found.objects == stored.objects
    assert await store.count(of(yard)) == 1


async def test_a_hit_is_a_moment_once_with_the_row_that_is_nearest(store: MomentStore, yard: str) -> None:
    dog = replace(region(5, at_ms=NOON + 700, kind="dog", score=0.9), since_ms=NOON + 500, until_ms=NOON + 900)
    regions = [region(6), dog, region(7), Region(NOON, dog.box, near(dog.vector, 1))]
    await store.upsert([moment(yard, vector=unit(1), regions=regions, objects=(("dog", 1),))])
    (hit,) = (await until_found(store, Ask(dog.vector, 10, of(yard)), 1)).hits
    assert (hit.at_ms, hit.box, hit.kind, hit.vector) == (NOON + 700, dog.box, "dog", None)
    assert hit.score == pytest.approx(1.0, abs=1e-4)
    assert hit.span.objects == (("dog", 1),)
    assert hit.times == (NOON + 500, NOON + 900)


async def test_a_hit_by_the_whole_picture_tells_its_peak_and_the_whole_box(store: MomentStore, yard: str) -> None:
    await store.upsert([moment(yard, vector=unit(1), regions=[region(5, kind="dog")])])
    (hit,) = (await until_found(store, Ask(unit(1), 10, of(yard)), 1)).hits
    assert (hit.at_ms, hit.box, hit.kind) == (hit.span.peak_ms, WHOLE, "")
    assert hit.times == (hit.span.start_ms, hit.span.end_ms)


async def test_a_hit_carries_the_vector_of_its_row_when_asked_for(store: MomentStore, yard: str) -> None:
    await store.upsert([moment(yard, vector=unit(1), regions=[region(5)]), moment(yard, NOON + 1, vector=unit(2))])
    hits = (await until_found(store, Ask(unit(5), 10, of(yard), with_vectors=True), 2)).hits
    for hit in hits:
        assert hit.vector is not None
        assert hit.score == pytest.approx(float(hit.vector @ unit(5)), abs=1e-4)
        assert hit.vector.dtype == np.float32
    (of_region,) = [hit.vector for hit in hits if hit.box != WHOLE and hit.vector is not None]
    np.testing.assert_allclose(of_region, unit(5), atol=1e-6)


def crowd(yard: str, rows: int) -> list[Moment]:
    """Moments whose rows all lie nearer to unit(1) than those of the rest, which are one row each."""
    close = [
        moment(
            yard,
            start,
            vector=near(unit(1), n),
            regions=[region(n, at_ms=start, vector=near(unit(1), 1000 + n * 10 + one)) for one in range(rows - 1)],
        )
        for n, start in enumerate(NOON + n * 100 for n in range(12))
    ]
    return close + [moment(yard, NOON + MINUTE + n, vector=near(-unit(1), n)) for n in range(9)]


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.parametrize("limit", [1, 7, 12, 15, 21, 30])
async def test_as_many_moments_as_asked_for_are_found_though_the_nearest_rows_are_of_few(
    store: MomentStore, yard: str, rows: int, limit: int
) -> None:
    everything = crowd(yard, rows)
    await store.upsert(everything)
    answer = await until_found(store, Ask(unit(1), limit, of(yard)), min(limit, 21))
    assert ids(answer.hits) == ranked(everything, unit(1))[:limit]


async def until_retold(store: MomentStore, question: Ask, again: Moment) -> None:
    """Return once the only hit is this telling of the moment; fail when it is not in time."""
    deadline = time.monotonic() + FRESH_S
    while [hit.span.frames for hit in (await store.search(question)).hits] != [again.frames]:
        assert time.monotonic() < deadline, "the new telling is not found"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("left", [0, 1, 3])
async def test_a_region_that_a_moment_no_longer_has_is_not_found(store: MomentStore, yard: str, left: int) -> None:
    """Not even by its own vector, once the new telling is found. All that is gone lies nearer than what is left."""
    regions = [
        region(n, at_ms=NOON + n, vector=unit(n) if n < left else near(unit(13), n, by=0.1))
        for n in range(MOST_REGIONS)
    ]
    await store.upsert([moment(yard, regions=regions, closed=False)])
    await until_found(store, Ask(unit(13), 1, of(yard)), 1)
    again = moment(yard, frames=4, vector=unit(2), regions=regions[:left])
    await store.upsert([again])
    (read,) = await store.between(of(yard), NOON, NOON + 1)
    assert [one.at_ms for one in read.regions] == [one.at_ms for one in regions[:left]]
    await until_retold(store, Ask(unit(13), 5, of(yard)), again)
    (hit,) = (await store.search(Ask(unit(13), 1, of(yard)))).hits
    assert hit.span.frames == 4
    best = max(float(row @ unit(13)) for row in (again.vector, *(one.vector for one in again.regions)))
    assert hit.score == pytest.approx(best, abs=1e-4)
    assert await store.count(of(yard)) == 1


async def test_regions_that_take_the_places_of_others_are_found_in_their_stead(store: MomentStore, yard: str) -> None:
    await store.upsert([moment(yard, regions=[region(10), region(11)], closed=False)])
    await store.upsert([moment(yard, frames=4, regions=[region(12), region(13), region(14)])])
    (read,) = await store.fetch([moment(yard).id])
    assert [told(one) for one in read.regions] == [told(region(n)) for n in (12, 13, 14)]


async def test_a_filter_holds_for_every_row_of_a_moment(store: MomentStore, yard: str) -> None:
    east, west = f"{yard}-east", f"{yard}-west"
    await store.upsert([moment(name, regions=[region(5)], objects=(("dog", 1),)) for name in (east, west)])
    both = await until_found(store, Ask(unit(5), 10, of(east, west)), 2)
    assert {hit.span.camera for hit in both.hits} == {east, west}
    for ask, found in [
        (Ask(unit(5), 10, of(east)), 1),
        (Ask(unit(5), 10, of(east), NOON + 2001), 0),
        (Ask(unit(5), 10, of(east), NOON, NOON + 1, objects=of("dog")), 1),
        (Ask(unit(5), 10, of(east), objects=of("cat")), 0),
    ]:
        assert len((await store.search(ask)).hits) == found


SEEN = {
    NOON + 0: (),
    NOON + 1: (("car", 2), ("person", 1)),
    NOON + 2: (("cart", 1),),
    NOON + 3: (("person", 12),),
    NOON + 4: (("traffic light", 1),),
    NOON + 5: (("car", 1), ("person", 1), ("traffic light", 4)),
}


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        ("person",),
        ("car",),
        ("cart",),
        ("traffic light",),
        ("car", "person"),
        ("car", "traffic light"),
        ("cart", "person"),
        ("traffic",),
        ("light",),
        ("unicorn",),
        ("in", "and"),
    ],
)
async def test_moments_are_found_by_all_the_kinds_of_objects_asked_for(
    store: MomentStore, yard: str, kinds: tuple[str, ...]
) -> None:
    await store.upsert(
        [moment(yard, start, objects=objects, regions=[region(1, at_ms=start)]) for start, objects in SEEN.items()]
    )
    await until_found(store, Ask(unit(2), 10, of(yard)), len(SEEN))
    found = (await store.search(Ask(unit(2), 10, of(yard), objects=frozenset(kinds)))).hits
    assert {hit.span.start_ms: hit.span.objects for hit in found} == {
        start: objects for start, objects in SEEN.items() if set(kinds) <= {kind for kind, _ in objects}
    }


async def test_as_many_kinds_as_a_moment_may_have_are_kept(store: MomentStore, yard: str) -> None:
    letters = "abcdefghij"
    kinds = sorted(f"{one} {other}".ljust(32, "z") for one in letters for other in letters)
    stored = moment(yard, objects=tuple((kind, n + 1) for n, kind in enumerate(kinds)))
    assert await store.upsert([stored]) == {}
    (found,) = await store.fetch([stored.id])
    assert found.objects == stored.objects


@pytest.mark.parametrize("word", ["", "Person", "person\n", 'x"] > 0 or objects["y', "a" * 33, "straße", " dog"])
async def test_a_word_that_cannot_be_a_kind_is_invalid(store: MomentStore, word: str) -> None:
    with pytest.raises(Invalid, match="kind of object"):
        await store.search(Ask(unit(1), 5, objects=of(word)))


async def test_an_answer_says_how_many_moments_it_was_chosen_from(opened: Open, yard: str) -> None:
    """Exactly, while the time does not cut a bucket and nothing was stored since they were counted."""
    space = SpaceInfo(secrets.token_hex(8), SPACE.dimension)
    store = await opened(space)
    yard_day = [moment(yard, NOON + n, space=space, regions=[region(n, at_ms=NOON + n)]) for n in range(30)]
    other_day = [moment(yard, NOON + DAY + n, space=space, objects=(("dog", 1),)) for n in range(20)]
    await store.upsert([*yard_day, *other_day, moment(f"{yard}-else", space=space)])
    await until_found(store, Ask(unit(1), 100), 51)
    for ask, searched in [
        (Ask(unit(1), 100), 51),
        (Ask(unit(1), 5), 51),
        (Ask(unit(1), 5, of(yard)), 50),
        (Ask(unit(1), 5, of(yard), objects=of("dog")), 20),
        (Ask(unit(1), 5, of(yard), NOON + 12 * HOUR, NOON + 36 * HOUR), 20),
        (Ask(unit(1), 5, of(f"{yard}-none")), 0),
        (Ask(unit(1), 5, frozenset()), 0),
    ]:
        assert (await store.search(ask)).moments_searched == searched
