"""What an answer says of its coverage: one rule a test."""

from __future__ import annotations

import pytest

from cameras.address import kind_of
from catalog.coverage import Gap, Reason
from proto.types import Camera
from query.coverage import (
    MOST_WATERMARKS,
    AskedTime,
    CoverageTold,
    Watermark,
    first_gap_needed,
    is_recording,
    never_looked_at,
    told,
)
from tests.contracts.moments import NOON

SECOND = 1000
MINUTE = 60 * SECOND
BEHIND = 30 * SECOND
GATE = Camera("gate", "rtsp://gate/1")
EVER = AskedTime(None, None, NOON)


def tell(
    asked: AskedTime,
    looked: dict[str, int],
    *declared: Gap,
    cameras: tuple[Camera, ...] = (GATE,),
    opened: dict[str, int] | None = None,
) -> CoverageTold:
    return told(asked, cameras, looked, opened or {}, declared, BEHIND)


def waiting(asked: AskedTime, looked_ms: int | None, *declared: Gap) -> list[tuple[int, int]]:
    """When the camera's pictures wait."""
    looked = {} if looked_ms is None else {"gate": looked_ms}
    return [
        (gap.start_ms, gap.end_ms)
        for gap in tell(asked, looked, *declared).gaps
        if gap.reason is Reason.WAITING and (gap.camera, gap.frames) == ("gate", 0)
    ]


def away(start_ms: int, end_ms: int) -> Gap:
    return Gap("gate", Reason.AWAY, start_ms, end_ms)


def test_a_camera_that_was_looked_at_just_now_does_not_wait() -> None:
    assert waiting(EVER, NOON - BEHIND) == []
    assert waiting(EVER, NOON + 5 * SECOND) == []


def test_a_camera_whose_mark_is_old_waits_from_its_mark_to_now() -> None:
    assert waiting(EVER, NOON - BEHIND - 1) == [(NOON - BEHIND - 1, NOON)]


def test_a_time_wholly_before_the_mark_was_looked_at() -> None:
    mark = NOON - 60 * MINUTE
    assert waiting(AskedTime(None, mark, NOON), mark) == []
    assert waiting(AskedTime(mark - MINUTE, mark - 1, NOON), mark) == []


def test_of_a_camera_far_behind_also_a_short_time_after_its_mark_waits() -> None:
    mark = NOON - 60 * MINUTE
    assert waiting(AskedTime(None, mark + 10 * SECOND, NOON), mark) == [(mark, mark + 10 * SECOND)]


def test_a_time_after_the_mark_waits_also_when_it_begins_later() -> None:
    mark = NOON - 60 * MINUTE
    asked = AskedTime(NOON - 10 * MINUTE, NOON - 5 * MINUTE, NOON)
    assert waiting(asked, mark) == [(mark, NOON - 5 * MINUTE)]


def test_an_end_in_the_future_counts_as_now() -> None:
    asked = AskedTime(None, NOON + 60 * MINUTE, NOON)
    assert waiting(asked, NOON - 10 * SECOND) == []
    assert waiting(asked, NOON - MINUTE) == [(NOON - MINUTE, NOON)]


def test_of_a_time_wholly_in_the_future_nothing_waits() -> None:
    assert waiting(AskedTime(NOON + MINUTE, NOON + 2 * MINUTE, NOON), NOON - 60 * MINUTE) == []
    assert waiting(AskedTime(NOON + MINUTE, None, NOON), None) == []


def test_a_camera_that_said_it_is_away_does_not_wait_too() -> None:
    gap = away(NOON - 10 * MINUTE, NOON - 5 * SECOND)
    assert tell(EVER, {"gate": NOON - 10 * MINUTE - 8 * SECOND}, gap).gaps == [gap]


def test_frames_for_which_another_gap_was_declared_do_not_wait_too() -> None:
    for reason in (Reason.SHED, Reason.LOST, Reason.EXPIRED):
        gap = Gap("gate", reason, NOON - 10 * MINUTE, NOON, 99)
        assert tell(EVER, {"gate": NOON - 10 * MINUTE}, gap).gaps == [gap]


