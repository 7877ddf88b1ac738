from __future__ import annotations

from collections.abc import Iterable

import pytest

from stream.frames import Embedded
from stream.moments import MomentBuilder, Write
from tests.stream.histories import RUN, builder, feed, looked_at, offsets, take, tilted
from tests.stream.rig import LOG, START_MS, finished, span


def still(offset: int, at_s: float, same_s: float, **more: object) -> Embedded:
    """A frame with another scene, after pictures that said nothing new until `same_s`."""
    return looked_at(offset, at_s, offset, same_ms=START_MS + round(same_s * 1000), **more)  # type: ignore[arg-type]


def rows(writes: Iterable[Write]) -> list[tuple[float, float, int, bool]]:
    """Start and end in seconds, frames, closed."""
    told = [write.moment for write in writes]
    return [((m.start_ms - START_MS) / 1000, (m.end_ms - START_MS) / 1000, m.frames, m.closed) for m in told]


def test_a_moment_is_told_with_its_picture_as_soon_as_it_begins() -> None:
    first = looked_at(0, 0)
    (write,) = builder().add(first, 0.0)
    assert not write.moment.closed
    assert write.thumbnail == b"picture 0"
    assert write.finishes == ()
    assert write.began is first.arrived


def test_a_change_of_scene_begins_a_new_moment() -> None:
    writes = feed(builder(), [looked_at(0, 0), looked_at(1, 1), looked_at(2, 2, scene=1)])
    assert [(w.moment.closed, w.moment.frames, offsets(w.finishes)) for w in writes] == [
        (False, 1, []),
        (True, 2, [0, 1]),
        (False, 1, []),
    ]
    assert [write.began is None for write in writes] == [False, True, False]


def test_a_moment_says_which_frames_of_the_log_it_is_made_of() -> None:
    writes = feed(builder(), [looked_at(5, 0), looked_at(8, 1), looked_at(9, 2, scene=1)])
    _, closed, opened = [write.moment for write in writes]
    assert (closed.log, closed.partition, closed.first_offset, closed.last_offset) == (LOG, 0, 5, 8)
    assert (opened.first_offset, opened.last_offset) == (9, 9)


def test_a_still_scene_is_one_moment_for_minutes_and_then_another() -> None:
    writes = feed(builder(refresh_s=1e6), [looked_at(number, number * 10) for number in range(40)])
    closed = [write.moment for write in writes if write.moment.closed]
    assert [moment.end_ms - moment.start_ms for moment in closed] == [300_000]


def test_a_scene_that_changes_a_little_all_the_time_is_cut_into_short_moments() -> None:
    frames = [looked_at(number, number / 2, towards=tilted(15 * (-1) ** number)) for number in range(61)]
    closed = [write.moment for write in feed(builder(), frames) if write.moment.closed]
    assert [moment.end_ms - moment.start_ms for moment in closed] == [10_000, 10_000]


def test_a_gap_ends_a_moment_and_so_does_a_reopened_source() -> None:
    assert len(feed(builder(), [looked_at(0, 0), looked_at(1, 26)])) == 3
    assert len(feed(builder(), [looked_at(0, 0), looked_at(1, 1, after_gap=True)])) == 3
    assert len(feed(builder(), [looked_at(0, 0), looked_at(1, 24)])) == 1


def test_a_source_that_was_opened_anew_begins_a_moment_although_its_first_frame_never_came() -> None:
    writes = feed(builder(), [looked_at(0, 0), looked_at(2, 2, run=RUN + 1, sequence=1)])
    assert rows(writes) == [(0, 0, 1, False), (0, 0, 1, True), (2, 2, 1, False)]


def test_time_that_jumps_back_begins_a_new_moment() -> None:
    writes = feed(builder(), [looked_at(0, 10), looked_at(1, 11), looked_at(2, 5)])
    assert rows(writes) == [(10, 10, 1, False), (10, 11, 2, True), (5, 5, 1, False)]


