from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from stream.shedding import Candidate, shed

BEHIND_S = 0.7
LATE_S, VERY_LATE_S = 2.0, 11.0


def frames(camera: str, *says: float) -> list[Candidate]:
    return [Candidate(camera, opens=False, says=one) for one in says]


def opening(camera: str) -> Candidate:
    return Candidate(camera, opens=True, says=1.0)


def going(waiting: list[Candidate], late_s: float = LATE_S, per_s: float = 8.0) -> list[int]:
    """The places that are passed over; at 8 a second there is room for 4."""
    return sorted(shed(waiting, late_s, per_s, BEHIND_S))


waitings = st.lists(
    st.builds(
        Candidate,
        camera=st.sampled_from(["gate", "yard", "dock"]),
        opens=st.booleans(),
        says=st.floats(-1, 1),
        free=st.booleans(),
    ),
    max_size=40,
)
lates = st.floats(0, 30)
paces = st.floats(0, 60)


@given(waitings, st.floats(0, BEHIND_S), paces)
def test_nothing_is_passed_over_before_the_worker_is_behind(
    waiting: list[Candidate], late_s: float, per_s: float
) -> None:
    assert shed(waiting, late_s, per_s, BEHIND_S) == frozenset()


def test_what_can_be_looked_at_within_half_a_second_stays() -> None:
    waiting = frames("gate", *[0.1] * 10)
    assert len(going(waiting, per_s=8.0)) == 6
    assert len(going(waiting, per_s=2.0)) == 9
    assert going(waiting, per_s=20.0) == []


def test_however_slow_the_encoder_is_one_frame_stays() -> None:
    assert len(going(frames("gate", 0.1, 0.2, 0.3), per_s=0.01)) == 2


def test_the_frames_that_say_least_go_first() -> None:
    assert going(frames("gate", 0.5, 0.1, 0.4, 0.0, 0.9, 0.3)) == [1, 3]


@given(waitings, lates, paces)
def test_of_one_cameras_frames_none_goes_that_says_more_than_one_that_stays(
    waiting: list[Candidate], late_s: float, per_s: float
) -> None:
    gone = shed(waiting, late_s, per_s, BEHIND_S)
    for camera in ("gate", "yard", "dock"):
        mine = [place for place, one in enumerate(waiting) if one.camera == camera and not one.free and not one.opens]
        most_gone = max((waiting[place].says for place in mine if place in gone), default=-2.0)
        assert all(waiting[place].says >= most_gone for place in mine if place not in gone)


def test_a_camera_that_says_little_is_not_silenced_by_one_that_says_much() -> None:
    waiting = frames("busy", 0.9, 0.8, 0.9, 0.8) + frames("quiet", 0.01, 0.02)
    kept = [place for place in range(6) if place not in going(waiting)]
    assert Counter(waiting[place].camera for place in kept) == {"busy": 2, "quiet": 2}


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.integers(2, 5),
    st.booleans(),
    st.floats(1, 60),
    st.randoms(use_true_random=False),
)
def test_of_cameras_with_equally_many_frames_none_loses_more_than_one_more_than_another(
    says: list[float],
    cameras: int,
    opens: bool,
    per_s: float,
    order: Random,
) -> None:
    waiting = [Candidate(f"cam-{camera}", opens, one + camera) for camera in range(cameras) for one in says]
    order.shuffle(waiting)
    gone = shed(waiting, VERY_LATE_S, per_s, BEHIND_S)
    lost = Counter(waiting[place].camera for place in gone)
    counts = [lost[f"cam-{camera}"] for camera in range(cameras)]
    assert max(counts) - min(counts) <= 1


@given(waitings, lates, paces)
def test_no_opening_goes_while_another_frame_could_go(waiting: list[Candidate], late_s: float, per_s: float) -> None:
    gone = shed(waiting, late_s, per_s, BEHIND_S)
    others = {place for place, one in enumerate(waiting) if not one.opens and not one.free}
    if any(waiting[place].opens for place in gone):
        assert others <= gone


@given(waitings, lates, paces)
def test_what_costs_nothing_stays_and_takes_nobodys_room(waiting: list[Candidate], late_s: float, per_s: float) -> None:
    gone = shed(waiting, late_s, per_s, BEHIND_S)
    assert not any(waiting[place].free for place in gone)
    costly = [one for one in waiting if not one.free]
    assert len(shed(costly, late_s, per_s, BEHIND_S)) == len(gone)


def test_openings_stay_beyond_all_room_until_frames_are_very_late() -> None:
    waiting = [opening("gate") for _ in range(9)] + frames("gate", 0.9)
    assert going(waiting, late_s=10.0) == [9]
    assert len(going(waiting, late_s=10.1)) == 6


def test_of_openings_the_oldest_go_first() -> None:
    waiting = [opening("gate") for _ in range(6)]
    assert going(waiting, VERY_LATE_S) == [0, 1]


def test_of_openings_every_camera_keeps_its_newest_before_one_keeps_a_second() -> None:
    waiting = [opening("still"), *[opening("restless") for _ in range(5)]]
    assert going(waiting, VERY_LATE_S) == [1, 2]


def test_room_that_openings_leave_is_for_the_others() -> None:
    waiting = [opening("gate"), opening("yard"), *frames("dock", 0.1, 0.5, 0.4)]
    assert going(waiting) == [2]
