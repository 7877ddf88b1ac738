from __future__ import annotations

from cameras.clock import Instant
from cameras.gaps import AwayGaps, LostGaps
from catalog.coverage import Gap, Reason

WALL_MS = 1_767_225_600_000


def now(mono_s: float) -> Instant:
    return Instant(mono_s, WALL_MS + round(mono_s * 1000))


def away(start_s: float, end_s: float) -> Gap:
    return Gap("gate", Reason.AWAY, WALL_MS + round(start_s * 1000), WALL_MS + round(end_s * 1000))


def shown(gaps: AwayGaps, at_s: float, *, after_gap: bool = False) -> Gap | None:
    return gaps.picture(WALL_MS + round(at_s * 1000), at_s, after_gap=after_gap)


def test_a_gap_that_lasts_grows_every_few_seconds_and_ends_with_the_next_picture() -> None:
    gaps = AwayGaps("gate", now(0), None, live=True)
    assert shown(gaps, 1, after_gap=True) is None
    told = [gap for tenth in range(10, 180) if (gap := gaps.lasting(now(tenth / 10))) is not None]
    assert told == [away(1, 6), away(1, 11), away(1, 16)]
    assert shown(gaps, 18, after_gap=True) == away(1, 18)
    assert gaps.lasting(now(18.5)) is None


def test_a_gap_that_was_told_and_whose_pictures_then_came_late_is_taken_back() -> None:
    gaps = AwayGaps("gate", now(0), None, live=True)
    shown(gaps, 1, after_gap=True)
    assert gaps.lasting(now(7)) == away(1, 7)
    assert gaps.picture(WALL_MS + 1500, 8.0, after_gap=False) == away(1, 1)


def test_a_camera_that_never_showed_anything_is_away_since_it_is_watched() -> None:
    gaps = AwayGaps("gate", now(3), None, live=True)
    assert gaps.lasting(now(9)) == away(3, 9)
    assert shown(gaps, 10, after_gap=True) == away(3, 10)


def test_a_camera_that_was_seen_before_this_process_is_away_since_then() -> None:
    gaps = AwayGaps("gate", now(100), WALL_MS + 40_000, live=True)
    assert shown(gaps, 101, after_gap=True) == away(40, 101)


def test_a_camera_that_shows_its_first_picture_soon_was_not_away() -> None:
    assert shown(AwayGaps("gate", now(0), None, live=True), 2, after_gap=True) is None


def test_pictures_that_are_missing_for_a_moment_are_not_told() -> None:
    gaps = AwayGaps("gate", now(0), None, live=True)
    shown(gaps, 1, after_gap=True)
    assert shown(gaps, 1.9, after_gap=True) is None
    assert shown(gaps, 4.9, after_gap=True) == away(1.9, 4.9)


def test_a_wall_clock_that_was_set_back_makes_no_gap() -> None:
    gaps = AwayGaps("gate", now(0), None, live=True)
    shown(gaps, 100, after_gap=True)
    assert shown(gaps, 50, after_gap=True) is None


def test_a_camera_of_few_pictures_is_not_away_between_two_of_them() -> None:
    gaps = AwayGaps("gate", now(0), None, live=True)
    for picture in range(4):  # one in ten seconds; the first two show it
        shown(gaps, 10 * picture, after_gap=picture == 0)
    assert gaps.lasting(now(39.9)) is None
    assert gaps.lasting(now(61)) == away(30, 61)


def test_a_camera_that_is_looked_at_seldom_is_not_away_in_between() -> None:
    gaps = AwayGaps("gate", now(0), None, live=True, interval_s=30)
    shown(gaps, 1, after_gap=True)
    assert gaps.lasting(now(31)) is None


def test_a_recording_that_stands_still_is_not_away() -> None:
    gaps = AwayGaps("gate", now(0), None, live=False)
    shown(gaps, 1, after_gap=True)
    assert gaps.lasting(now(1000)) is None


def test_frames_that_are_lost_one_after_another_are_one_gap_that_grows() -> None:
    losses = LostGaps("gate")
    assert [losses.frame(WALL_MS + ms).frames for ms in (0, 500, 1000)] == [1, 2, 3]
    assert losses.frame(WALL_MS + 1500) == Gap("gate", Reason.LOST, WALL_MS, WALL_MS + 1500, 4)
    assert losses.frame(WALL_MS + 60_000) == Gap("gate", Reason.LOST, WALL_MS + 60_000, WALL_MS + 60_000, 1)