def test_the_same_frame_twice_counts_once_and_is_finished_twice() -> None:
    machine = builder()
    writes = take(machine, "new", looked_at(0, 0))
    for one in (looked_at(1, 0, sequence=0), looked_at(2, 1, sequence=1), looked_at(3, 1, sequence=0)):
        writes += take(machine, "new", one)
    writes += machine.close()
    assert writes[-1].moment.frames == 2
    assert offsets(finished(writes)) == [0, 1, 2, 3]


def test_the_same_number_of_another_run_or_of_no_run_is_another_frame() -> None:
    machine = builder()
    machine.add(looked_at(0, 0, sequence=3), 0.0)
    assert machine.was_seen(looked_at(1, 0, sequence=3).arrived)
    assert not machine.was_seen(looked_at(1, 0, sequence=4).arrived)
    assert not machine.was_seen(looked_at(1, 0, sequence=3, run=RUN + 1).arrived)
    machine.add(looked_at(1, 1, sequence=3, run=0), 0.0)
    assert not machine.was_seen(looked_at(2, 1, sequence=3, run=0).arrived)


def test_a_frame_that_comes_again_after_its_moment_was_closed_begins_none() -> None:
    machine = builder()
    machine.add(looked_at(0, 0), 0.0)
    machine.close()
    again = looked_at(1, 0, sequence=0).arrived
    assert machine.was_seen(again)
    assert not machine.again(again)


def test_a_silent_camera_has_its_moment_closed_by_the_log() -> None:
    machine = builder()
    machine.add(looked_at(0, 0, log_s=100), now_s=0.0)
    assert machine.tick(START_MS + 129_999, 1e6) == []
    (write,) = machine.tick(START_MS + 130_000, 0.0)
    assert write.moment.closed
    assert offsets(write.finishes) == [0]
    assert machine.open_id is None


def test_a_frame_after_a_silence_that_nobody_noticed_begins_a_new_moment() -> None:
    writes = feed(builder(), [looked_at(0, 0, log_s=0), looked_at(1, 1, log_s=30)])
    assert rows(writes) == [(0, 0, 1, False), (0, 0, 1, True), (1, 1, 1, False)]


def test_a_moment_that_is_gone_on_with_falls_silent_by_the_log_too() -> None:
    first = builder()
    first.add(looked_at(0, 0, log_s=100), 0.0)
    second = builder()
    (row,) = feed(builder(), [looked_at(0, 0)])
    second.go_on(looked_at(0, 0, log_s=100).arrived, row.moment, 0.0)
    assert second.tick(START_MS + 129_999, 0.0) == []
    (write,) = second.tick(START_MS + 130_000, 0.0)
    assert (write.moment.id, write.moment.closed, offsets(write.finishes)) == (row.moment.id, True, [0])


def test_frames_that_were_told_are_finished_with_their_moment_and_not_told_again() -> None:
    frames = [looked_at(number, number / 2) for number in range(4)]
    first = builder()
    row = [*feed(first, frames), *first.refresh(1.0)][-1].moment
    second = builder(refresh_s=1e-9)
    assert [second.go_on(one.arrived, row, 0.0) for one in frames] == [[], [], [], []]
    assert second.open_id == row.id
    assert second.refresh(1e6) == []
    (write,) = second.close()
    assert offsets(write.finishes) == [0, 1, 2, 3]
    assert span(write.moment)[:5] == span(row)[:5]


def gone_on_with(frames: list[Embedded]) -> MomentBuilder:
    """A second worker's builder, after a first one told the moment of these frames."""
    first = builder()
    row = [*feed(first, frames), *first.refresh(1e6)][-1].moment
    second = builder()
    for one in frames:
        second.go_on(one.arrived, row, 0.0)
    return second


def test_a_moment_in_which_something_changed_stays_a_busy_one_after_a_restart() -> None:
    frames = [looked_at(0, 0), looked_at(1, 1, towards=tilted(25)), looked_at(2, 2), looked_at(3, 3)]
    writes = feed(gone_on_with(frames), [looked_at(number, number) for number in range(4, 12)])
    assert rows(writes) == [(0, 10, 11, True), (11, 11, 1, False)]


