from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from life.sizing import Sized, floor_of

HOUR = 3_600_000
sizes = st.lists(st.integers(0, 50), max_size=30)
limits = st.integers(0, 300)


def stretches(made: list[int]) -> list[Sized]:
    """One an hour, the newest first."""
    return [Sized((1000 - n) * HOUR, (1001 - n) * HOUR, float(size)) for n, size in enumerate(made)]


@given(sizes, limits)
def test_what_stays_fits_or_is_the_newest_stretch_alone(made: list[int], limit: int) -> None:
    all_of = stretches(made)
    floor_ms = floor_of(all_of, limit)
    kept = [one for one in all_of if one.bytes and (floor_ms is None or one.start_ms >= floor_ms)]
    assert sum(one.bytes for one in kept) <= limit or len(kept) == 1


@given(sizes, limits)
def test_nothing_goes_that_would_fit_too(made: list[int], limit: int) -> None:
    all_of = stretches(made)
    floor_ms = floor_of(all_of, limit)
    if floor_ms is None:
        return
    gone = [one for one in all_of if one.bytes and one.start_ms < floor_ms]
    kept = sum(one.bytes for one in all_of if one.start_ms >= floor_ms)
    assert kept + gone[0].bytes > limit


@given(sizes, limits, st.integers(1, 100))
def test_a_higher_limit_never_lets_a_camera_begin_later(made: list[int], limit: int, more: int) -> None:
    low, high = floor_of(stretches(made), limit), floor_of(stretches(made), limit + more)
    assert (high or 0) <= (low or 0)


@given(sizes, limits, st.integers(1, 50))
def test_what_comes_later_never_lets_a_camera_begin_earlier(made: list[int], limit: int, new: int) -> None:
    before, after = floor_of(stretches(made), limit), floor_of(_moved(stretches(made), new), limit)
    assert (after or 0) >= (before or 0)


def _moved(all_of: list[Sized], new: int) -> list[Sized]:
    return [Sized(1001 * HOUR, 1002 * HOUR, float(new)), *all_of]


def test_what_fits_whole_has_no_floor() -> None:
    assert floor_of(stretches([10, 0, 10]), 20) is None
    assert floor_of(stretches([10, 0, 10]), 19) == 1000 * HOUR
    assert floor_of([], 0) is None
