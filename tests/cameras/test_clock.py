from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cameras.clock import Instant, LiveClock, Placed, RecordingClock, Stamp
from cameras.sampling import Sampler

WALL_MS = 1_767_225_600_000
HOUR_S = 3600.0


def at(mono_s: float, wall_ahead_s: float = 0.0) -> Instant:
    """The clocks of a machine that was started when the test began; its wall clock may have been stepped."""
    return Instant(mono_s, WALL_MS + round((mono_s + wall_ahead_s) * 1000))


def stamps(pictures: Iterable[tuple[float | None, float]], clock: LiveClock | None = None) -> list[Stamp]:
    """The stamps of pictures given as (PTS, arrival)."""
    clock = clock or LiveClock()
    return [clock.stamp(pts_s, at(arrival_s)) for pts_s, arrival_s in pictures]


def captured_s(stamp: Stamp) -> float:
    return (stamp.captured_ms - WALL_MS) / 1000


def steady(seconds: float, fps: float = 25.0, begin_s: float = 0.0) -> list[tuple[float | None, float]]:
    """A camera whose pictures arrive 50 ms after they were taken."""
    return [(begin_s + n / fps, begin_s + n / fps + 0.05) for n in range(round(seconds * fps))]


@given(
    steps=st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(-1e5, 1e5), st.floats(0, 0.2)),  # of PTS; None: a picture without PTS
            st.floats(0, 30),  # of the monotonic clock
            st.one_of(st.just(0.0), st.floats(-HOUR_S, HOUR_S)),  # of the wall clock, beyond the monotonic one
        ),
        min_size=1,
        max_size=80,
    )
)
@example(steps=[(0.0, 0.0, 0.0), (2.0, 0.0, -1.0)])
def test_time_goes_back_only_after_a_gap_and_is_never_ahead_of_the_arrival(
    steps: list[tuple[float | None, float, float]],
) -> None:
    clock = LiveClock()
    pts_s = mono_s = stepped_s = 0.0
    last: Stamp | None = None
    for pts_step, passed, stepped in steps:
        pts_s, mono_s, stepped_s = pts_s + (pts_step or 0.0), mono_s + passed, stepped_s + stepped
        now = at(mono_s, stepped_s)
        stamp = clock.stamp(None if pts_step is None else pts_s, now)
        assert stamp.stream_s <= mono_s
        # A wall clock that is moved back by less than a step counts makes time stand still.
        assert stamp.captured_ms <= now.wall_ms + (0 if last is None or stamp.after_gap else 1001)
        if last is not None:
            assert stamp.stream_s >= last.stream_s
            assert stamp.captured_ms >= last.captured_ms or stamp.after_gap
        last = stamp


@given(stall_s=st.floats(1, 15), drained_at=st.floats(1.5, 100), fps=st.sampled_from([5.0, 12.5, 25.0, 60.0]))
@settings(max_examples=40, deadline=None)
def test_what_a_stalled_network_delivers_late_keeps_its_times(stall_s: float, drained_at: float, fps: float) -> None:
    pictures = steady(3, fps)
    arrival_s = 3 + stall_s
    for n in range(round(3 * fps), round(60 * fps)):
        arrival_s = max(arrival_s + 1 / fps / drained_at, n / fps + 0.05)
        pictures.append((n / fps, arrival_s))
    seen = stamps(pictures)
    assert [stamp.after_gap for stamp in seen] == [True] + [False] * (len(seen) - 1)
    for n, stamp in enumerate(seen):
        assert captured_s(stamp) == pytest.approx(n / fps + 0.05, abs=0.1)


def test_what_came_late_is_sampled_as_if_it_had_come_in_time() -> None:
    pictures = steady(3)
    for n in range(75, 275):  # eight seconds, within 0.4
        pictures.append((n / 25, 11.05 + (n - 75) * 0.002))
    pictures += [(n / 25, n / 25 + 0.55) for n in range(275, 350)]
    sampler = Sampler(2)
    taken = [stamp for stamp in stamps(pictures) if sampler.wants(stamp.stream_s)]
    assert sum(3 <= captured_s(stamp) < 11 for stamp in taken) == 16


def test_pictures_that_are_missing_make_a_gap_and_keep_the_time() -> None:
    pictures = [(pts_s, arrival_s) for pts_s, arrival_s in steady(20) if not 5 <= arrival_s < 13]
    gaps = [captured_s(stamp) for stamp in stamps(pictures) if stamp.after_gap]
    assert gaps == pytest.approx([0.05, 13.01], abs=0.02)


def test_a_camera_of_one_picture_in_five_seconds_has_no_gaps() -> None:
    seen = stamps([(5.0 * n, 5.0 * n + 0.1) for n in range(40)])
    assert not any(stamp.after_gap for stamp in seen[10:])


@pytest.mark.parametrize("jump_s", [26.5 * HOUR_S, 10.0, -10.0, -26.5 * HOUR_S])
def test_pts_that_jumps_is_anchored_anew_and_is_a_gap(jump_s: float) -> None:
    pictures = [((pts_s or 0.0) + (jump_s if arrival_s > 10 else 0.0), arrival_s) for pts_s, arrival_s in steady(20)]
    seen = stamps(pictures)
    assert sum(stamp.after_gap for stamp in seen) == 2
    for (_, arrival_s), stamp in zip(pictures, seen, strict=True):
        assert captured_s(stamp) == pytest.approx(arrival_s, abs=0.02)