def test_a_moment_lasts_as_long_as_the_camera_saw_nothing_new_also_across_a_restart() -> None:
    machine = gone_on_with([looked_at(0, 0), looked_at(1, 1)])
    writes = feed(machine, [still(2, 8, same_s=7.5)])
    assert rows(writes) == [(0, 7.5, 2, True), (8, 8, 1, False)]


def test_a_told_moment_ends_the_one_that_is_open() -> None:
    (row,) = feed(builder(), [looked_at(3, 3)])
    machine = builder()
    machine.add(looked_at(0, 0), 0.0)
    (write,) = machine.go_on(looked_at(3, 3).arrived, row.moment, 0.0)
    assert (write.moment.start_ms, write.moment.closed) == (START_MS, True)
    assert machine.open_id == row.moment.id


def test_the_picture_of_a_told_moment_is_written_again_only_when_another_frame_shows_it_better() -> None:
    frames = [looked_at(0, 0, towards=tilted(0)), looked_at(1, 0.5, towards=tilted(20))]
    first = builder(scene_change=0.5)
    row = [*feed(first, frames), *first.refresh(1.0)][-1].moment
    second = builder(scene_change=0.5)
    for one in frames:
        second.go_on(one.arrived, row, 0.0)
    assert second.add(looked_at(2, 1, towards=tilted(80)), 0.0) == []
    (unchanged,) = second.refresh(1.0)
    assert unchanged.thumbnail is None
    second.add(looked_at(3, 1.5, towards=tilted(27)), 2.0)
    (changed,) = second.close()
    assert (changed.thumbnail, changed.moment.peak_ms) == (b"picture 3", START_MS + 1500)


def test_a_frame_that_was_shed_does_not_cut_a_moment() -> None:
    machine = builder()
    writes = [
        *take(machine, "new", looked_at(0, 0)),
        *take(machine, "shed", looked_at(1, 12)),
        *take(machine, "new", looked_at(2, 24)),
        *machine.close(),
    ]
    assert rows(writes)[-1] == (0, 24, 2, True)
    assert offsets(finished(writes)) == [0, 2]


def test_frames_that_were_shed_keep_a_camera_from_falling_silent_but_do_not_wake_one() -> None:
    machine = builder()
    machine.add(looked_at(0, 0), 0.0)
    assert machine.across(looked_at(1, 20).arrived)
    assert machine.tick(START_MS + 49_999, 0.0) == []
    assert not machine.across(looked_at(2, 50).arrived)
    assert [write.moment.closed for write in machine.tick(START_MS + 50_000, 0.0)] == [True]
    assert not machine.across(looked_at(3, 51).arrived)


def test_no_moment_reaches_across_a_gap_whose_first_frame_was_shed() -> None:
    machine = builder()
    writes = [
        *take(machine, "new", looked_at(0, 0)),
        *take(machine, "shed", looked_at(1, 1, after_gap=True)),
        *take(machine, "new", looked_at(2, 2)),
    ]
    assert rows(writes) == [(0, 0, 1, False), (0, 0, 1, True), (2, 2, 1, False)]


def test_the_peak_is_the_frame_nearest_to_the_mean() -> None:
    machine = builder(scene_change=0.5)
    angles = [0, 20, 10, 10, 10]
    frames = [looked_at(number, number / 1000, towards=tilted(angle)) for number, angle in enumerate(angles)]
    writes = feed(machine, frames) + machine.close()
    assert writes[-1].moment.peak_ms == START_MS + 2
    assert [write.thumbnail for write in writes] == [b"picture 0", b"picture 2"]


def test_what_came_into_the_picture_is_told_at_once_although_the_moment_goes_on() -> None:
    machine = builder(refresh_s=3.0)
    feed(machine, [looked_at(0, 0.0), looked_at(1, 0.5, novelty=0.2)])
    (write,) = machine.add(looked_at(2, 1.0, novelty=0.7), 0.0)
    assert rows([write]) == [(0, 1, 3, False)]
    assert machine.add(looked_at(3, 1.5, novelty=0.7, usual=0.6), 0.0) == []


