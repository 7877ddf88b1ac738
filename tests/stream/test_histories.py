"""What holds of the moments of every history of a camera."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.types import moment_id
from stream.moments import Write
from stream.resume import closed_text, from_text, reached_by
from stream.settings import StreamSettings
from tests.histories import examples
from tests.stream.histories import Step, bounds, builder, feed, history, offsets, steps, take, told
from tests.stream.rig import LOG, START_MS, finished, span

SETTINGS = StreamSettings()


@given(steps("new"))
def test_every_frame_is_in_exactly_one_moment(made: list[Step]) -> None:
    machine = builder()
    writes = feed(machine, [one for _, one in history(made)])
    writes += machine.close()
    closed = [write.moment for write in writes if write.moment.closed]
    assert offsets(finished(writes)) == list(range(len(made)))
    inside = [offset for one in closed for offset in range(one.first_offset, one.last_offset + 1)]
    assert inside == list(range(len(made)))
    assert all(one.frames == one.last_offset - one.first_offset + 1 for one in closed)


@given(steps("new", "twice", "shed"), st.data())
@settings(max_examples=examples(200))
def test_a_worker_that_goes_on_from_a_row_makes_the_same_moments_as_one_that_never_stopped(
    made: list[Step], data: st.DataObject
) -> None:
    taken = history(made)
    whole = builder(refresh_s=1e6)
    writes = [write for kind, one in taken for write in take(whole, kind, one)]
    without_a_stop = told([*writes, *whole.refresh(1e6)])

    cut = data.draw(st.integers(1, len(taken)), label="frames until the worker ended")
    says_goodbye = data.draw(st.booleans(), label="it told the open moment before")
    first = builder(refresh_s=1e6)
    writes = [write for kind, one in taken[:cut] for write in take(first, kind, one)]
    index = told([*writes, *(first.refresh(1e6) if says_goodbye else [])])
    row = next((one for one in index.values() if not one.closed), None)

    second = builder(refresh_s=1e6)
    writes = []
    for kind, one in taken[row.first_offset if row else cut :]:
        if row is not None and kind != "shed" and one.arrived.record.offset <= row.last_offset:
            writes += second.go_on(one.arrived, row, 0.0)
        else:
            writes += take(second, kind, one)
    index = told([*writes, *second.refresh(1e6)], index.values())

    assert bounds(index) == bounds(without_a_stop)
    for name, moment in index.items():
        assert float(moment.vector @ without_a_stop[name].vector) == pytest.approx(1.0, abs=1e-5)
        if not moment.closed:
            kept, never_stopped = from_text(moment.resume), from_text(without_a_stop[name].resume)
            assert kept.distances == pytest.approx(never_stopped.distances, abs=1e-5)
            assert kept.weight == pytest.approx(never_stopped.weight, abs=1e-5)
            assert (kept.run, kept.sequence) == (never_stopped.run, never_stopped.sequence)


@given(steps("new"), steps("new", "shed"))
def test_a_moment_that_was_told_never_shrinks_whatever_comes_after_a_restart(
    before: list[Step], after: list[Step]
) -> None:
    first = builder()
    frames = [one for _, one in history(before)]
    row = told([*feed(first, frames), *first.refresh(1e6)]).popitem()[1]
    second = builder(refresh_s=1e-9)
    writes = [write for one in frames[row.first_offset :] for write in second.go_on(one.arrived, row, 0.0)]
    assert writes == []
    for kind, one in history([*before, *after])[len(before) :]:
        writes += take(second, kind, one)
    writes += second.close()
    rows_of_it = [write.moment for write in writes if write.moment.id == row.id]
    assert rows_of_it[-1].closed
    for later in rows_of_it:
        assert (later.start_ms, later.first_offset) == (row.start_ms, row.first_offset)
        assert later.frames >= row.frames
        assert later.end_ms >= row.end_ms
        assert later.last_offset >= row.last_offset


@given(steps("new", "twice", "shed"), st.data())
@settings(max_examples=examples(200))
def test_how_often_somebody_looks_whether_a_camera_is_silent_changes_no_moment(
    made: list[Step], data: st.DataObject
) -> None:
    taken = history(made)
    unwatched, watched = builder(), builder()
    plain = [write for kind, one in taken for write in take(unwatched, kind, one)]
    watching: list[Write] = []
    before_ms = START_MS
    for kind, one in taken:
        if data.draw(st.booleans()):
            at_ms = data.draw(st.one_of(st.just(one.arrived.log_ms), st.integers(before_ms, one.arrived.log_ms)))
            watching += watched.tick(at_ms, 0.0)
        before_ms = one.arrived.log_ms
        watching += take(watched, kind, one)
    assert bounds(told([*watching, *watched.close()])) == bounds(told([*plain, *unwatched.close()]))


@given(steps("new"), st.lists(st.floats(0, 5), min_size=40, max_size=40))
def test_when_frames_arrive_changes_nothing_but_how_often_a_moment_is_told(
    made: list[Step], pauses: list[float]
) -> None:
    at_once = feed(builder(), [one for _, one in history(made)])
    machine, slowly, now_s = builder(), [], 0.0
    for (_, one), pause_s in zip(history(made), pauses, strict=False):
        now_s += pause_s
        slowly += machine.add(one, now_s)
    assert [span(w.moment) for w in at_once if w.moment.closed] == [span(w.moment) for w in slowly if w.moment.closed]


@given(steps("new", "twice", "shed"))
def test_moments_keep_their_bounds(made: list[Step]) -> None:
    machine = builder()
    for kind, one in history(made):
        for write in take(machine, kind, one):
            moment = write.moment
            assert moment.start_ms <= moment.peak_ms <= moment.end_ms
            assert moment.end_ms - moment.start_ms <= SETTINGS.still_most_s * 1000
            assert abs(float(np.linalg.norm(moment.vector)) - 1) < 1e-5
            assert moment.id == moment_id("gate", moment.start_ms, LOG, 0, moment.first_offset)
            assert moment.closed == (moment.resume == closed_text(reached_by(moment.resume)))
            assert reached_by(moment.resume).sequence >= 0
