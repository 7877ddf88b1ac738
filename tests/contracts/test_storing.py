"""What every MomentStore stores, and what it tells of the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from index.store import MomentStore
from proto.errors import Invalid, Mismatch
from proto.types import MOST_RESUME_CHARS, Box, Moment, SpaceInfo, moment_id
from tests.contracts.conftest import Open
from tests.contracts.moments import HOUR, LOG, NOON, SPACE, moment, of, region, unit


def with_id(changed: Moment) -> Moment:
    """The moment, with the id of its present fields."""
    name = moment_id(changed.camera, changed.start_ms, changed.log, changed.partition, changed.first_offset)
    return replace(changed, id=name)


def with_region(changed: Moment, *differences: Mapping[str, Any]) -> Moment:
    """The moment with good regions, but for these differences."""
    good = region(1, at_ms=changed.start_ms)
    return replace(changed, regions=tuple(replace(good, **one) for one in differences))


KINDS_101 = sorted(f"{one}{other}" for one in "abcdefghijk" for other in "abcdefghijk")[:101]
BAD: dict[str, Callable[[Moment], Moment]] = {
    "the id of another offset": lambda m: replace(m, first_offset=m.first_offset + 1),
    "the id of another log": lambda m: replace(m, log="0" * 32),
    "the id of another camera": lambda m: replace(m, camera="gate"),
    "no log": lambda m: with_id(replace(m, log="")),
    "a log that is not hex": lambda m: with_id(replace(m, log="g" * 32)),
    "no partition": lambda m: with_id(replace(m, partition=-1)),
    "a partition that no row can hold": lambda m: with_id(replace(m, partition=2**31)),
    "a negative offset": lambda m: with_id(replace(m, first_offset=-1)),
    "offsets that run backwards": lambda m: replace(m, last_offset=m.first_offset - 1),
    "an offset that no row can hold": lambda m: replace(m, last_offset=2**63),
    "too much to go on": lambda m: replace(m, resume="x" * (MOST_RESUME_CHARS + 1)),
    "too many bytes to go on": lambda m: replace(m, resume="ü" * (MOST_RESUME_CHARS // 2 + 1)),
    "half a surrogate pair": lambda m: replace(m, resume="\ud800"),
    "a peak before its start": lambda m: replace(m, peak_ms=m.start_ms - 1),
    "an end before its peak": lambda m: replace(m, end_ms=m.peak_ms - 1),
    "frames that no row can hold": lambda m: replace(m, frames=2**31),
    "a length that no search reaches back": lambda m: replace(m, end_ms=m.start_ms + HOUR + 1),
    "a vector of no length": lambda m: replace(m, vector=np.zeros(SPACE.dimension, np.float32)),
    "a vector that is too long": lambda m: replace(m, vector=2 * m.vector),
    "one region too many": lambda m: with_region(m, *[{}] * 5),
    "a region of before": lambda m: with_region(m, {"at_ms": m.start_ms - 1}),
    "a region of after": lambda m: with_region(m, {"at_ms": m.end_ms + 1}),
    "a region that was seen before it came": lambda m: with_region(
        m, {"since_ms": m.start_ms + 1, "until_ms": m.end_ms}
    ),
    "a region that was seen after the end": lambda m: with_region(m, {"since_ms": 1, "until_ms": m.end_ms + 1}),
    "a region that was seen last and never first": lambda m: with_region(m, {"until_ms": m.start_ms}),
    "a region beyond the picture": lambda m: with_region(m, {}, {"box": Box(0.5, 0.5, 1.01, 1)}),
    "a region without width": lambda m: with_region(m, {"box": Box(0.5, 0.5, 0.5, 1)}),
    "a region that is nowhere": lambda m: with_region(m, {"box": Box(math.nan, 0, 1, 1)}),
    "a region without a direction": lambda m: with_region(m, {"vector": np.zeros(SPACE.dimension, np.float32)}),
    "a region of no possible kind": lambda m: with_region(m, {"kind": 'a" or "b'}),
    "a region of a score above 1": lambda m: with_region(m, {"kind": "dog", "score": 1.01}),
    "a region of no score": lambda m: with_region(m, {"kind": "dog", "score": math.nan}),
    "an object of no possible kind": lambda m: replace(m, objects=(("Dog", 1),)),
    "an object that is not there": lambda m: replace(m, objects=(("dog", 0),)),
    "more objects than a row can hold": lambda m: replace(m, objects=(("dog", 2**31),)),
    "objects out of order": lambda m: replace(m, objects=(("dog", 1), ("car", 1))),
    "a kind twice": lambda m: replace(m, objects=(("dog", 1), ("dog", 2))),
    "too many kinds": lambda m: replace(m, objects=tuple((kind, 1) for kind in KINDS_101)),
    "a vector that is not finite": lambda m: replace(m, vector=np.full(SPACE.dimension, np.nan, np.float32)),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_moment_that_breaks_a_rule_is_refused_and_the_others_are_stored(
    store: MomentStore, yard: str, what: str
) -> None:
    bad = BAD[what](moment(yard, NOON + 5, closed=False))
    failed = await store.upsert([moment(yard, NOON + 1), bad, moment(yard, NOON + 9)])
    assert list(failed) == [bad.id]
    assert isinstance(failed[bad.id], Invalid)
    assert failed[bad.id].todo
    assert [m.start_ms for m in await store.between(of(yard, "gate"), NOON, NOON + 100) if m.camera == yard] == [
        NOON + 1,
        NOON + 9,
    ]


async def test_nothing_is_told_of_a_batch_that_was_stored_whole(store: MomentStore, yard: str) -> None:
    assert await store.upsert([moment(yard, NOON + n) for n in range(5)]) == {}
    assert await store.upsert([]) == {}


@pytest.mark.parametrize(
    "stranger",
    [
        moment("gate", NOON + 1, vector=unit(1, 8)),
        moment("gate", NOON + 1, space=SpaceInfo("0ddba11" + "0" * 9, SPACE.dimension)),
        moment("gate", regions=[region(1, vector=unit(1, 8))]),
    ],
    ids=["another dimension", "another space", "a region of another dimension"],
)
async def test_a_moment_of_another_space_keeps_the_whole_batch_out(
    store: MomentStore, yard: str, stranger: Moment
) -> None:
    with pytest.raises(Mismatch):
        await store.upsert([moment(yard), stranger])
    assert await store.count(of(yard)) == 0


async def test_what_an_open_moment_needs_to_go_on_is_kept_until_it_is_closed(store: MomentStore, yard: str) -> None:
    text = '{"centre": "\\"ünïcode\\" \\\\ 16:9", "seen": 7}'
    await store.upsert([moment(yard, closed=False, resume=text)])
    (found,) = await store.fetch([moment(yard).id])
    assert (found.closed, found.resume) == (False, text)
    await store.upsert([moment(yard, frames=4)])
    (found,) = await store.fetch([moment(yard).id])
    assert (found.closed, found.resume) == (True, "")


async def test_the_largest_values_of_a_row_are_kept(store: MomentStore, yard: str) -> None:
    largest = moment(
        yard,
        frames=2**31 - 1,
        closed=False,
        log="f" * 32,
        partition=2**31 - 1,
        first_offset=2**63 - 2,
        last_offset=2**63 - 1,
        resume="ü" * 256,
    )
    assert await store.upsert([largest]) == {}
    (found,) = await store.fetch([largest.id])
    for field in ("frames", "log", "partition", "first_offset", "last_offset", "resume"):
        assert getattr(found, field) == getattr(largest, field)


async def test_moments_that_start_together_at_different_places_are_different(store: MomentStore, yard: str) -> None:
    same_start = [
        moment(yard, first_offset=7),
        moment(yard, first_offset=8),
        moment(yard, first_offset=7, partition=1),
        moment(yard, first_offset=7, log=LOG[::-1]),
    ]
    await store.upsert(same_start)
    assert {m.id for m in await store.between(of(yard), NOON, NOON + 1)} == {m.id for m in same_start}


async def test_a_time_of_a_wrong_clock_in_a_batch_costs_only_itself(opened: Open, yard: str) -> None:
    store = await opened(SPACE)
    wild = moment(yard, 2**53 - 1, length_ms=5000)
    failed = await store.upsert([moment(yard), wild])
    assert list(failed) == [wild.id]
    assert await store.count(of(yard)) == 1
