"""The calibration of a bundle: what is accepted, and what is fitted."""

from __future__ import annotations

import json

import pytest

from proto.errors import Invalid
from query.calibration import DEFAULT, Weights, read_calibration

GOOD = {
    "version": 1,
    "features": ["z_camera", "log10_e", "object"],
    "weights": [0.5, -1.0, -0.2],
    "bias": -1.5,
    "threshold": 0.4,
    "trained_on": "the yard, train part",
}


def test_a_sound_calibration_is_taken_as_written() -> None:
    found = read_calibration(json.dumps(GOOD))
    assert found.texts == Weights(("z_camera", "log10_e", "object"), (0.5, -1.0, -0.2), -1.5)
    assert (found.threshold, found.trained_on, found.pictures) == (0.4, "the yard, train part", DEFAULT.pictures)


def test_pictures_may_have_weights_of_their_own() -> None:
    of_pictures = {"features": ["z_camera"], "weights": [2.0], "bias": -3.0}
    assert read_calibration(json.dumps(GOOD | {"pictures": of_pictures})).pictures == Weights(
        ("z_camera",), (2.0,), -3.0
    )


def test_no_calibration_means_the_default() -> None:
    assert read_calibration("") == DEFAULT


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"version": True},
        {"features": []},
        {"features": ["z_camera", "log10_e", "colour"]},
        {"features": ["z_camera", "log10_e"]},
        {"features": ["log10_e", "log10_e", "object"]},
        {"weights": ["0.5", "-1", "0"]},
        {"weights": [0.5, 1.0, 0.0]},
        {"weights": [-0.5, -1.0, 0.0]},
        {"weights": [0.5, -1.0, 1e6]},
        {"bias": None},
        {"threshold": 0.0},
        {"threshold": 1.5},
        {"extra": 1},
        {"pictures": {"features": ["z_camera"], "weights": [-1.0], "bias": 0.0}},
    ],
    ids=json.dumps,
)
def test_a_calibration_that_is_not_sound_is_refused_with_what_to_do(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid) as refused:
        read_calibration(json.dumps(GOOD | wrong))
    assert refused.value.todo


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"bias": NaN}', " " * 30_000, json.dumps(GOOD)[:-1]])
def test_what_is_no_calibration_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        read_calibration(text)


def test_numbers_that_are_not_finite_are_refused() -> None:
    for number in ("NaN", "Infinity", "1e999"):
        with pytest.raises(Invalid):
            read_calibration(json.dumps(GOOD).replace("-1.5", number))
