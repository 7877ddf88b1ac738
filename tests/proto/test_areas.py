"""Areas as people write them."""

from __future__ import annotations

import pytest

from proto.areas import MOST_AREAS, MOST_CORNERS, area_of, checked_areas, written
from proto.errors import Invalid

TRIANGLE = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25))


@pytest.mark.parametrize(
    "words",
    [
        "0,0 0.5,0 0.5,0.25",
        "0,0,0.5,0,0.5,0.25",
        "0,0; 0.5,0; 0.5,0.25;",
        "0,0 0.5,0 0.5,0.25 0,0",
        "640x480: 0,0 320,0 320,120",
        " 640 x 480 :0,0 320,0 320,120",
    ],
)
def test_corners_are_shares_of_the_picture_or_pixels_of_a_size(words: str) -> None:
    assert area_of(words) == TRIANGLE
    assert area_of(written(area_of(words))) == TRIANGLE


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "0 corners: give at least 3"),
        ("0,0 1,1", "2 corners: give at least 3"),
        ("0,0 0.5,0 0.5", "a corner with one number"),
        ("0,0 0.5,0 0.5,half", "not made of numbers"),
        ("0,0 0.5,0 0.5,nan", "outside the picture"),
        ("0,0 0.5,0 0.5,inf", "outside the picture"),
        ("0,0 1.01,0 0.5,0.5", r"outside the picture \(corner 1.01,0"),
        ("0,0 0.5,-0.1 0.5,0.5", "outside the picture"),
        ("640x480: 0,0 641,0 320,120", "outside the picture"),
        ("0x480: 0,0 641,0 320,120", "a picture without pixels"),
        ("0,0 1,1 1,0 0,1", "crosses or touches itself"),
        ("0,0 1,0 1,1 0.5,0 0,1", "crosses or touches itself"),
        ("0,0 1,0 0.5,0 0.5,1", "crosses or touches itself"),
        ("0,0 1,0 1,0 0.5,1", "crosses or touches itself"),
        ("0,0 0.5,0.5 1,1", "crosses or touches itself"),
        ("0,0 0.00001,0 0,0.00001", "no inside"),
        (" ".join(f"{n / 99},{(n % 2) / 9}" for n in range(MOST_CORNERS + 1)), f"at most {MOST_CORNERS}"),
        ("x" * 10_000, "not made of numbers"),
    ],
)
def test_what_is_no_area_is_refused_in_one_line(words: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        area_of(words)
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)
    assert refused.value.todo


def test_there_are_at_most_so_many() -> None:
    assert len(checked_areas([TRIANGLE] * MOST_AREAS, "masks")) == MOST_AREAS
    with pytest.raises(Invalid, match=f"33 masks were given: give at most {MOST_AREAS}"):
        checked_areas([TRIANGLE] * (MOST_AREAS + 1), "masks")
