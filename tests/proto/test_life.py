from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.errors import Invalid
from proto.life import (
    ALWAYS_MS,
    DAY_MS,
    DEFAULT,
    LEAST_BYTES,
    MOST_BYTES,
    NOTHING,
    Erasure,
    Hold,
    Rules,
    Stretch,
    check_bytes,
    check_days,
)

NOW = 1_767_268_800_000
CAMERAS = ["gate", "dock", "yard"]
HOUR = DAY_MS // 24

times = st.integers(NOW - 3 * DAY_MS, NOW)


@st.composite
def stretches(draw: st.DrawFn) -> Stretch:
    first, last = sorted(draw(st.tuples(times, times)))
    return Stretch(draw(st.sampled_from(CAMERAS)), first, last + 1)


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    order = draw(st.lists(st.tuples(st.booleans(), stretches()), max_size=6))
    return Rules(
        version=len(order),
        days=draw(st.dictionaries(st.sampled_from([DEFAULT, *CAMERAS]), st.sampled_from([0.5, 1, 2, 36_500]))),
        erasures=tuple(Erasure(n, one, "", "", NOW) for n, (is_hold, one) in enumerate(order) if not is_hold),
        holds=tuple(Hold(n, one, "", NOW) for n, (is_hold, one) in enumerate(order) if is_hold),
        floors=draw(st.dictionaries(st.sampled_from(CAMERAS), times.map(lambda at: at // 60_000 * 60_000))),
    )


def is_gone(rules: Rules, camera: str, start_ms: int, end_ms: int) -> bool:
    """By the words of the rule, one after the other."""
    days = rules.days.get(camera, rules.days.get(DEFAULT))
    holds = [hold for hold in rules.holds if hold.stretch.camera == camera and hold.stretch.touches(start_ms, end_ms)]
    old = days is not None and NOW - start_ms > days * DAY_MS
    expired = (old or start_ms < rules.floors.get(camera, 0)) and not holds
    return expired or any(
        one.stretch.camera == camera
        and one.stretch.touches(start_ms, end_ms)
        and not any(hold.number < one.number for hold in holds)
        for one in rules.erasures
    )


@settings(deadline=None)
@given(rules(), st.sampled_from(CAMERAS), times, st.integers(0, HOUR))
def test_what_is_gone_follows_the_rule_word_for_word(made: Rules, camera: str, start_ms: int, length_ms: int) -> None:
    start_ms = start_ms // 60_000 * 60_000
    gone = made.gone(NOW)
    assert gone.covers(camera, start_ms, start_ms + length_ms) == is_gone(made, camera, start_ms, start_ms + length_ms)


@settings(deadline=None)
@given(rules(), st.frozensets(st.sampled_from(CAMERAS), min_size=1), st.tuples(times, times), times)
def test_a_part_of_it_says_the_same_of_what_it_is_asked_about(
    made: Rules, cameras: frozenset[str], asked: tuple[int, int], start_ms: int
) -> None:
    gone, (first, last) = made.gone(NOW), sorted(asked)
    some = gone.among(cameras, first, last + 1)
    everyone = gone.among(None, first, last + 1)
    end_ms = start_ms + HOUR
    if end_ms >= first and start_ms <= last:
        for camera in cameras:
            assert some.covers(camera, start_ms, end_ms) == gone.covers(camera, start_ms, end_ms)
            assert everyone.covers(camera, start_ms, end_ms) == gone.covers(camera, start_ms, end_ms)


@settings(deadline=None)
@given(rules(), st.sampled_from(CAMERAS), times, st.integers(0, DAY_MS))
def test_what_is_left_of_a_time_holds_no_instant_that_is_gone(
    made: Rules, camera: str, start_ms: int, length_ms: int
) -> None:
    gone = made.gone(NOW)
    for first, last in gone.parts(camera, start_ms, start_ms + length_ms):
        assert start_ms <= first <= last <= start_ms + length_ms
        for one in gone.erased:
            if one.stretch.camera == camera and not one.unless:
                assert not one.stretch.touches(first, last)


@settings(deadline=None)
@given(rules(), times)
def test_what_starts_below_the_floor_is_gone_of_every_camera_unless_it_is_held(made: Rules, start_ms: int) -> None:
    gone = made.gone(NOW)
    for camera in CAMERAS:
        if start_ms < gone.floor_ms and not any(one.camera == camera for one in gone.held):
            assert gone.covers(camera, start_ms, start_ms)
        if gone.covers(camera, start_ms, start_ms + HOUR):
            assert gone.may_cover(start_ms)
            assert gone.may_be_of(camera, start_ms)


def test_without_rules_nothing_is_gone() -> None:
    assert Rules().gone(NOW) == NOTHING
    assert NOTHING.nothing
    assert not NOTHING.covers("gate", 0, 0)
    assert Rules(days={"gate": 36_500.0}).gone(NOW).nothing


def test_the_same_limits_are_the_same_for_a_minute() -> None:
    made = Rules(days={DEFAULT: 1.0})
    assert made.gone(NOW) == made.gone(NOW - 59_999) != made.gone(NOW + 1)


def test_many_erasures_of_one_time_are_one_line_of_a_question() -> None:
    made = Rules(erasures=tuple(Erasure(n, Stretch("gate", n * 10, n * 10 + 10), "", "", NOW) for n in range(100)))
    (one,) = made.gone(NOW).erased
    assert one.stretch == Stretch("gate", 0, 1000)


@pytest.mark.parametrize("days", [0.0, -1.0, 0.01, float("nan"), float("inf"), 1e9])
def test_a_limit_that_cannot_be_kept_is_refused(days: float) -> None:
    with pytest.raises(Invalid, match="cannot be kept"):
        check_days(days)
    assert check_days(1 / 24) == 1 / 24
    assert ALWAYS_MS > NOW


@pytest.mark.parametrize("size", [-1, 0, LEAST_BYTES - 1, MOST_BYTES + 1])
def test_bytes_that_hold_nothing_are_refused_with_what_to_give(size: int) -> None:
    with pytest.raises(Invalid, match=f"within {size} bytes") as caught:
        check_bytes(size)
    assert "give 10MB or more" in caught.value.todo


def test_the_bytes_of_a_camera_are_its_own_or_those_of_each() -> None:
    made = Rules(bytes={DEFAULT: 5 * LEAST_BYTES, "gate": LEAST_BYTES, "dock": MOST_BYTES})
    assert [made.limit(name) for name in CAMERAS] == [LEAST_BYTES, None, 5 * LEAST_BYTES]
    assert Rules().limit("gate") is None


def test_the_later_of_age_and_floor_counts() -> None:
    floors = {"gate": NOW - HOUR, "dock": NOW - 48 * HOUR, "yard": NOW - 2 * HOUR}
    gone = Rules(days={DEFAULT: 1.0, "yard": 36_500.0}, floors=floors).gone(NOW)
    assert [gone.before_of(name) for name in (*CAMERAS, "else")] == [
        NOW - HOUR,
        NOW - 24 * HOUR,
        NOW - 2 * HOUR,
        NOW - 24 * HOUR,
    ]
    assert Rules(floors=floors).gone(NOW).before_of("else") == 0
