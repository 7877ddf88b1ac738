from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.types import moment_id
from stream.moments import MomentBuilder, Seen, Write
from stream.settings import StreamSettings
from tests.stream.rig import SPACE, START_MS, finished, span, vector

SETTINGS = StreamSettings()


def frame(mark: int, at_s: float, scene: int = 0, *, after_gap: bool = False, sequence: int | None = None) -> Seen[int]:
    at_ms = START_MS + round(at_s * 1000)
    number = mark if sequence is None else sequence
    return Seen(mark, at_ms, number, after_gap, vector(scene), f"picture {mark}".encode())


def builder(**changes: float) -> MomentBuilder[int]:
    return MomentBuilder(SPACE.id, "gate", StreamSettings(**changes))


def feed(machine: MomentBuilder[int], frames: list[Seen[int]], now_s: float = 0.0) -> list[Write[int]]:
    return [write for one in frames for write in machine.add(one, now_s)]


def tilted(degrees: float) -> np.ndarray:
    """A vector so far from vector(0)."""
    turned = np.zeros(SPACE.dimension, np.float32)
    turned[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return turned


histories = st.lists(
    st.tuples(st.integers(-2000, 40_000), st.integers(0, 2), st.booleans(), st.floats(0, 5)), min_size=1, max_size=60
)


def history(steps) -> list[Seen[int]]:
    at_ms, frames = START_MS, []
    for mark, (pause, scene, gap, _) in enumerate(steps):
        at_ms += pause
        frames.append(Seen(mark, at_ms, mark, gap and mark % 7 == 0, vector(scene), b"x"))
    return frames


@given(histories)
def test_every_frame_is_in_exactly_one_moment(steps) -> None:
    machine = builder()
    frames = history(steps)
    writes = feed(machine, frames)
    writes += machine.tick(1e9)
    assert sorted(finished(writes)) == list(range(len(frames)))
    assert sum(write.moment.frames for write in writes if write.moment.closed) == len(frames)


@given(histories, st.data())
@settings(max_examples=50)
def test_a_replay_that_begins_with_any_open_moment_tells_the_same_moments(steps, data) -> None:
    frames = history(steps)
    told = feed(builder(), frames)
    cut = data.draw(st.integers(0, len(frames) - 1))
    done = {mark for write in told for mark in write.finishes if max(write.finishes) < cut}
    replayed = feed(builder(), frames[len(done) :], now_s=1e6)
    closed = [span(write.moment) for write in told if write.moment.closed and not set(write.finishes) <= done]
    assert [span(write.moment) for write in replayed if write.moment.closed] == closed


@given(histories)
def test_when_frames_arrive_changes_nothing_but_how_often_a_moment_is_told(steps) -> None:
    frames = history(steps)
    at_once = feed(builder(), frames)
    machine, slowly, now_s = builder(), [], 0.0
    for one, (*_, pause_s) in zip(frames, steps, strict=True):
        now_s += pause_s
        slowly += machine.add(one, now_s)
    assert [span(w.moment) for w in at_once if w.moment.closed] == [span(w.moment) for w in slowly if w.moment.closed]


@given(histories)
def test_moments_keep_their_bounds(steps) -> None:
    for write in feed(builder(), history(steps)):
        moment = write.moment
        assert moment.start_ms <= moment.peak_ms <= moment.end_ms
        assert moment.end_ms - moment.start_ms <= SETTINGS.still_most_s * 1000
        assert abs(float(np.linalg.norm(moment.vector)) - 1) < 1e-5
        assert moment.id == moment_id(SPACE.id, "gate", moment.start_ms)


def test_a_moment_is_told_with_its_picture_as_soon_as_it_begins() -> None:
    (write,) = builder().add(frame(0, 0), 0.0)
    assert not write.moment.closed
    assert write.thumbnail == b"picture 0"
    assert write.finishes == ()


def test_a_change_of_scene_begins_a_new_moment() -> None:
    writes = feed(builder(), [frame(0, 0), frame(1, 1), frame(2, 2, scene=1)])
    assert [(w.moment.closed, w.moment.frames, w.finishes) for w in writes] == [
        (False, 1, ()),
        (True, 2, (0, 1)),
        (False, 1, ()),
    ]


def test_a_still_scene_is_one_moment_for_minutes_and_then_another() -> None:
    writes = feed(builder(refresh_s=1e6), [frame(mark, mark * 10) for mark in range(40)])
    closed = [write.moment for write in writes if write.moment.closed]
    assert [moment.end_ms - moment.start_ms for moment in closed] == [300_000]


def test_a_scene_that_changes_a_little_all_the_time_is_cut_into_short_moments() -> None:
    frames = [Seen(mark, START_MS + mark * 500, mark, False, tilted(15 * (-1) ** mark), b"x") for mark in range(61)]
    closed = [write.moment for write in feed(builder(), frames) if write.moment.closed]
    assert [moment.end_ms - moment.start_ms for moment in closed] == [10_000, 10_000]


def test_a_gap_ends_a_moment_and_so_does_a_reopened_source() -> None:
    assert len(feed(builder(), [frame(0, 0), frame(1, 26)])) == 3
    assert len(feed(builder(), [frame(0, 0), frame(1, 1, after_gap=True)])) == 3
    assert len(feed(builder(), [frame(0, 0), frame(1, 24)])) == 1


def test_time_that_jumps_back_begins_a_new_moment() -> None:
    writes = feed(builder(), [frame(0, 10), frame(1, 11), frame(2, 5)])
    assert [(w.moment.start_ms - START_MS, w.moment.closed) for w in writes] == [
        (10_000, False),
        (10_000, True),
        (5_000, False),
    ]


def test_the_same_frame_twice_counts_once_and_is_finished_twice() -> None:
    machine = builder()
    writes = feed(machine, [frame(0, 0, after_gap=True), frame(1, 0, after_gap=True, sequence=0), frame(2, 1)])
    writes += machine.tick(100.0)
    assert writes[-1].moment.frames == 2
    assert finished(writes) == [0, 1, 2]


def test_a_silent_camera_has_its_moment_closed_by_the_clock() -> None:
    machine = builder()
    machine.add(frame(0, 0), now_s=100.0)
    assert machine.tick(129.0) == []
    (write,) = machine.tick(130.0)
    assert write.moment.closed
    assert write.finishes == (0,)
    assert not machine.is_open


def test_the_peak_is_the_frame_nearest_to_the_mean() -> None:
    machine = builder(scene_change=0.5)
    angles = [0, 20, 10, 10, 10]
    frames = [Seen(i, START_MS + i, i, False, tilted(angle), b"%d" % i) for i, angle in enumerate(angles)]
    writes = feed(machine, frames) + machine.tick(1e9)
    assert writes[-1].moment.peak_ms == START_MS + 2
    assert [write.thumbnail for write in writes] == [b"0", b"2"]


def test_what_came_into_the_picture_is_told_at_once_although_the_moment_goes_on() -> None:
    machine = builder(refresh_s=3.0)
    feed(machine, [frame(0, 0.0), replace(frame(1, 0.5), novelty=0.2)])
    (told,) = machine.add(replace(frame(2, 1.0), novelty=0.7), 0.0)
    assert (told.moment.start_ms, told.moment.end_ms, told.moment.closed) == (START_MS, START_MS + 1000, False)
    assert machine.add(replace(frame(3, 1.5), novelty=0.7, usual=0.6), 0.0) == []


def test_an_open_moment_that_waits_for_its_next_frame_is_told_by_the_clock_once() -> None:
    machine = builder(refresh_s=3.0)
    feed(machine, [frame(0, 0), frame(1, 1)])
    assert [len(machine.tick(now_s)) for now_s in (1.0, 3.0, 4.0, 8.0)] == [0, 1, 0, 0]


def still(mark: int, at_s: float, same_s: float, *, sequence: int | None = None, **more: bool) -> Seen[int]:
    """A frame with another scene, after pictures that said nothing new until `same_s`."""
    return replace(frame(mark, at_s, scene=mark, sequence=sequence, **more), same_ms=START_MS + round(same_s * 1000))


def test_a_moment_lasts_as_long_as_the_camera_saw_nothing_new() -> None:
    writes = feed(builder(), [frame(0, 0), still(1, 8, same_s=7.5)])
    assert [(w.moment.closed, w.moment.start_ms - START_MS, w.moment.end_ms - START_MS) for w in writes] == [
        (False, 0, 0),
        (True, 0, 7500),
        (False, 8000, 8000),
    ]


@pytest.mark.parametrize("later", [still(1, 8, 7.5, sequence=2), still(1, 8, 7.5, after_gap=True)])
def test_a_moment_is_not_prolonged_across_a_frame_that_was_lost_or_a_gap(later: Seen[int]) -> None:
    writes = feed(builder(), [frame(0, 0), later])
    assert writes[1].moment.end_ms == START_MS


def test_what_a_camera_claims_never_makes_moments_overlap() -> None:
    _, closed, opened = feed(builder(), [frame(0, 0), still(1, 8, same_s=99)])
    assert closed.moment.end_ms < opened.moment.start_ms


def test_heartbeats_of_a_still_scene_do_not_drown_what_passed_through_it() -> None:
    def mean_of(novelty: float) -> float:
        passing = replace(frame(1, 1), vector=tilted(25), novelty=novelty)
        machine = builder(scene_change=1.0)
        feed(machine, [frame(0, 0), passing, frame(2, 2), frame(3, 3)])
        (write,) = machine.close()
        return float(write.moment.vector @ tilted(25))

    assert mean_of(0.8) > mean_of(0.0)


def test_an_open_moment_is_told_again_at_most_every_few_seconds() -> None:
    machine = builder(refresh_s=3.0)
    told = [len(machine.add(frame(mark, mark / 2), now_s=mark / 2)) for mark in range(13)]
    assert told == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
