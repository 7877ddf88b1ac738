"""Where moments rest: the pure rules."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.filters import overlapping
from index.memory import bare
from index.places import (
    MOST_STRETCHES,
    Bucket,
    bucket_for,
    bucket_of,
    collection_name,
    collection_named,
    former_named,
    may_be_made,
)
from tests.contracts.moments import moment

HOURS = st.integers(1, 24 * 365)
TIMES = st.integers(0, 2**53)
SPACE = "0123456789abcdef"
HOUR = 3_600_000


@given(TIMES, HOURS)
def test_a_moment_lies_in_the_bucket_of_its_start(start_ms: int, hours: int) -> None:
    bucket = bucket_of(start_ms, hours)
    assert bucket.start_ms <= start_ms < bucket.end_ms
    assert bucket.end_ms - bucket.start_ms == hours * 3_600_000


@given(TIMES, HOURS)
def test_a_bucket_is_known_by_its_collections_name(start_ms: int, hours: int) -> None:
    bucket = bucket_of(start_ms, hours)
    name = collection_name(SPACE, bucket)
    assert collection_named(name) == (SPACE, bucket)
    assert name.replace("_", "").isalnum()


def test_collections_of_others_are_nobodys_buckets() -> None:
    name = collection_name(SPACE, Bucket(24, 20_000))
    for other in ("", "watchword", name + "x", name.upper(), f"my_{name}", name.replace("24h", "h")):
        assert collection_named(other) is None


def test_rows_without_a_place_in_a_log_are_never_met() -> None:
    """Collections had this name while a moment's row did not say which frames it is made of."""
    assert collection_named(f"watchword_{SPACE}_24h_20000") is None


@given(TIMES, st.integers(0, 3_600_000), st.none() | TIMES, st.none() | TIMES, st.integers(1, 48))
def test_every_bucket_with_an_overlapping_moment_is_touched(
    start_ms: int, length_ms: int, search_start: int | None, search_end: int | None, hours: int
) -> None:
    span = bare(moment("gate", start_ms, length_ms=length_ms))
    if overlapping(None, search_start, search_end).passes(span):
        assert bucket_of(start_ms, hours).touches(search_start, search_end, 3_600_000)


def test_a_search_of_one_hour_touches_only_the_buckets_around_it() -> None:
    noon = Bucket(24, 20_000).start_ms + 12 * 3_600_000
    touched = [n for n in range(19_990, 20_010) if Bucket(24, n).touches(noon, noon + 3_600_000, 3_600_000)]
    assert touched == [20_000]


def test_the_last_tenth_of_a_bucket_is_nearly_over() -> None:
    bucket = Bucket(10, 7)
    assert not bucket.nearly_over(bucket.end_ms - 3_600_001)
    assert bucket.nearly_over(bucket.end_ms - 3_600_000)


def test_a_bucket_that_exists_is_used_whatever_its_width_is() -> None:
    day = Bucket(24, 20_000)
    at_ms = day.start_ms + 7 * HOUR
    assert bucket_for(at_ms, 6, [day]) == day
    assert bucket_for(at_ms, 6, []) == bucket_of(at_ms, 6)
    assert bucket_for(day.end_ms, 6, [day]) == bucket_of(day.end_ms, 6)


def test_of_several_buckets_the_narrowest_is_used_since_it_was_made_first() -> None:
    day, part = Bucket(24, 20_000), Bucket(6, 80_001)
    assert day.start_ms <= part.start_ms < part.end_ms <= day.end_ms
    assert bucket_for(part.start_ms, 24, [day, part]) == part
    assert bucket_for(part.end_ms, 24, [day, part]) == day


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=60))
def test_a_time_keeps_its_bucket_however_often_the_width_changes(stored: list[tuple[int, int]]) -> None:
    made: set[Bucket] = set()
    first: dict[int, Bucket] = {}
    for hour, width in stored:
        bucket = bucket_for(hour * HOUR, width, made)
        made.add(bucket)
        first.setdefault(hour, bucket)
        assert {at: bucket_for(at * HOUR, width, made) for at in first} == first


@given(st.lists(TIMES, max_size=300), HOURS)
def test_wild_times_make_few_buckets(times: list[int], hours: int) -> None:
    """Whatever the order: no more stretches that lie more than a week apart."""
    made: list[Bucket] = []
    for at_ms in times:
        bucket = bucket_for(at_ms, hours, made)
        if bucket not in made and may_be_made(bucket, made):
            made.append(bucket)
    made.sort(key=lambda one: one.start_ms)
    apart = [after for before, after in pairwise(made) if after.start_ms > before.end_ms + 7 * 24 * HOUR]
    assert len(apart) < MOST_STRETCHES


def test_what_lies_beside_other_buckets_may_always_be_made() -> None:
    years = [Bucket(24, 365 * n) for n in range(MOST_STRETCHES)]
    assert not may_be_made(Bucket(24, 100), years)
    for bucket in (Bucket(24, 1), Bucket(24, 8), Bucket(24, 365 - 8), Bucket(6, 4 * 365 + 9)):
        assert may_be_made(bucket, years)
    assert may_be_made(Bucket(24, 100), years[1:])


def test_a_year_of_days_and_of_working_days_is_one_stretch() -> None:
    made: list[Bucket] = []
    for number in range(20_000, 20_000 + 3650):
        if number % 7 < 5:
            assert may_be_made(Bucket(24, number), made[-80:])
            made.append(Bucket(24, number))
    assert may_be_made(Bucket(24, 1), made)


@pytest.mark.parametrize("name", [f"watchword{version}_5ace5ace5ace5ace_24h_20454" for version in ("", "2", "3")])
def test_a_collection_of_an_earlier_layout_is_known_and_not_read(name: str) -> None:
    assert former_named(name) == (f"{'5ace' * 4} of an earlier version", Bucket(24, 20454))
    assert collection_named(name) is None
    assert former_named(collection_name("5ace" * 4, Bucket(24, 7))) is None
    assert former_named(f"others_{name}") is None
