"""What every MomentStore does: the twin in memory, shards in memory, milvus-lite, and Milvus standalone."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import fields

import numpy as np
import pytest

from index.store import MOST_HITS, Ask, MomentStore
from proto.errors import Invalid, Mismatch
from proto.types import SpaceInfo, Span, Vector
from tests.contracts.conftest import Open
from tests.contracts.moments import (
    HOUR,
    MINUTE,
    NOON,
    SPACE,
    ids,
    moment,
    near,
    of,
    ranked,
    unit,
    until_found,
)


async def test_a_stored_moment_is_found_with_all_that_is_told_of_it(store: MomentStore, yard: str) -> None:
    stored = moment(yard, frames=7, closed=False)
    await store.upsert([stored])
    answer = await until_found(store, Ask(stored.vector, 1, of(yard), NOON, NOON + MINUTE), 1)
    assert ids(answer.hits) == [stored.id]
    span = answer.hits[0].span
    for field in fields(Span):
        assert getattr(span, field.name) == getattr(stored, field.name)
    assert answer.hits[0].score == pytest.approx(1.0, abs=1e-4)
    assert (answer.shards_missing, answer.unsearched, answer.buckets_searched) == ([], [], 1)


async def test_a_moment_is_visible_to_search_soon_after_its_upsert(store: MomentStore, yard: str) -> None:
    await store.upsert([moment(yard)])
    answer = await until_found(store, Ask(unit(1), 1, of(yard)), 1)
    assert ids(answer.hits) == [moment(yard).id]


async def test_storing_a_batch_thrice_leaves_it_once(store: MomentStore, yard: str) -> None:
    batch = [moment(yard, NOON + n * MINUTE) for n in range(20)]
    for _ in range(3):
        await store.upsert(batch)
    assert await store.count(of(yard)) == 20
    answer = await until_found(store, Ask(unit(2), 100, of(yard)), 20)
    assert ids(answer.hits) == ranked(batch, unit(2))


async def test_the_last_write_of_an_id_wins(store: MomentStore, yard: str) -> None:
    await store.upsert([moment(yard, vector=unit(1), frames=1, closed=False)])
    await store.upsert([moment(yard, vector=unit(2), frames=9, length_ms=9000)])
    (found,) = await store.fetch([moment(yard).id])
    assert (found.frames, found.closed, found.end_ms) == (9, True, NOON + 9000)
    np.testing.assert_allclose(found.vector, unit(2), atol=1e-6)
    assert await store.count(of(yard)) == 1


async def test_of_equal_ids_in_one_batch_the_last_counts(store: MomentStore, yard: str) -> None:
    await store.upsert([moment(yard, frames=n) for n in (1, 2, 3)])
    (found,) = await store.fetch([moment(yard).id])
    assert found.frames == 3
    assert await store.count(of(yard)) == 1


async def test_hits_are_those_of_brute_force_in_its_order(store: MomentStore, yard: str) -> None:
    batch = [moment(yard, NOON + n * 100, vector=unit(n)) for n in range(400)]
    await store.upsert(batch)
    for seed in range(5):
        question = unit(10_000 + seed)
        answer = await until_found(store, Ask(question, 25, of(yard)), 25)
        assert await store.count(of(yard)) == 400
        assert ids(answer.hits) == ranked(batch, question)[:25]
        scores = [hit.score for hit in answer.hits]
        expected = sorted((float(m.vector @ question) for m in batch), reverse=True)[:25]
        assert scores == pytest.approx(expected, abs=1e-4)


async def test_only_the_cameras_asked_for_are_found(store: MomentStore, yard: str) -> None:
    names = [f"{yard}-{n}" for n in range(60)]
    await store.upsert([moment(name, NOON + n) for n, name in enumerate(names)])
    chosen = frozenset(names[5:45])
    answer = await until_found(store, Ask(unit(3), 100, chosen), 40)
    assert {hit.span.camera for hit in answer.hits} == chosen
    assert await store.count(chosen) == 40


async def test_an_empty_set_of_cameras_finds_nothing(store: MomentStore, yard: str) -> None:
    await store.upsert([moment(yard)])
    assert (await store.search(Ask(unit(1), 10, frozenset()))).hits == []
    assert await store.count(frozenset()) == 0


async def test_a_camera_without_moments_finds_nothing(store: MomentStore, yard: str) -> None:
    assert (await store.search(Ask(unit(1), 10, of(yard)))).hits == []


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (None, None, True),
        (NOON + 2000, None, True),
        (NOON + 2001, None, False),
        (None, NOON, False),
        (None, NOON + 1, True),
        (NOON + 500, NOON + 600, True),
        (NOON - MINUTE, NOON + MINUTE, True),
        (NOON + MINUTE, NOON + 2 * MINUTE, False),
    ],
)
async def test_a_moment_is_found_exactly_by_the_times_that_it_overlaps(
    store: MomentStore, yard: str, start: int | None, end: int | None, found: bool
) -> None:
    await store.upsert([moment(yard, length_ms=2000)])
    assert await store.count(of(yard), start, end) == int(found)
    answer = await until_found(store, Ask(unit(1), 5, of(yard), start, end), int(found))
    assert len(answer.hits) == int(found)


async def test_a_long_moment_that_began_in_the_bucket_before_is_found(store: MomentStore, yard: str) -> None:
    midnight = NOON + 12 * HOUR
    await store.upsert([moment(yard, midnight - MINUTE, length_ms=2 * MINUTE), moment(yard, midnight + MINUTE)])
    assert await store.count(of(yard), midnight + 1000, midnight + 2000) == 1
    answer = await until_found(store, Ask(unit(1), 5, of(yard), midnight + 1000, midnight + 2000), 1)
    assert [hit.span.start_ms for hit in answer.hits] == [midnight - MINUTE]
    both = await until_found(store, Ask(unit(1), 5, of(yard)), 2)
    assert len(both.hits) == 2


async def test_as_many_hits_as_asked_for_are_given_when_they_exist_behind_a_narrow_filter(
    store: MomentStore, yard: str
) -> None:
    """The camera's moments look alike and unlike the question: an approximate index passes them by."""
    crowd = [moment(f"{yard}-crowd-{n % 7}", NOON + n, vector=near(unit(1), n)) for n in range(3000)]
    rare = [moment(yard, NOON + n, vector=near(-unit(1), n)) for n in range(15)]
    await store.upsert([*crowd, *rare])
    answer = await until_found(store, Ask(unit(1), 10, of(yard)), 10)
    assert ids(answer.hits) == ranked(rare, unit(1))[:10]
    window = await until_found(store, Ask(-unit(1), 12, of(yard, f"{yard}-crowd-3"), NOON - MINUTE, NOON + 6), 7)
    assert len(window.hits) == 7


