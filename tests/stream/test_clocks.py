from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.clocks import Behind, Lateness, LogClock, Pace, SteadyClock

T = 1_767_225_600_000


def test_a_partitions_time_is_that_of_its_latest_record() -> None:
    clock = LogClock()
    assert clock.now_ms == 0
    assert [clock.read(at_ms) for at_ms in (T, T + 500, T + 90_000)] == [T, T + 500, T + 90_000]


def test_a_record_with_an_older_time_does_not_set_the_partition_back() -> None:
    clock = LogClock()
    clock.read(T + 5000)
    assert clock.read(T) == clock.now_ms == T + 5000


def test_time_passes_while_looks_find_the_partition_read_to_its_end() -> None:
    clock = LogClock()
    clock.read(T)
    for now_s in (100.0, 101.0, 105.5):
        clock.at_end(now_s)
    assert clock.now_ms == T + 5500


def test_the_first_look_at_the_end_says_nothing_about_the_time_before_it() -> None:
    clock = LogClock()
    clock.read(T)
    clock.at_end(1e6)
    assert clock.now_ms == T


def test_a_process_that_was_stopped_saw_no_time_pass() -> None:
    clock = LogClock()
    clock.read(T)
    for now_s in (100.0, 101.0, 3700.0, 3701.0):
        clock.at_end(now_s)
    assert clock.now_ms == T + 2000


def test_looks_five_seconds_apart_count_and_looks_further_apart_do_not() -> None:
    clock = LogClock()
    clock.read(T)
    clock.at_end(100.0)
    clock.at_end(105.0)
    assert clock.now_ms == T + 5000
    clock.at_end(110.1)
    assert clock.now_ms == T + 5000


def test_while_the_broker_does_not_say_where_the_log_ends_no_time_passes() -> None:
    clock = LogClock()
    clock.read(T)
    clock.at_end(100.0)
    clock.at_end(101.0)
    clock.not_at_end()
    clock.at_end(104.0)
    clock.at_end(105.0)
    assert clock.now_ms == T + 2000


def test_a_record_ends_the_waiting_and_its_own_time_counts_from_then_on() -> None:
    clock = LogClock()
    clock.read(T)
    clock.at_end(100.0)
    clock.at_end(104.0)
    assert clock.read(T + 3000) == T + 4000
    assert clock.read(T + 6000) == T + 6000
    clock.at_end(105.0)
    assert clock.now_ms == T + 6000


events = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 10_000)),
        st.tuples(st.just("end"), st.integers(0, 10_000)),
        st.tuples(st.just("not"), st.just(0)),
    ),
    max_size=40,
)


@given(events)
def test_whatever_is_read_and_seen_a_partitions_time_never_runs_back(events: list[tuple[str, int]]) -> None:
    clock, before_ms = LogClock(), 0
    for kind, at in events:
        if kind == "read":
            clock.read(at)
        elif kind == "end":
            clock.at_end(at / 1000)
        else:
            clock.not_at_end()
        assert clock.now_ms >= before_ms
        before_ms = clock.now_ms


def test_clocks_a_minute_apart_make_no_frame_late() -> None:
    for skew_ms in (-61_000, 61_000):
        lateness = Lateness()
        for second in range(5):
            lateness.came(T + 1000 * second, T + 1000 * second + skew_ms + 30, last=True)
        assert lateness.late_s(T + 5000, T + 5000 + skew_ms + 30) == 0.0
        assert lateness.late_s(T + 5000, T + 9000 + skew_ms + 30) == 4.0


def test_records_with_more_behind_them_say_nothing_about_the_clocks() -> None:
    lateness = Lateness()
    lateness.came(T, T + 10_000, last=False)
    assert lateness.late_s(T, T + 10_000) == 10.0


def test_a_record_that_came_from_the_end_late_does_not_hide_that_others_wait() -> None:
    lateness = Lateness()
    lateness.came(T, T + 20, last=True)
    lateness.came(T + 1000, T + 4000, last=True)
    assert lateness.late_s(T + 2000, T + 5020) == 3.0