def test_pictures_from_before_the_camera_went_away_may_still_wait() -> None:
    gap = away(NOON - 10 * MINUTE, NOON)
    assert waiting(EVER, NOON - 15 * MINUTE, gap) == [(NOON - 15 * MINUTE, NOON - 10 * MINUTE)]


def test_pictures_from_after_the_camera_came_back_may_still_wait() -> None:
    gap = away(NOON - 10 * MINUTE, NOON - 5 * MINUTE)
    assert waiting(EVER, NOON - 10 * MINUTE, gap) == [(NOON - 5 * MINUTE, NOON)]
    assert waiting(EVER, NOON - 4 * SECOND, gap) == []


def test_a_camera_that_came_back_a_moment_ago_does_not_wait_yet() -> None:
    assert waiting(EVER, NOON - 10 * MINUTE, away(NOON - 10 * MINUTE, NOON - BEHIND)) == []


def test_a_camera_that_went_away_after_the_asked_time_explains_nothing() -> None:
    asked = AskedTime(None, NOON - 20 * MINUTE, NOON)
    assert waiting(asked, NOON - 25 * MINUTE, away(NOON - 10 * MINUTE, NOON)) == [
        (NOON - 25 * MINUTE, NOON - 20 * MINUTE)
    ]


def test_what_another_camera_or_any_camera_missed_explains_nothing() -> None:
    others = [Gap(camera, Reason.AWAY, NOON - 60 * MINUTE, NOON) for camera in ("", "dock")]
    assert waiting(EVER, NOON - 10 * MINUTE, *others) == [(NOON - 10 * MINUTE, NOON)]


def test_a_camera_that_was_never_looked_at_is_not_told_of_a_time_before_it_may_have_been_there() -> None:
    assert waiting(AskedTime(None, NOON - MINUTE, NOON), None) == []
    assert waiting(AskedTime(NOON - 60 * MINUTE, NOON - BEHIND, NOON), None) == []


def test_a_camera_that_was_never_looked_at_waits_now() -> None:
    assert waiting(EVER, None) == [(NOON - BEHIND, NOON)]
    assert waiting(AskedTime(NOON - 10 * SECOND, None, NOON), None) == [(NOON - BEHIND, NOON)]


def test_a_new_camera_that_says_it_is_away_is_told_as_away_only() -> None:
    gap = away(NOON - 2 * MINUTE, NOON - 5 * SECOND)
    assert tell(EVER, {}, gap).gaps == [gap]


def test_the_first_gap_of_a_camera_that_was_never_looked_at_tells_since_when_it_is_there() -> None:
    opening = away(NOON - 60 * MINUTE, NOON - 59 * MINUTE)
    assert waiting(EVER, None, opening) == [(NOON - 59 * MINUTE, NOON)]
    asked = AskedTime(NOON - 30 * MINUTE, NOON - 20 * MINUTE, NOON)
    assert waiting(asked, None, opening) == [(NOON - 59 * MINUTE, NOON - 20 * MINUTE)]


def test_when_a_camera_was_opened_tells_since_when_its_pictures_wait() -> None:
    opened = {"gate": NOON - 60 * MINUTE}
    asked = AskedTime(NOON - 30 * MINUTE, NOON - 20 * MINUTE, NOON)
    waits = [Gap("gate", Reason.WAITING, NOON - 60 * MINUTE, NOON - 20 * MINUTE)]
    assert tell(asked, {}, opened=opened).gaps == waits
    before = AskedTime(None, NOON - 60 * MINUTE, NOON)
    assert tell(before, {}, opened=opened).gaps == []
    assert tell(EVER, {}, opened={"gate": NOON - BEHIND}).gaps == []  # It has just been opened.


def test_a_camera_that_was_opened_again_waits_since_before_its_first_gap() -> None:
    gap = away(NOON - 40 * MINUTE, NOON - 30 * MINUTE)
    told_gaps = tell(EVER, {}, gap, opened={"gate": NOON - 30 * MINUTE}).gaps
    assert [(one.reason, one.start_ms) for one in told_gaps] == [
        ("away", NOON - 40 * MINUTE),
        ("waiting", NOON - 30 * MINUTE),
    ]


