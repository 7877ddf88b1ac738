"""Moments and what is looked at of them up close, by the builder alone: looks are answered by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.types import MOST_REGIONS, Box, Moment, Region, Vector
from stream.frames import Embedded
from stream.looks import Found, Look
from stream.moments import MomentBuilder, Write
from stream.regions import Costs
from stream.resume import from_text, to_text
from stream.settings import StreamSettings
from tests.histories import examples
from tests.stream.histories import looked_at, offsets, tilted, told
from tests.stream.rig import LOG, SPACE, START_MS, finished, vector
from tests.stream.sights import close_up, crop, objects_in

COSTS = Costs(1.0)


def builder(costs: Costs | None = COSTS, refresh_s: float = 1e6) -> MomentBuilder:
    return MomentBuilder(SPACE.id, LOG, 0, "gate", StreamSettings(refresh_s=refresh_s), costs)


def answer(look: Look) -> Found:
    """What the encoder would say: it follows from the bytes alone."""
    bare = [Region(look.at_ms, part.box, vector(int(part.jpeg))) for part in look.crops]
    seen = objects_in(look.detect.jpeg) if look.detect else []
    named = [Region(look.at_ms, one.box, one.vector, one.kind, one.score) for one in seen]
    return Found((*named, *bare), len(seen))


def answered(machine: MomentBuilder, looks: Sequence[Look]) -> list[Write]:
    return [write for look in looks for write in machine.saw(look, answer(look), 0.0)]


def moving(
    offset: int, *crops: int, scene: int = 0, towards: Vector | None = None, after_gap: bool = False
) -> Embedded:
    """A frame every half second, in which these things moved."""
    moved = [crop(each) for each in crops]
    one = looked_at(
        offset, offset / 2, scene, towards=towards, novelty=0.5, usual=0.5, crops=moved, after_gap=after_gap
    )
    return one._replace(arrived=one.arrived._replace(jpeg=str(offset).encode()))


def person(look: Look, kind: str = "person") -> Found:
    assert look.detect is not None
    return Found((Region(look.at_ms, Box(0.1, 0.1, 0.2, 0.2), vector(3), kind, 0.9),), 1)


def until_a_detection(machine: MomentBuilder, first: int = 0) -> tuple[Look, int]:
    """Frames in which one thing moved, until it is searched; the look, and the next offset."""
    for offset in range(first, first + 20):
        machine.add(moving(offset, 1), 0.0)
        for look in machine.looks():
            if look.detect is not None:
                return look, offset + 1
            answered(machine, [look])
    raise AssertionError("nothing was searched")


def test_a_moment_begins_without_waiting_for_a_closer_look() -> None:
    machine = builder()
    (write,) = machine.add(moving(0, 1), 0.0)
    assert write.began is not None
    assert write.moment.regions == ()
    (look,) = machine.looks()
    assert (look.moment, look.offset, [part.jpeg for part in look.crops]) == (write.moment.id, 0, [b"1"])


def test_the_first_region_is_told_at_once_with_the_picture_that_shows_it() -> None:
    machine = builder()
    machine.add(moving(0, 1), 0.0)
    (write,) = answered(machine, machine.looks())
    (region,) = write.moment.regions
    assert (region.at_ms, region.kind) == (START_MS, "")
    assert write.pictures == ((START_MS, b"0"),)


def test_a_new_kind_of_object_is_told_at_once_and_more_of_it_with_the_next_row() -> None:
    machine = builder()
    look, _ = until_a_detection(machine)
    (write,) = machine.saw(look, person(look), 0.0)
    assert write.moment.objects == (("person", 1),)
    region = Region(look.at_ms, Box(0.6, 0.6, 0.7, 0.7), vector(5), "person", 0.8)
    assert machine.saw(look, Found((region,), 1), 0.0) == []
    (later,) = machine.refresh(0.0)
    assert len(later.moment.regions) == len(write.moment.regions) + 1


def test_a_moment_that_is_over_is_told_when_its_looks_are_answered_and_the_next_begins_at_once() -> None:
    machine = builder()
    look, offset = until_a_detection(machine)
    (begun,) = machine.add(moving(offset, scene=1, after_gap=True), 0.0)
    assert not begun.moment.closed
    (closed,) = machine.saw(look, person(look), 0.0)
    assert (closed.moment.id, closed.moment.closed) == (look.moment, True)
    assert closed.moment.objects == (("person", 1),)
    assert offsets(closed.finishes) == list(range(offset))


def test_an_answer_after_the_end_moves_no_boundary() -> None:
    quick, slow = builder(), builder()
    rows = []
    for machine, at_once in ((quick, True), (slow, False)):
        writes: list[Write] = []
        waiting: list[Look] = []
        for offset in range(60):
            writes += machine.add(moving(offset, offset % 6, scene=offset // 20), 0.0)
            waiting += machine.looks()
            if at_once or machine.must_wait:
                writes += answered(machine, waiting)
                waiting = []
        writes += [*machine.close(), *answered(machine, waiting)]
        rows.append([(one.id, one.frames, one.end_ms, *close_up(one)) for one in told(writes).values()])
    assert rows[0] == rows[1]


@pytest.mark.parametrize(("after_gap", "searched"), [(False, True), (True, False)])
def test_what_one_scene_saved_is_for_the_next_and_nothing_is_saved_across_a_gap(
    after_gap: bool, searched: bool
) -> None:
    machine = builder()
    for offset in range(20):
        machine.add(moving(offset, 1), 0.0)
        answered(machine, machine.looks())
    machine.add(moving(20, 2, scene=1, after_gap=after_gap), 0.0)
    (look,) = machine.looks()
    assert (look.detect is not None) == searched


def test_without_costs_nothing_is_looked_at() -> None:
    machine = builder(costs=None)
    for offset in range(30):
        machine.add(moving(offset, 1), 0.0)
    assert machine.looks() == []
    assert not machine.must_wait


def test_a_row_of_a_worker_that_looked_keeps_its_regions_where_nobody_looks_any_more() -> None:
    machine = builder()
    machine.add(moving(0, 1), 0.0)
    (write,) = answered(machine, machine.looks())
    after = builder(costs=None)
    after.go_on(moving(0, 1).arrived, write.moment, 0.0)
    after.add(moving(1, 1), 0.0)
    (closed,) = after.close()
    assert close_up(closed.moment) == close_up(write.moment)


def test_a_look_that_was_under_way_is_repeated_by_the_next_worker() -> None:
    machine = builder()
    look, offset = until_a_detection(machine)
    (row,) = [write.moment for write in machine.refresh(0.0)]
    after = builder()
    for number in range(offset):
        after.go_on(moving(number, 1).arrived, row, 0.0)
    (again,) = after.looks()
    assert (again.offset, again.detect, again.moment) == (look.offset, look.detect, look.moment)


def test_a_look_whose_frame_does_not_come_again_keeps_no_moment_open() -> None:
    machine = builder()
    _, offset = until_a_detection(machine)
    (row,) = [write.moment for write in machine.refresh(0.0)]
    after = builder()
    after.go_on(moving(offset - 1).arrived, replace(row, resume=_without_last(row)), 0.0)
    (closed,) = after.close()
    assert closed.moment.closed


def _without_last(row: Moment) -> str:
    """The row as if its look were of a frame that the broker dropped."""
    kept = from_text(row.resume)
    ((_, owed),) = kept.looks.owed
    return to_text(replace(kept, looks=replace(kept.looks, owed=((0, owed),))))


@given(
    made=st.lists(
        st.tuples(st.lists(st.integers(0, 9), max_size=3, unique=True), st.integers(0, 9), st.booleans()),
        min_size=2,
        max_size=40,
    ),
    data=st.data(),
)
@settings(max_examples=examples(150), deadline=None)
def test_a_worker_that_goes_on_from_a_row_keeps_the_same_regions_as_one_that_never_stopped(
    made: list[tuple[list[int], int, bool]], data: st.DataObject
) -> None:
    frames, scene = [], 0
    for offset, (crops, change, _) in enumerate(made):
        scene += change == 0
        frames.append(moving(offset, *crops, towards=tilted(scene * 50 % 91)))
    soon = [one for _, _, one in made]

    def run(machine: MomentBuilder, some: Sequence[Embedded], waiting: list[Look]) -> list[Write]:
        writes: list[Write] = []
        for one in some:
            if machine.must_wait:
                writes += answered(machine, waiting)
                waiting.clear()
            writes += machine.add(one, 0.0)
            waiting += machine.looks()
            if soon[one.arrived.record.offset]:
                writes += answered(machine, waiting)
                waiting.clear()
        return writes

    def ended(machine: MomentBuilder, waiting: list[Look]) -> list[Write]:
        return [*machine.close(), *answered(machine, waiting)]

    whole, waiting = builder(), list[Look]()
    never_stopped = told([*run(whole, frames, waiting), *ended(whole, waiting)])

    cut = data.draw(st.integers(1, len(frames)), label="frames until the worker ended")
    first = builder(refresh_s=data.draw(st.sampled_from([1e-9, 1e6])))
    index = told(run(first, frames[:cut], []))
    if data.draw(st.booleans(), label="it told what was open before"):
        index = told(first.refresh(0.0), index.values())
    left = sorted((one for one in index.values() if not one.closed), key=lambda one: one.first_offset)
    second, waiting = builder(), list[Look]()
    writes: list[Write] = []
    for one in frames[left[0].first_offset if left else cut :]:
        offset = one.arrived.record.offset
        row = next((row for row in left if row.first_offset <= offset <= row.last_offset), None)
        if row is None:
            writes += run(second, [one], waiting)
            continue
        writes += second.go_on(one.arrived, row, 0.0)
        waiting += second.looks()
    after = told([*writes, *ended(second, waiting)], index.values())

    assert {name: close_up(one) for name, one in after.items()} == {
        name: close_up(one) for name, one in never_stopped.items()
    }
    assert all(one.closed for one in after.values())
    for moment in after.values():
        assert len(moment.regions) <= MOST_REGIONS
        assert all(moment.start_ms <= region.at_ms <= moment.end_ms for region in moment.regions)


def test_a_region_says_since_when_and_until_when_its_thing_was_there() -> None:
    machine = builder()
    for offset in range(12):
        machine.add(moving(offset, *([1] if 2 <= offset < 8 else [])), 0.0)
        if offset < 6:
            answered(machine, machine.looks()[:1])
    (closed,) = machine.close() or answered(machine, machine.looks())
    moved = [one for one in closed.moment.regions if one.since_ms]
    assert {(one.since_ms, one.until_ms) for one in moved} == {(START_MS + 1000, START_MS + 3500)}
    assert closed.moment.start_ms == START_MS


def test_a_thing_that_is_still_there_when_the_scene_changes_was_there_before_its_moment() -> None:
    machine = builder()
    for offset in range(8):
        machine.add(moving(offset, *([1] if offset >= 2 else []), scene=offset // 4), 0.0)
    answered(machine, machine.looks())
    (write,) = [one for one in machine.refresh(0.0) if one.moment.id == machine.open_id]
    (since_ms,) = {one.since_ms for one in write.moment.regions if one.since_ms}
    assert since_ms == START_MS + 1000 < write.moment.start_ms


def test_what_was_there_before_a_gap_did_not_stay_through_it() -> None:
    machine = builder()
    for offset in range(8):
        machine.add(moving(offset, 1, after_gap=offset == 4), 0.0)
    answered(machine, machine.looks())
    (closed,) = machine.close()
    assert closed.moment.start_ms == START_MS + 2000
    assert {one.since_ms for one in closed.moment.regions} == {closed.moment.start_ms}


def test_an_object_that_is_not_what_moved_has_no_time_of_its_own() -> None:
    machine = builder()
    look, _ = until_a_detection(machine)
    afar = Region(look.at_ms, Box(0.01, 0.9, 0.03, 0.95), vector(5), "dog", 0.9)
    (write,) = machine.saw(look, Found((afar,), 1), 0.0)
    assert [(one.since_ms, one.until_ms) for one in write.moment.regions if one.kind == "dog"] == [(0, 0)]


def test_a_row_that_lost_a_region_is_gone_on_with() -> None:
    machine = builder()
    for offset in range(8):
        machine.add(moving(offset, 1, 2), 0.0)
        answered(machine, machine.looks())
    (row,) = [write.moment for write in machine.refresh(0.0)]
    assert len(row.regions) > 1
    after = builder()
    after.go_on(moving(7, 1, 2).arrived, replace(row, regions=row.regions[1:]), 0.0)
    (closed,) = after.close()
    assert close_up(closed.moment) == close_up(replace(row, regions=row.regions[1:]))


def test_the_pictures_of_an_open_moment_are_few_and_only_those_of_its_regions() -> None:
    machine = builder()
    handed: list[Write] = []
    for offset in range(30):
        handed += machine.add(moving(offset, offset % 8, (offset + 3) % 8), 0.0)
        handed += answered(machine, machine.looks())
    handed += machine.close()
    for write in handed:
        assert {at_ms for at_ms, _ in write.pictures} <= {region.at_ms for region in write.moment.regions}
    assert {region.at_ms for region in handed[-1].moment.regions} <= {
        at_ms for write in handed for at_ms, _ in write.pictures
    }
    assert offsets(finished(handed)) == list(range(30))