async def test_fetch_gives_moments_in_the_order_of_the_ids_and_leaves_out_unknown_ones(
    store: MomentStore, yard: str
) -> None:
    first, second = moment(yard, NOON), moment(yard, NOON + 30 * HOUR)
    await store.upsert([first, second])
    found = await store.fetch([second.id, "0" * 32, first.id])
    assert [m.id for m in found] == [second.id, first.id]
    np.testing.assert_allclose(found[1].vector, first.vector, atol=1e-6)
    assert found[1].vector.dtype == np.float32
    assert await store.fetch([]) == []


async def test_moments_of_different_spaces_never_meet(opened: Open, yard: str) -> None:
    ours, other = await opened(SPACE), await opened(SpaceInfo("0ddba11" + "0" * 9, SPACE.dimension))
    await ours.upsert([moment(yard)])
    await until_found(ours, Ask(unit(1), 5, of(yard)), 1)
    assert (await other.search(Ask(unit(1), 5))).hits == []
    assert await other.count() == 0
    assert await other.fetch([moment(yard).id]) == []
    with pytest.raises(Mismatch):
        await other.upsert([moment(yard)])


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "x" * 64, "in", "and", "not", "1e9", "camera", "like_-..__"])
async def test_any_allowed_camera_name_is_found_by_its_own_name_only(store: MomentStore, name: str) -> None:
    await store.upsert([moment(name, NOON), moment("another", NOON)])
    answer = await until_found(store, Ask(unit(1), 5, of(name)), 1)
    assert [hit.span.camera for hit in answer.hits] == [name]


async def test_two_writers_that_need_the_same_new_bucket_both_succeed(opened: Open, yard: str) -> None:
    space = SpaceInfo(secrets.token_hex(8), SPACE.dimension)
    writers = [await opened(space), await opened(space)]
    await asyncio.gather(*(w.upsert([moment(f"{yard}-{n}", space=space)]) for n, w in enumerate(writers)))
    for n, writer in enumerate(writers):
        assert await writer.count(of(f"{yard}-{n}")) == 1


@pytest.mark.parametrize("limit", [0, -1, MOST_HITS + 1, 10**9])
async def test_a_limit_outside_the_bounds_is_invalid(store: MomentStore, limit: int) -> None:
    with pytest.raises(Invalid, match="1 to"):
        await store.search(Ask(unit(1), limit))


async def test_the_largest_limit_is_answered(store: MomentStore, yard: str) -> None:
    await store.upsert([moment(yard)])
    assert len((await until_found(store, Ask(unit(1), MOST_HITS, of(yard)), 1)).hits) == 1


@pytest.mark.parametrize("name", ['" or 1 == 1 or camera == "', "", "two words", "a" * 65, "naïve", "x\n"])
async def test_a_name_that_no_camera_can_have_is_invalid(store: MomentStore, name: str) -> None:
    with pytest.raises(Invalid, match="camera"):
        await store.search(Ask(unit(1), 5, of(name)))
    with pytest.raises(Invalid, match="camera"):
        await store.count(of(name))


@pytest.mark.parametrize("bad", ["", "0" * 31, "0" * 33, "G" * 32, '" or id != "'])
async def test_a_text_that_no_moment_has_as_its_id_is_invalid(store: MomentStore, bad: str) -> None:
    with pytest.raises(Invalid, match="id"):
        await store.fetch([bad])


async def test_times_that_cannot_be_are_invalid(store: MomentStore) -> None:
    with pytest.raises(Invalid, match="time"):
        await store.search(Ask(unit(1), 5, start_ms=-1))
    with pytest.raises(Invalid, match="time"):
        await store.count(end_ms=2**63)


@pytest.mark.parametrize("bad", [np.full(16, np.nan), np.zeros(16), np.full(16, np.inf), np.ones(16)])
async def test_a_question_that_is_not_of_unit_length_is_invalid(store: MomentStore, bad: Vector) -> None:
    with pytest.raises(Invalid, match="length"):
        await store.search(Ask(bad.astype(np.float32), 5))


async def test_a_question_of_another_dimension_is_a_mismatch(store: MomentStore) -> None:
    with pytest.raises(Mismatch, match="dimension 16"):
        await store.search(Ask(unit(1, 8), 5))


async def test_a_store_may_be_closed_twice(opened: Open) -> None:
    store = await opened(SPACE)
    await store.close()
    await store.close()
