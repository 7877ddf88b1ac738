from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from proto.types import MOST_REGIONS, WHOLE, Box, Region
from stream.regions import (
    MOST_BOXES,
    RESERVED,
    SPACING,
    WHOLE_PICTURE,
    Account,
    Costs,
    Followed,
    Looked,
    Plan,
    counted,
    gathered,
    inside,
)
from stream.tracks import MOST_TRACKS, Track, Tracks
from tests.stream.histories import tilted

MOST_OBJECTS = 16
boxes = st.builds(
    lambda left, top, width, height: Box(left, top, min(1.0, left + width), min(1.0, top + height)),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.floats(0.05, 1),
    st.floats(0.05, 1),
)
costs_of_any = st.one_of(st.just(Costs(None)), st.floats(0.5, 12).map(Costs))


def frames(novelty: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[float, list[Box | None], int, bool]]]:
    """Novelty, crops, objects that a detection would find, whether a moment begins."""
    return st.lists(
        st.tuples(
            novelty,
            st.lists(st.one_of(st.none(), boxes), max_size=3),
            st.integers(0, MOST_OBJECTS),
            st.integers(0, 8).map(lambda number: number == 0),
        ),
        max_size=200,
    )


class Watched:
    """A camera with one moment after the other: what is planned of its frames, two a second."""

    def __init__(self, costs: Costs, account: Account | None = None) -> None:
        self.costs, self.account, self.at_ms = costs, account or Account(), 0
        self.begins()

    def begins(self) -> None:
        self.looked, self.tracks = Looked(), Tracks()

    def plan(self, novelty: float, crops: Sequence[Box | None]) -> Plan:
        self.at_ms += 500
        self.account.earns(novelty, self.costs, moves=any(box is not None for box in crops))
        moved = self.tracks.at(crops, self.tracks.follow(self.at_ms, crops))
        return self.looked.plan(moved, self.at_ms, self.account, self.costs)


def spent(made: Sequence[tuple[float, list[Box | None], int, bool]], costs: Costs, share: float) -> None:
    """What is spent never passes what was earned, but for the objects of the latest detection."""
    camera = Watched(costs)
    paid, latest, earned = 0.0, 0.0, 0.0
    for novelty, crops, objects, begins in made:
        if begins:
            camera.begins()
        earned += share
        plan = camera.plan(novelty, crops)
        paid += len(plan.crops)
        if plan.detect is not None:
            assert costs.detection is not None
            paid += latest + costs.detection + min(RESERVED, objects)
            latest = max(0, objects - RESERVED)
            camera.account.found(objects)
        assert paid <= earned + 1e-6


@given(frames(st.sampled_from([0.0, 0.03, 0.3, 1.0])), costs_of_any)
def test_a_camera_never_costs_more_than_twice_its_frames(
    made: list[tuple[float, list[Box | None], int, bool]], costs: Costs
) -> None:
    spent(made, costs, 1.0)


@given(frames(st.floats(0, 0.049)), costs_of_any)
def test_a_quiet_camera_never_costs_more_than_one_and_a_half_times_its_frames(
    made: list[tuple[float, list[Box | None], int, bool]], costs: Costs
) -> None:
    spent([(novelty, [], objects, begins) for novelty, _, objects, begins in made], costs, 0.5)


def plans(
    count: int, crops: Sequence[Box | None], costs: Costs, *, novelty: float = 0.5, account: Account | None = None
) -> list[Plan]:
    """Of one moment with so many frames."""
    camera = Watched(costs, account)
    return [camera.plan(novelty, crops) for _ in range(count)]


SMALL, OTHER = Box(0.1, 0.1, 0.2, 0.2), Box(0.6, 0.6, 0.8, 0.8)
DETECTOR = Costs(3.5)
RICH = 1e6


def test_the_first_crop_is_looked_at_as_soon_as_the_moment_begins() -> None:
    assert plans(1, [SMALL, OTHER], DETECTOR) == [Plan((0,))]


def test_what_moved_is_searched_before_the_whole_picture_and_each_once_a_moment() -> None:
    made = plans(60, [SMALL], DETECTOR)
    assert [plan.detect for plan in made if plan.detect is not None] == [0, WHOLE_PICTURE]


def test_a_scene_in_which_nothing_moves_has_its_whole_picture_searched_once() -> None:
    made = plans(60, [], DETECTOR, novelty=0.0)
    assert [plan.detect for plan in made if plan.detect is not None] == [WHOLE_PICTURE]


