"""What every MomentStore reads of a span of time: all of it, as it is now."""

from __future__ import annotations

import numpy as np
import pytest

from index.store import MomentStore
from proto.errors import Invalid
from tests.contracts.conftest import Open
from tests.contracts.moments import DAY, HOUR, MINUTE, NOON, SPACE, moment, of, region, unit


async def test_moments_come_by_camera_start_and_id_with_all_that_is_stored(store: MomentStore, yard: str) -> None:
    east, west = f"{yard}-east", f"{yard}-west"
    batch = [moment(name, NOON + n * MINUTE, vector=unit(n)) for n in range(5) for name in (west, east)]
    batch += [moment(east, NOON + MINUTE, partition=1, closed=False, resume="on"), moment(f"{yard}-else", NOON)]
    await store.upsert(batch[::-1])
    found = await store.between(of(east, west), NOON, NOON + HOUR)
    expected = sorted(batch[:-1], key=lambda m: (m.camera, m.start_ms, m.id))
    assert [m.id for m in found] == [m.id for m in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.vector, theirs.vector, atol=1e-6)
        assert (ours.frames, ours.closed, ours.resume) == (theirs.frames, theirs.closed, theirs.resume)


async def test_every_upsert_is_seen_at_once(store: MomentStore, yard: str) -> None:
    for n in range(1, 9):
        await store.upsert([moment(yard, frames=n, length_ms=n * 1000, closed=n == 8)])
        (found,) = await store.between(of(yard), NOON, NOON + MINUTE)
        assert (found.frames, found.end_ms, found.closed) == (n, NOON + n * 1000, n == 8)


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (NOON + 2000, NOON + HOUR, True),
        (NOON + 2001, NOON + HOUR, False),
        (0, NOON, False),
        (0, NOON + 1, True),
        (NOON + 500, NOON + 600, True),
        (NOON + 500, NOON + 500, True),
        (NOON, NOON, False),
        (0, 2**53, True),
    ],
)
async def test_both_ends_are_those_of_a_search(
    store: MomentStore, yard: str, start: int, end: int, found: bool
) -> None:
    await store.upsert([moment(yard, length_ms=2000)])
    assert len(await store.between(of(yard), start, end)) == int(found)
    assert await store.count(of(yard), start, end) == int(found)


async def test_a_reply_that_would_be_cut_off_is_asked_in_parts(opened: Open, yard: str) -> None:
    """By time; at one instant, by camera."""
    store = await opened(SPACE, most_rows=3)
    together = [moment(f"{yard}-{n}", NOON + HOUR) for n in range(5)]
    apart = [moment(f"{yard}-0", NOON + n * 7 * MINUTE, length_ms=20 * MINUTE) for n in range(30)]
    midnight = NOON + 12 * HOUR
    after = [moment(f"{yard}-1", midnight + n * MINUTE, length_ms=10) for n in range(9)]
    everything = [*together, *apart, *after]
    for _ in range(3):  # Rows that were replaced count once.
        await store.upsert(everything)
    names = frozenset(m.camera for m in everything)
    assert {m.id for m in await store.between(names, NOON, midnight + HOUR)} == {m.id for m in everything}
    window = await store.between(names, NOON + 2 * HOUR, midnight + 4 * MINUTE)
    expected = [m for m in everything if m.end_ms >= NOON + 2 * HOUR and m.start_ms < midnight + 4 * MINUTE]
    assert sorted(m.id for m in window) == sorted(m.id for m in expected)


async def test_a_moment_that_began_in_the_bucket_before_is_read(store: MomentStore, yard: str) -> None:
    midnight = NOON + 12 * HOUR
    long = moment(yard, midnight - 30 * MINUTE, length_ms=HOUR)
    await store.upsert([long, moment(yard, midnight + HOUR)])
    found = await store.between(of(yard), midnight + 10 * MINUTE, midnight + 20 * MINUTE)
    assert [m.id for m in found] == [long.id]


async def test_days_are_read_as_one(store: MomentStore, yard: str) -> None:
    batch = [moment(yard, NOON + n * DAY) for n in (-2, -1, 0, 1)]
    await store.upsert(batch)
    assert [m.id for m in await store.between(of(yard), NOON - 3 * DAY, NOON + 3 * DAY)] == [m.id for m in batch]


async def test_no_cameras_and_unknown_cameras_have_no_moments(store: MomentStore, yard: str) -> None:
    assert await store.between(frozenset(), 0, NOON) == []
    assert await store.between(of(yard), 0, 2**53) == []


async def test_names_and_times_that_cannot_be_are_invalid(store: MomentStore) -> None:
    with pytest.raises(Invalid, match="camera"):
        await store.between(of('" or 1 == 1'), 0, NOON)
    with pytest.raises(Invalid, match="time"):
        await store.between(of("gate"), -1, NOON)


async def test_moments_with_regions_are_cut_off_between_moments_only(opened: Open, yard: str) -> None:
    """A read takes 12 rows, and these are 20 moments of up to 5."""
    store = await opened(SPACE, most_rows=12)
    batch = [
        moment(yard, start, regions=[region(n * 10 + one, at_ms=start) for one in range(n % 5)])
        for n, start in enumerate(NOON + n * MINUTE for n in range(20))
    ]
    await store.upsert(batch)
    found = await store.between(of(yard), NOON, NOON + HOUR)
    assert [m.id for m in found] == [m.id for m in batch]
    assert [[r.box for r in m.regions] for m in found] == [[r.box for r in m.regions] for m in batch]