def test_an_open_moment_that_waits_for_its_next_frame_is_told_by_the_clock_once() -> None:
    machine = builder(refresh_s=3.0)
    feed(machine, [looked_at(0, 0), looked_at(1, 1)])
    assert [len(machine.tick(START_MS, now_s)) for now_s in (1.0, 3.0, 4.0, 8.0)] == [0, 1, 0, 0]


def test_an_open_moment_is_told_again_at_most_every_few_seconds() -> None:
    machine = builder(refresh_s=3.0)
    times = [len(machine.add(looked_at(number, number / 2), now_s=number / 2)) for number in range(13)]
    assert times == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]


def test_a_moment_lasts_as_long_as_the_camera_saw_nothing_new() -> None:
    writes = feed(builder(), [looked_at(0, 0), still(1, 8, same_s=7.5)])
    assert rows(writes) == [(0, 0, 1, False), (0, 7.5, 1, True), (8, 8, 1, False)]


@pytest.mark.parametrize(
    "later",
    [still(1, 8, 7.5, sequence=2), still(1, 8, 7.5, after_gap=True), still(1, 8, 7.5, run=RUN + 1)],
    ids=["lost", "gap", "run"],
)
def test_a_moment_is_not_prolonged_across_a_frame_that_was_lost_or_a_gap_or_into_another_run(later: Embedded) -> None:
    writes = feed(builder(), [looked_at(0, 0), later])
    assert writes[1].moment.end_ms == START_MS


def test_what_a_camera_claims_never_makes_moments_overlap() -> None:
    _, closed, opened = feed(builder(), [looked_at(0, 0), still(1, 8, same_s=99)])
    assert closed.moment.end_ms < opened.moment.start_ms


def test_a_camera_that_claims_to_have_looked_for_hours_makes_no_moment_of_hours() -> None:
    writes = feed(builder(), [looked_at(0, 0), still(1, 7200, same_s=7199.9)])
    assert rows(writes) == [(0, 0, 1, False), (0, 0, 1, True), (7200, 7200, 1, False)]


def test_no_moment_lasts_longer_than_the_longest_however_long_nothing_was_new() -> None:
    machine = builder(still_most_s=30, busy_most_s=10)
    writes = feed(machine, [looked_at(0, 0), looked_at(1, 20), still(2, 40, same_s=39.9)])
    assert rows(writes) == [(0, 0, 1, False), (0, 30, 2, True), (40, 40, 1, False)]


def test_a_silence_by_the_log_ends_a_moment_with_its_last_frame_whoever_notices_it_first() -> None:
    unnoticed = feed(builder(), [looked_at(0, 0, log_s=0), still(1, 8, same_s=7.5, log_s=30)])
    machine = builder()
    noticed = [*feed(machine, [looked_at(0, 0, log_s=0)]), *machine.tick(START_MS + 30_000, 0.0)]
    noticed += feed(machine, [still(1, 8, same_s=7.5, log_s=30)])
    assert rows(unnoticed) == rows(noticed) == [(0, 0, 1, False), (0, 0, 1, True), (8, 8, 1, False)]


def test_heartbeats_of_a_still_scene_do_not_drown_what_passed_through_it() -> None:
    def mean_of(novelty: float) -> float:
        machine = builder(scene_change=1.0)
        passing = looked_at(1, 1, towards=tilted(25), novelty=novelty)
        feed(machine, [looked_at(0, 0), passing, looked_at(2, 2), looked_at(3, 3)])
        (write,) = machine.close()
        return float(write.moment.vector @ tilted(25))

    assert mean_of(0.8) > mean_of(0.0)


def test_a_frame_that_comes_twice_keeps_a_camera_from_falling_silent_but_does_not_wake_one() -> None:
    machine = builder()
    machine.add(looked_at(0, 0), 0.0)
    assert machine.again(looked_at(1, 0, log_s=20, sequence=0).arrived)
    assert machine.tick(START_MS + 49_999, 0.0) == []
    assert not machine.again(looked_at(2, 0, log_s=50, sequence=0).arrived)
    writes = machine.add(looked_at(3, 1, log_s=51), 0.0)
    assert rows(writes) == [(0, 0, 1, True), (1, 1, 1, False)]
    assert offsets(writes[0].finishes) == [0, 1]