def test_a_crop_of_most_of_the_picture_is_not_searched_a_second_time_as_a_whole() -> None:
    made = plans(60, [Box(0, 0, 0.9, 0.9)], DETECTOR)
    assert [plan.detect for plan in made if plan.detect is not None] == [0]


def test_what_the_moment_before_saved_searches_the_first_picture_of_the_next() -> None:
    account = Account()
    plans(30, [], DETECTOR, novelty=0.5, account=account)
    account.since = SPACING
    assert plans(1, [SMALL], DETECTOR, account=account)[0].detect == 0


def test_two_detections_of_a_camera_are_some_frames_apart() -> None:
    made = plans(20, [SMALL], DETECTOR, account=Account(credit=RICH))
    first, second = [number for number, plan in enumerate(made) if plan.detect is not None]
    assert second - first == SPACING


def test_each_thing_that_moves_is_searched_once_the_most_telling_first_and_then_the_whole_picture() -> None:
    made = plans(30, [SMALL, OTHER], DETECTOR, account=Account(credit=RICH))
    assert [plan.detect for plan in made if plan.detect is not None] == [0, 1, WHOLE_PICTURE]


def test_a_thing_that_comes_in_is_embedded_at_once_and_searched_when_it_can_be_seen_whole() -> None:
    camera = Watched(DETECTOR, Account(credit=RICH))
    made = [camera.plan(0.5, [Box(max(0.0, left), 0.2, left + 0.2, 0.6)]) for left in (-0.1, -0.03, 0.05, 0.15)]
    assert [plan.crops for plan in made][:2] == [(0,), ()]
    assert [plan.detect for plan in made] == [None, None, 0, None]


def test_a_thing_that_stays_at_the_side_of_the_picture_is_searched_there() -> None:
    made = plans(6, [Box(0.0, 0.2, 0.2, 0.6)], DETECTOR, account=Account(credit=RICH))
    assert [plan.detect for plan in made][:4] == [None, None, None, 0]


def test_a_thing_is_embedded_again_where_it_went_and_no_third_time() -> None:
    camera = Watched(Costs(None), Account(credit=RICH))
    made = [camera.plan(0.5, [Box(left / 50, 0.2, left / 50 + 0.2, 0.6)]) for left in range(1, 35)]
    assert [number for number, plan in enumerate(made) if plan.crops] == [0, 5]


def test_what_is_not_followed_is_not_looked_at() -> None:
    camera = Watched(Costs(None), Account(credit=RICH))
    camera.tracks = Tracks([Track((250, 250, 255, 255), 1, 1, shown=True) for _ in range(MOST_TRACKS)])
    assert not camera.plan(0.5, [SMALL])


def test_without_a_detector_only_crops_are_looked_at_and_each_place_once() -> None:
    made = plans(20, [SMALL, OTHER], Costs(None))
    assert all(plan.detect is None for plan in made)
    assert [place for plan in made for place in plan.crops] == [0, 1]


def test_a_moment_has_a_bounded_number_of_crops_looked_at() -> None:
    camera = Watched(Costs(None))
    places = [Box((number % 10) / 10, 0, (number % 10 + 1) / 10, 0.1 + number / 200) for number in range(100)]
    assert sum(len(camera.plan(1.0, [place]).crops) for place in places) == MOST_BOXES


def test_a_crop_that_cannot_be_used_is_passed_over() -> None:
    assert plans(3, [None, SMALL], DETECTOR)[0] == Plan((1,))


def test_after_a_cut_nothing_is_saved_and_debts_stay() -> None:
    rich, poor = Account(credit=9.0), Account(credit=-3.0, surplus=2.0)
    rich.cut()
    poor.cut()
    assert (rich.credit, poor.credit, poor.surplus) == (0.0, -3.0, 2.0)


def test_objects_beyond_what_was_paid_in_advance_put_the_next_detection_off() -> None:
    account = Account(credit=DETECTOR.in_advance)
    account.found(RESERVED + 2)
    assert not account.may_detect(DETECTOR)
    account.credit += 2
    assert account.may_detect(DETECTOR)


@given(st.sets(st.integers(0, 2)), st.one_of(st.none(), st.integers(0, WHOLE_PICTURE)))
def test_a_plan_comes_back_from_its_byte(crops: set[int], detect: int | None) -> None:
    plan = Plan(tuple(sorted(crops)), detect)
    assert plan.to_byte() < 256
    assert Plan.of_byte(plan.to_byte()) == plan


def test_any_byte_is_some_plan() -> None:
    assert {Plan.of_byte(number).detect for number in range(256)} == {None, 0, 1, 2, WHOLE_PICTURE}


