"""Which buckets are in memory: what a question is searched in, and what goes to make room for it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from index.loaded import Use, fitting
from index.places import Bucket, stretches

DAYS = [Bucket(24, 20_000 + n) for n in range(12)]
LONG_AFTER_MS = DAYS[-1].end_ms * 2

days = st.sets(st.sampled_from(DAYS))
sizes_of = st.fixed_dictionaries(dict.fromkeys(DAYS, st.integers(0, 100)))


@given(asked=days, sizes=sizes_of, most=st.integers(1, 600))
def test_all_that_is_asked_for_is_searched_where_it_fits_and_else_the_newest(
    asked: set[Bucket], sizes: dict[Bucket, int], most: int
) -> None:
    searched = fitting(asked, sizes, most)
    assert set(searched) <= asked
    left_out = asked - set(searched)
    if sum(sizes[one] for one in asked) <= most:
        assert not left_out
    else:
        assert searched  # never nothing
        assert min(one.end_ms for one in searched) > max((one.end_ms for one in left_out), default=0)
        assert len(searched) == 1 or sum(sizes[one] for one in searched) <= most


@given(
    used=st.lists(st.sampled_from(DAYS), max_size=30),
    loaded=days,
    wanted=days,
    sizes=sizes_of,
    most=st.integers(1, 600),
)
def test_what_was_not_used_for_longest_goes_and_no_more_than_needed(
    used: list[Bucket], loaded: set[Bucket], wanted: set[Bucket], sizes: dict[Bucket, int], most: int
) -> None:
    use = Use()
    for one in used:
        with use.of(one):
            pass
    leaving = use.leaving(loaded, wanted, sizes, most, LONG_AFTER_MS)
    staying = (loaded | wanted) - set(leaving)
    assert set(leaving) <= loaded - wanted
    assert sum(sizes[one] for one in staying) <= most or not (loaded - wanted - set(leaving))
    if leaving:  # without the last of them it would not fit
        assert sum(sizes[one] for one in staying) + sizes[leaving[-1]] > most
    last_used = {one: at for at, one in enumerate(used)}
    stays = [last_used.get(one, -1) for one in loaded - wanted - set(leaving)]
    assert all(last_used.get(gone, -1) <= min(stays, default=len(used)) for gone in leaving)


def test_what_grows_or_is_in_use_stays() -> None:
    use = Use()
    old, older = DAYS[1], DAYS[0]
    sizes = dict.fromkeys(DAYS, 10)
    with use.of(older):
        assert use.leaving([older, old], [DAYS[5]], sizes, 15, LONG_AFTER_MS) == [old]
    assert use.leaving([older, old], [DAYS[5]], sizes, 15, LONG_AFTER_MS) == [old, older]
    assert use.leaving([older, old], [DAYS[5]], sizes, 15, old.end_ms) == [older]


@given(days)
def test_stretches_cover_what_the_buckets_do(buckets: set[Bucket]) -> None:
    told = stretches(buckets)
    assert all(first[1] < second[0] for first, second in pairwise(told))
    for one in DAYS:
        assert any(start <= one.start_ms and one.end_ms <= end for start, end in told) == (one in buckets)