def test_a_clock_that_was_set_is_believed_after_some_records_and_never_makes_time_negative() -> None:
    lateness = Lateness()
    for number in range(64):
        lateness.came(T + number, T + number, last=True)
    for number in range(64):
        lateness.came(T + number, T + number + 3_600_000, last=True)
    assert lateness.late_s(T, T + 3_600_000) == 0.0
    assert lateness.late_s(T, T) == 0.0


def settled(pace: Pace, frames: int, each_s: float, batches: int = 200) -> float:
    for number in range(batches):
        pace.did(frames, number * each_s, (number + 1) * each_s)
    return pace.per_s


def test_the_pace_becomes_what_was_measured() -> None:
    assert abs(settled(Pace(), 16, 0.1) - 160.0) < 1.0
    assert abs(settled(Pace(), 4, 2.0) - 2.0) < 0.1


def test_batches_that_overlap_count_their_time_once() -> None:
    pace = Pace()
    for number in range(200):
        pace.did(10, number * 1.0 - 0.9, number * 1.0 + 1.0)
    assert abs(pace.per_s - 10.0) < 0.1


def test_a_batch_without_a_new_frame_and_one_without_time_say_nothing() -> None:
    pace = Pace(40.0)
    pace.did(0, 0.0, 5.0)
    pace.did(8, 6.0, 6.0)
    assert pace.per_s == 40.0


def test_one_slow_batch_does_not_decide_the_pace() -> None:
    pace = Pace(40.0)
    pace.did(1, 0.0, 100.0)
    assert pace.per_s > 20.0


def test_a_batch_is_no_larger_than_what_the_encoder_answers_in_time() -> None:
    pace = Pace()
    settled(pace, 16, 0.8)
    assert pace.size(16, 1.0) == 16
    assert pace.size(16, 0.5) == 8
    assert pace.size(16, 0.01) == 4


def test_batches_do_not_shrink_where_each_call_costs_the_same() -> None:
    pace = Pace()
    settled(pace, 16, 0.5)
    assert pace.size(16, 0.25) == 8
    for number in range(300, 320):
        pace.did(8, number * 0.5, (number + 1) * 0.5)
    assert pace.size(16, 0.25) == 16


def test_steps_of_the_wall_clock_are_no_lag() -> None:
    at_s = 100.0
    clock = SteadyClock(5_000, lambda: at_s)
    at_s = 101.5
    assert clock.now_ms() == 6_500


def at_end(skew_ms: int) -> Lateness:
    lateness = Lateness()
    lateness.came(T, T + skew_ms, last=True)
    return lateness


def test_a_partition_of_which_nothing_is_left_is_not_behind() -> None:
    behind = Behind(T)
    assert behind.behind_s(T + 60_000, Lateness(), left=False) == 0.0


def test_a_partition_is_as_far_behind_as_its_oldest_frame_in_hand_has_waited_whatever_the_clocks_differ() -> None:
    for skew_ms in (-61_000, 0, 61_000):
        behind = Behind(T + skew_ms)
        behind.took(7, T)
        behind.took(8, T + 4000)
        behind.clear(T + 8000 + skew_ms)
        assert behind.behind_s(T + 9000 + skew_ms, at_end(skew_ms), left=False) == 9.0
        behind.through(7)
        assert behind.behind_s(T + 9000 + skew_ms, at_end(skew_ms), left=True) == 5.0
        behind.through(8)
        assert behind.behind_s(T + 9000 + skew_ms, at_end(skew_ms), left=False) == 0.0


def test_a_frame_that_overtakes_another_does_not_hide_that_it_waits() -> None:
    behind = Behind(T)
    behind.took(7, T)
    behind.took(8, T + 4000)
    behind.through(8)
    assert behind.behind_s(T + 9000, at_end(0), left=False) == 9.0


def test_while_frames_lie_in_the_log_it_is_as_far_behind_as_it_was_last_read_to_its_end() -> None:
    behind = Behind(T)
    assert behind.behind_s(T + 2000, at_end(0), left=True) == 2.0
    behind.clear(T + 3_600_000)
    assert behind.behind_s(T + 3_601_000, at_end(0), left=True) == 1.0


def test_between_two_batches_of_a_backlog_it_is_as_far_behind_as_the_latest_frame_that_came_through() -> None:
    behind = Behind(T + 100_000)
    behind.took(7, T)
    behind.through(7)
    assert behind.behind_s(T + 103_000, at_end(0), left=True) == 103.0