# What a moment keeps.


def thing(
    kind: str = "", score: float = 0.0, box: Box = SMALL, degrees: float = 0.0, at_ms: int = 1000, axis: int = 0
) -> Region:
    turned = tilted(degrees)
    return Region(at_ms, box, turned if not axis else turned[[*range(axis, 8), *range(axis)]], kind, score)


def kept_of(kept: Sequence[Region], found: Sequence[Region]) -> tuple[Region, ...]:
    """What stays of regions that follow nothing."""
    return tuple(one.region for one in gathered([Followed(one) for one in kept], [Followed(one) for one in found]))


def test_the_surer_of_two_looks_at_one_thing_stays_with_its_own_box_and_time() -> None:
    once, again = thing("person", 0.5), thing("person", 0.9, Box(0.3, 0.3, 0.39, 0.39), 5, at_ms=2000)
    (kept,) = kept_of([once], [again])
    assert kept is again
    assert kept_of([again], [once]) == (again,)


def test_an_object_takes_the_place_of_a_bare_crop_of_it() -> None:
    bare, person = thing(box=Box(0.05, 0.05, 0.4, 0.4)), thing("person", 0.5, SMALL, 80)
    assert kept_of([bare], [person]) == (person,)
    assert kept_of([person], [bare]) == (person,)


def test_what_stays_of_one_thing_shows_all_that_it_was_seen_as() -> None:
    once, again = Followed(thing("person", 0.5), 0b01), Followed(thing("person", 0.9), 0b10)
    for kept, found in ((once, again), (again, once)):
        ((region, tracks),) = gathered([kept], [found])
        assert (region, tracks) == (again.region, 0b11)


def test_two_things_of_one_kind_at_two_places_that_look_different_both_stay() -> None:
    one, other = thing("person", 0.9), thing("person", 0.8, OTHER, 60)
    assert kept_of([], [one, other]) == (one, other)


def test_two_kinds_at_one_place_both_stay() -> None:
    rider, bicycle = thing("person", 0.9), thing("bicycle", 0.8)
    assert kept_of([rider], [bicycle]) == (rider, bicycle)


def test_the_best_of_every_kind_stays_before_the_second_of_any() -> None:
    places = [Box(number / 10, 0, number / 10 + 0.08, 0.1) for number in range(6)]
    cars = [thing("car", 0.9 - number / 100, places[number], axis=number + 1) for number in range(5)]
    dog = thing("dog", 0.46, Box(0.8, 0.8, 0.9, 0.9), axis=6)
    kept = kept_of(cars, [dog])
    assert len(kept) == MOST_REGIONS
    assert dog in kept
    assert [one for one in kept if one.kind == "car"] == cars[:3]


things = st.builds(
    thing,
    st.sampled_from(["", "person", "car"]),
    st.floats(0.3, 1),
    boxes,
    st.integers(0, 90),
    st.integers(1, 3),
    st.integers(0, 7),
)


@given(st.lists(st.lists(things, max_size=5), max_size=6))
def test_a_moment_keeps_few_regions_and_none_that_are_alike(looks: list[list[Region]]) -> None:
    kept: tuple[Region, ...] = ()
    seen: list[Region] = []
    for found in looks:
        kept = kept_of(kept, found)
        seen += found
    assert len(kept) <= MOST_REGIONS
    assert all(any(one is other for other in seen) for one in kept)
    for one, other in itertools.combinations(kept, 2):
        if one.kind == other.kind:
            assert float(one.vector @ other.vector) < 0.92
    if any(one.kind for one in seen):
        assert any(one.kind for one in kept)


def test_objects_are_counted_as_many_as_were_seen_at_one_time() -> None:
    first = counted({}, [thing("person"), thing("person"), thing("car")])
    assert counted(first, [thing("person"), thing()]) == {"person": 2, "car": 1}


@given(boxes, boxes)
def test_a_box_in_a_crop_lies_in_the_crop(base: Box, box: Box) -> None:
    found = inside(base, box)
    slack = 1e-6
    assert base.left - slack <= found.left <= found.right <= base.right + slack
    assert base.top - slack <= found.top <= found.bottom <= base.bottom + slack
    assert found.is_sound()


def test_a_box_in_the_whole_picture_is_where_it_is_and_what_sticks_out_is_cut_off() -> None:
    assert inside(WHOLE, Box(-0.25, 0.25, 0.5, 1.5)) == Box(0.0, 0.25, 0.5, 1.0)
