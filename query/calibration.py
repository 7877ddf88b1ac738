"""From features to a confidence: a logistic model, whose weights come with the bundle. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
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