@pytest.mark.parametrize("rate", [1 - 100e-6, 1 + 100e-6, 1 - 1500e-6])
def test_a_crystal_that_is_off_adds_up_to_nothing_within_a_day(rate: float) -> None:
    clock = LiveClock()
    for n in range(86_400):
        stamp = clock.stamp(n * rate, at(float(n)))
        assert n - captured_s(stamp) < 0.1
        assert stamp.after_gap == (n == 0)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.83, 1.2, 5.0], ids="{}x".format)
def test_a_time_base_that_is_wrong_is_noticed_and_arrival_counts_from_then_on(rate: float) -> None:
    pictures = [(n / 25 * rate, n / 25) for n in range(25 * 300)]
    seen = stamps(pictures)
    late = [arrival_s - captured_s(stamp) for (_, arrival_s), stamp in zip(pictures, seen, strict=True)]
    assert max(late) < 15
    assert max(late[25 * 120 :]) < 0.01
    assert sum(stamp.after_gap for stamp in seen) <= 4


def test_a_pause_that_pts_knows_nothing_of_is_believed_after_a_while() -> None:
    seen = stamps([(n / 25, n / 25 + (8 if n > 250 else 0)) for n in range(1000)])
    assert seen[0].after_gap
    assert sum(stamp.after_gap for stamp in seen) == 2
    assert captured_s(seen[-1]) == pytest.approx(999 / 25 + 8, abs=0.01)


def test_a_burst_at_the_opening_does_not_run_ahead() -> None:
    pictures = [(n / 25, 0.001 * n) for n in range(50)] + [(n / 25, n / 25 - 1.95) for n in range(50, 100)]
    seen = stamps(pictures)
    assert all(captured_s(stamp) <= arrival_s + 0.001 for (_, arrival_s), stamp in zip(pictures, seen, strict=True))
    assert [stamp.after_gap for stamp in seen] == [True] + [False] * 99


def test_pictures_without_pts_are_stamped_when_they_arrive() -> None:
    arrivals = [0.0, 0.1, 0.25, 0.3, 9.0, 9.1]
    seen = stamps([(None, arrival_s) for arrival_s in arrivals])
    assert [captured_s(stamp) for stamp in seen] == pytest.approx(arrivals)
    assert [stamp.after_gap for stamp in seen] == [True, False, False, False, True, False]


@pytest.mark.parametrize("step_s", [HOUR_S, 120.0, -120.0, -HOUR_S])
def test_a_step_of_the_wall_clock_is_followed_at_the_next_picture_and_is_a_gap(step_s: float) -> None:
    clock = LiveClock()
    seen = [clock.stamp(n / 25, at(n / 25, step_s if n >= 100 else 0.0)) for n in range(200)]
    assert [n for n, stamp in enumerate(seen) if stamp.after_gap] == [0, 100]
    assert captured_s(seen[100]) == pytest.approx(4 + step_s, abs=0.01)
    assert seen[199].stream_s - seen[0].stream_s == pytest.approx(199 / 25, abs=0.01)


def test_a_wall_clock_that_is_slewed_is_followed_without_a_gap() -> None:
    clock = LiveClock()
    seen = [clock.stamp(n / 25, at(n / 25, -0.0005 * n / 25)) for n in range(25 * 600)]
    assert sum(stamp.after_gap for stamp in seen) == 1
    assert captured_s(seen[-1]) == pytest.approx((len(seen) - 1) / 25 * 0.9995, abs=0.01)


def places(pts: Iterable[float | None], frame_s: float = 0.1, begins_s: float = 0.0) -> list[Placed]:
    clock = RecordingClock(frame_s, begins_s)
    return [clock.place(pts_s) for pts_s in pts]


@given(pts=st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=100), frame_s=st.floats(0.01, 10))
def test_file_time_never_goes_back_whatever_pts_does(pts: list[float | None], frame_s: float) -> None:
    times = [placed.at_s for placed in places(pts, frame_s)]
    assert times == sorted(times)


@pytest.mark.parametrize("second_s", [0.0, 3000.0, 26 * HOUR_S])
def test_where_pts_of_a_recording_jumps_time_goes_on_by_one_picture(second_s: float) -> None:
    seen = places([100 + n / 10 for n in range(50)] + [second_s + n / 10 for n in range(50)])
    assert [placed.at_s for placed in seen] == pytest.approx([n / 10 for n in range(100)])
    assert [n for n, placed in enumerate(seen) if placed.after_gap] == [0, 50]


def test_a_hole_in_a_recording_keeps_its_length_and_is_a_gap() -> None:
    seen = places([0.0, 0.1, 0.2, 30.2, 30.3])
    assert [placed.at_s for placed in seen] == pytest.approx([0.0, 0.1, 0.2, 30.2, 30.3])
    assert [placed.after_gap for placed in seen] == [True, False, False, True, False]


def test_pictures_of_a_recording_without_pts_are_one_frame_apart() -> None:
    assert [placed.at_s for placed in places([None] * 4, begins_s=5.0)] == pytest.approx([5.0, 5.1, 5.2, 5.3])
