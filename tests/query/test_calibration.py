"""The calibration of a bundle: what is accepted, and what is fitted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from proto.errors import Invalid
from query.calibration import DEFAULT, Weights, fitted, read_calibration
from query.confidence import FEATURES

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


def drawn(
    count: int, weights: dict[str, float], bias: float, seed: int = 0
) -> tuple[list[dict[str, float]], list[bool]]:
    rng = np.random.default_rng(seed)
    features = [dict(zip(FEATURES, rng.normal(size=len(FEATURES)), strict=True)) for _ in range(count)]
    logit = np.array([bias + sum(w * one[name] for name, w in weights.items()) for one in features])
    return features, list(rng.random(count) < 1 / (1 + np.exp(-logit)))


def test_fitting_finds_the_weights_that_made_the_answers() -> None:
    true = {"z_camera": 1.0, "log10_e": -2.0, "object": 0.7}
    found = fitted(*drawn(20_000, true, -0.5), list(true))
    assert found.weights == pytest.approx(tuple(true.values()), abs=0.1)
    assert found.bias == pytest.approx(-0.5, abs=0.1)
    read_calibration(
        json.dumps(
            {
                "version": 1,
                "features": list(found.features),
                "weights": found.weights,
                "bias": found.bias,
                "threshold": 0.5,
            }
        )
    )


def test_fitting_keeps_the_signs_that_are_asked_for_whatever_the_answers_say() -> None:
    found = fitted(*drawn(5_000, {"z_camera": -1.0, "log10_e": 2.0, "object": -1.0}, 0.0), FEATURES)
    weights = dict(zip(found.features, found.weights, strict=True))
    assert weights["z_camera"] == weights["log10_e"] == 0
    assert weights["object"] < -0.5


def test_answers_of_one_kind_cannot_be_fitted() -> None:
    features, _ = drawn(10, {}, 0.0)
    with pytest.raises(Invalid, match="all hits are right"):
        fitted(features, [True] * 10, FEATURES)