def test_only_watched_live_cameras_without_a_mark_need_all_of_their_gaps() -> None:
    cameras = [
        GATE,
        Camera("dock", "rtsp://dock"),
        Camera("old", "rtsp://old", watching=False),
        Camera("clip", "c.mp4"),
    ]
    assert never_looked_at(cameras, {"dock": NOON}) == {"gate"}


def test_a_camera_that_is_no_longer_watched_never_waits() -> None:
    removed = Camera("gate", "rtsp://gate/1", watching=False)
    assert tell(EVER, {"gate": NOON - 60 * MINUTE}, cameras=(removed,)).gaps == []
    assert tell(EVER, {}, cameras=(removed,)).gaps == []


def test_a_recording_never_waits() -> None:
    for url in ("clips/gate.mp4", "file:///clips/gate.mp4"):
        assert tell(EVER, {"gate": NOON - 365 * 24 * 60 * MINUTE}, cameras=(Camera("gate", url),)).gaps == []
        assert tell(EVER, {}, cameras=(Camera("gate", url),)).gaps == []


@pytest.mark.parametrize(
    "url",
    ["a.mp4", "/a/b.mp4", "file:///a.mp4", "FILE:///a", "rtsp://a", "RTSPS://a", "https://a/b.mp4", "/dev/video0"],
)
def test_a_recording_is_what_the_camera_process_takes_for_a_file(url: str) -> None:
    assert is_recording(url) == (kind_of(url) == "file")


def test_declared_gaps_outside_the_asked_time_are_not_told() -> None:
    gap = away(NOON - 10 * MINUTE, NOON - 5 * MINUTE)
    looked = {"gate": NOON}
    assert tell(AskedTime(NOON - 5 * MINUTE, None, NOON), looked, gap).gaps == [gap]
    assert tell(AskedTime(NOON - 5 * MINUTE + 1, None, NOON), looked, gap).gaps == []
    assert tell(AskedTime(None, NOON - 10 * MINUTE + 1, NOON), looked, gap).gaps == [gap]
    assert tell(AskedTime(None, NOON - 10 * MINUTE, NOON), looked, gap).gaps == []


def test_gaps_are_told_earliest_first_with_those_that_wait_among_them() -> None:
    dock = Gap("dock", Reason.LOST, NOON - 5 * MINUTE, NOON - 4 * MINUTE)
    any_camera = Gap("", Reason.EXPIRED, NOON - 20 * MINUTE, NOON - 19 * MINUTE)
    gaps = tell(EVER, {"gate": NOON - 10 * MINUTE, "dock": NOON}, any_camera, dock).gaps
    assert [(gap.camera, gap.reason) for gap in gaps] == [("", "expired"), ("gate", "waiting"), ("dock", "lost")]


def test_gaps_are_read_from_the_asked_start_and_of_the_last_half_minute_always() -> None:
    assert first_gap_needed(EVER, BEHIND) is None
    assert first_gap_needed(AskedTime(NOON - MINUTE, None, NOON), BEHIND) == NOON - MINUTE
    assert first_gap_needed(AskedTime(NOON - SECOND, None, NOON), BEHIND) == NOON - BEHIND


def test_watermarks_tell_live_cameras_first_and_of_them_the_furthest_behind() -> None:
    cameras = (GATE, Camera("dock", "rtsp://dock"), Camera("clip", "c.mp4"), Camera("old", "rtsp://o", watching=False))
    looked = {"clip": 1, "old": 2, "gate": NOON, "dock": NOON - 5}
    assert tell(EVER, looked, cameras=cameras).watermarks == [
        Watermark("dock", NOON - 5),
        Watermark("gate", NOON),
        Watermark("clip", 1),
        Watermark("old", 2),
    ]


def test_at_most_a_hundred_watermarks_are_told() -> None:
    looked = {f"cam-{number}": number for number in range(1000)}
    marks = tell(EVER, looked).watermarks
    assert [mark.looked_ms for mark in marks] == list(range(MOST_WATERMARKS))
