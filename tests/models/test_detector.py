from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.detector import (
    MOST_OBJECTS,
    Detector,
    DetectorConfig,
    DetectorPicture,
    crop_of,
    detector_picture,
    objects_of,
    read_words,
)
from proto.errors import Broken
from proto.types import Box
from tests.models.detectors import toy_config

SURE, NEAR, FAR = 0.95, (0.0, 20.0), (20.0, 0.0)
"""A side that is one stride away, and one that is no stride away."""


def picture(width: int = 64, height: int = 64) -> DetectorPicture:
    return DetectorPicture(np.zeros((3, 64, 64), np.float32), width, height)


def output(places: dict[int, tuple[int, float]], side: tuple[float, float] = NEAR) -> tuple[Any, Any]:
    """Scores by place, as (kind, score), and the same sides everywhere: 64 places of stride 8."""
    scores = np.zeros((64, 2), np.float32)
    for place, (kind, score) in places.items():
        scores[place, kind] = score
    return scores, np.tile(np.array(side * 4, np.float32), (64, 1))


def test_a_wide_picture_becomes_wide_input_with_black_where_it_does_not_reach() -> None:
    config = toy_config(side=416, multiple=32, mean=[100.0] * 3, std=[50.0] * 3)
    taken = detector_picture(np.full((720, 1280, 3), 200, np.uint8), config)
    assert taken.values.shape == (3, 256, 416)
    assert (taken.width, taken.height) == (416, 234)
    assert np.allclose(taken.values[:, :234], 2.0)
    assert np.allclose(taken.values[:, 234:], -2.0)


def test_a_small_picture_is_enlarged_to_twice_its_size_at_most() -> None:
    taken = detector_picture(np.zeros((60, 100, 3), np.uint8), toy_config(side=416, multiple=32))
    assert (taken.width, taken.height) == (200, 120)
    assert taken.values.shape == (3, 128, 224)


@pytest.mark.parametrize(("channels", "first"), [("RGB", 10), ("BGR", 30)])
def test_channels_come_in_the_order_that_the_detector_takes(channels: str, first: int) -> None:
    pixels = np.tile(np.array([10, 20, 30], np.uint8), (64, 64, 1))
    taken = detector_picture(pixels, toy_config(channels=channels, mean=[0.0] * 3, std=[1.0] * 3))
    assert taken.values[:, 5, 5].tolist() == [first, 20, 40 - first]


@pytest.mark.parametrize("shape", [(1, 1000, 3), (1000, 1, 3), (1, 1, 3)])
def test_a_picture_of_any_shape_is_taken(shape: tuple[int, int, int]) -> None:
    taken = detector_picture(np.zeros(shape, np.uint8), toy_config())
    assert all(side % 8 == 0 and side > 0 for side in taken.values.shape[1:])


def test_a_box_lies_where_its_place_is_and_reaches_as_far_as_its_sides_say() -> None:
    (found,) = objects_of(*output({9: (0, SURE)}), picture(), toy_config())  # row 1, column 1: its middle is 12, 12
    assert found.kind == "light"
    assert found.score == pytest.approx(SURE)
    assert (found.box.left, found.box.top, found.box.right, found.box.bottom) == pytest.approx(
        (4 / 64, 4 / 64, 20 / 64, 20 / 64)
    )


def test_a_box_is_in_shares_of_the_picture_and_not_of_what_fills_the_input() -> None:
    (found,) = objects_of(*output({9: (0, SURE)}), picture(width=64, height=32), toy_config())
    assert (found.box.top, found.box.bottom) == pytest.approx((4 / 32, 20 / 32))


def test_a_box_that_reaches_beyond_the_picture_ends_at_its_edge() -> None:
    (found,) = objects_of(*output({0: (0, SURE)}), picture(), toy_config())
    assert found.box.is_sound()
    assert (found.box.left, found.box.top) == (0, 0)


def test_what_lies_only_in_the_filling_is_no_object() -> None:
    assert objects_of(*output({63: (0, SURE)}), picture(height=32), toy_config()) == []


def test_a_box_without_extent_is_no_object() -> None:
    assert objects_of(*output({9: (0, SURE)}, FAR), picture(), toy_config()) == []


def test_what_is_less_sure_than_the_threshold_is_no_object() -> None:
    scores, sides = output({9: (0, 0.89), 40: (0, 0.91)})
    assert [found.score for found in objects_of(scores, sides, picture(), toy_config())] == pytest.approx([0.91])
    assert len(objects_of(scores, sides, picture(), toy_config(), threshold=0.5)) == 2


def test_of_overlapping_boxes_of_one_kind_the_surest_stays() -> None:
    scores, sides = output({9: (0, 0.92), 10: (0, 0.97), 50: (0, 0.95)})
    found = objects_of(scores, sides, picture(), toy_config())
    assert [one.score for one in found] == pytest.approx([0.97, 0.95])


def test_overlapping_boxes_of_two_kinds_both_stay() -> None:
    found = objects_of(*output({9: (0, 0.92), 10: (1, 0.97)}), picture(), toy_config())
    assert [one.kind for one in found] == ["dark", "light"]


def test_a_picture_full_of_objects_gives_the_surest_of_them() -> None:
    places = {row * 8 + column: (0, 0.9 + 0.01 * row / 8) for row in range(0, 8, 2) for column in range(0, 8, 2)}
    more = places | {place + 1: (1, 0.99) for place in places}
    found = objects_of(*output(more), picture(), toy_config())
    assert len(found) == MOST_OBJECTS
    assert {one.kind for one in found} == {"dark"}


def test_output_that_is_no_number_gives_no_object() -> None:
    scores, sides = output({9: (0, SURE)})
    assert objects_of(scores * np.nan, sides, picture(), toy_config()) == []
    assert objects_of(scores, sides * np.nan, picture(), toy_config()) == []


def test_a_crop_is_a_little_larger_than_the_box_and_stays_in_the_picture() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    assert crop_of(pixels, Box(0.25, 0.2, 0.75, 0.6), 0.1).shape == (44, 110, 3)
    assert crop_of(pixels, Box(0.0, 0.0, 1.0, 1.0), 0.1).shape == (100, 200, 3)
    assert crop_of(pixels, Box(0.999, 0.999, 1.0, 1.0), 0.0).size > 0


def test_the_surer_the_detector_the_more_of_the_word_is_in_an_objects_vector() -> None:
    words = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    detector = Detector(Path(), toy_config(), words)
    crop = np.array([0.0, 1.0], np.float32)
    assert detector.vector("light", 1.0, crop).tolist() == [1.0, 0.0]
    assert detector.vector("light", 0.0, crop).tolist() == [0.0, 1.0]
    half = detector.vector("light", 0.5, crop)
    assert half == pytest.approx(np.sqrt([0.5, 0.5]))


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds": []},
        {"kinds": ["dog", "dog"]},
        {"kinds": ["Dog"]},
        {"multiple": 12},
        {"threshold": 0},
        {"channels": "HSV"},
        {"cost": 0},
        {"colour": "red"},
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        toy_config(**changes)


@pytest.mark.parametrize("content", [b"", bytes(8), np.ones(4, "<f4").tobytes()])
def test_words_that_are_not_one_unit_vector_a_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "words.f32").write_bytes(content)
    with pytest.raises(Broken) as met:
        read_words(tmp_path / "words.f32", 2, 2)
    assert met.value.todo


def test_a_configuration_is_the_same_after_it_was_written_and_read() -> None:
    config = toy_config()
    assert DetectorConfig.model_validate_json(config.model_dump_json()) == config
