"""The worst cameras, of many."""

from __future__ import annotations

import pytest

from cameras.worst import BY, MOST, CameraFacts, worst
from proto.errors import Invalid


def camera(number: int) -> CameraFacts:
    return CameraFacts(f"cam-{number:05}", "open", "clear", number / 10, number % 7, number % 5, 10_000 - number, "")


CAMERAS = [camera(number) for number in range(10_000)]


def names(**asked: str) -> list[str]:
    return [one["camera"] for one in worst(CAMERAS, asked)["cameras"]]


def test_of_ten_thousand_cameras_twenty_are_told_those_silent_for_longest_first() -> None:
    assert names() == [f"cam-{number:05}" for number in range(9999, 9979, -1)]
    assert worst(CAMERAS, {})["watched"] == 10_000


@pytest.mark.parametrize(
    ("by", "first"), [("silent", "cam-09999"), ("failures", "cam-00006"), ("lost", "cam-00004"), ("sent", "cam-00000")]
)
def test_they_are_told_by_what_is_asked_for(by: str, first: str) -> None:
    assert names(by=by, n="1") == [first]


@pytest.mark.parametrize("n", ["0", str(MOST + 1), "-1", "", "many", "1e3", "\u0663", "9" * 400])
def test_a_number_that_is_none_or_too_many_is_refused(n: str) -> None:
    with pytest.raises(Invalid, match=r"give 1 to \d+"):
        names(n=n)


def test_what_cameras_are_not_told_by_is_refused_with_what_they_are() -> None:
    with pytest.raises(Invalid, match="silent"):
        names(by="__class__")
    assert BY[0] == "silent"


def test_without_cameras_there_are_none() -> None:
    assert worst([], {}) == {"by": "silent", "watched": 0, "cameras": []}
