"""From features to a confidence: a logistic model, whose weights come with the bundle. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from proto.errors import Invalid
from query.confidence import FEATURES, Numbers

RISES = frozenset({"z_camera", "z_pool", "z_words", "score"})
"""Features that grow with the score. Their weights are never negative, so that a better score is never less sure."""
FALLS = frozenset({"log10_e"})
"""Its weight is never positive, so that the same hit is never surer because more was searched."""
OF_WORDS = frozenset({"z_words", "agrees"})
"""Features that need the bank of texts."""
OF_MOMENTS = frozenset({"z_camera", "z_pool", "log10_e"})
"""Features that need a background."""
_MOST_LOGIT = 30.0
_MOST_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Weights:
    """A logistic model: confidence = 1 / (1 + exp(-(bias + the weighted sum of the features)))."""

    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float

    def confidence(self, values: Mapping[str, Numbers]) -> Numbers:
        """The confidence of each hit, 0 to 1."""
        logit = self.bias + sum(w * values[name] for name, w in zip(self.features, self.weights, strict=True))
        result: Numbers = 1.0 / (1.0 + np.exp(-np.clip(logit, -_MOST_LOGIT, _MOST_LOGIT)))
        return result


@dataclass(frozen=True, slots=True)
class Calibration:
    """How sure hits are."""

    texts: Weights
    pictures: Weights
    """For questions by a picture or a moment."""
    threshold: float
    """A hit of at least this confidence counts as found."""
    trained_on: str = ""
    """What it was fitted on; empty for the default."""


BY_CHANCE = Weights(("log10_e",), (-float(np.log(10.0)),), -float(np.log(10.0)))
"""By the E-value alone: 1 / (1 + 10 E). A hit as good as chance gives in one of ten searches has 0.5."""
_CAUTIOUS = Weights(("log10_e", "z_words"), (-float(np.log(10.0)), 1.0), -5.0)
"""What a camera always shows is not unusual there, but the words for it fit it much better than other words do."""
DEFAULT = Calibration(_CAUTIOUS, BY_CHANCE, 0.5)
"""For a bundle without a calibration, and where what the calibration needs is not known yet."""


class _Written(BaseModel):
    """Weights as in the file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    features: list[str] = Field(min_length=1, max_length=len(FEATURES))
    weights: list[float]
    bias: float = Field(ge=-1000, le=1000)

    @model_validator(mode="after")
    def _sound(self) -> _Written:
        if len(self.weights) != len(self.features) or len(set(self.features)) < len(self.features):
            raise ValueError("it must have one weight for each feature, and each feature once")
        for name, weight in zip(self.features, self.weights, strict=True):
            if name not in FEATURES:
                raise ValueError(f"the feature {name[:40]!r} is not known; known are {', '.join(FEATURES)}")
            if abs(weight) > 1000 or (name in RISES and weight < 0) or (name in FALLS and weight > 0):
                raise ValueError(f"the weight {weight:g} of {name} has the wrong sign or is too large")
        return self

    def as_weights(self) -> Weights:
        return Weights(tuple(self.features), tuple(self.weights), self.bias)


class _File(_Written):
    version: int = Field(ge=1, le=1)
    threshold: float = Field(gt=0, lt=1)
    trained_on: str = Field(default="", max_length=1000)
    pictures: _Written | None = None


def read_calibration(text: str) -> Calibration:
    """The calibration in the JSON of a bundle. Empty: the default. Raises Invalid."""
    if not text:
        return DEFAULT
    if len(text) > _MOST_CHARS:
        raise Invalid(f"the calibration has {len(text)} characters", todo=f"at most {_MOST_CHARS} are read")
    try:
        written = _File.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(
            f"the bundle's calibration cannot be used: {where + ': ' if where else ''}{first['msg']}",
            todo="make it again with `python -m evals.calibrate`",
        ) from None
    pictures = written.pictures.as_weights() if written.pictures else DEFAULT.pictures
    return Calibration(written.as_weights(), pictures, written.threshold, written.trained_on)


def fitted(
    features: Sequence[Mapping[str, float]], right: Sequence[bool], names: Sequence[str], *, ridge: float = 1e-3
) -> Weights:
    """The weights under which these hits, right or wrong, are most likely, with the signs that RISES and FALLS ask for.

    Logistic regression with a small quadratic penalty, by accelerated projected gradient: deterministic.
    """
    table = np.array([[one[name] for name in names] for one in features], np.float64).reshape(len(features), len(names))
    truth = np.array(right, np.float64)
    if not 0 < truth.sum() < len(truth):
        raise Invalid("all hits are right, or all are wrong", todo="give features of both kinds")
    mean, deviation = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-9)
    design = np.column_stack([(table - mean) / deviation, np.ones(len(table))])
    low = np.array([0.0 if name in RISES else -np.inf for name in names] + [-np.inf])
    high = np.array([0.0 if name in FALLS else np.inf for name in names] + [np.inf])
    best = _descended(design, truth, low, high, ridge)
    weights = best[:-1] / deviation
    return Weights(tuple(names), tuple(float(w) for w in weights), float(best[-1] - weights @ mean))


def _descended(design: Numbers, truth: Numbers, low: Numbers, high: Numbers, ridge: float) -> NDArray[np.float64]:
    step = 1.0 / (0.25 * float(np.linalg.norm(design.T @ design / len(design), 2)) + ridge)
    best = ahead = np.zeros(design.shape[1])
    for number in range(5000):
        guess = 1.0 / (1.0 + np.exp(-np.clip(design @ ahead, -_MOST_LOGIT, _MOST_LOGIT)))
        slope = design.T @ (guess - truth) / len(design) + ridge * np.append(ahead[:-1], 0.0)
        new = np.clip(ahead - step * slope, low, high)
        if float(np.abs(new - best).max()) < 1e-9:
            break
        ahead = new + number / (number + 3.0) * (new - best)
        best = new
    return best
