"""Learns how confident to be: a logistic regression of a hit's correctness on features that the service tells.

    python -m evals.calibrate RUN_FOLDER --out calibration.json

It sees the train part of the run only. The result goes into a bundle:

    {"version": 1, "features": [NAME, ...], "weights": [...], "bias": ..., "threshold": ..., "trained_on": "..."}

with confidence = 1 / (1 + exp(-(weights . features + bias))). No hit at or above `threshold` means that the reply says
`no_confident_match`; it is the lowest one at which 95 % of the absent questions of the train part get that answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.answers import Run, read_run
from evals.judging import judge
from evals.metrics import Array, Bin, ece, reliability
from proto.errors import Invalid, WatchwordError
from query.calibration import FALLS, RISES

USED = ("log10_e", "z_words")
"""What the model learns from: how many such hits chance would give, and how much better the question fits than other
texts. The yard's train part has some thirty meanings; with all features the model told present questions from absent
ones worse there (area under the curve, by cross-validation: 0.67 instead of 0.73)."""
HITS_EACH = 10
"""So many hits of each question are learned from: those that a reply shows by default."""
REFUSED = 0.95
_PENALTY = 1.0
_FOLDS = 5
_STEPS = 50
_LEAST_STEP = 1e-8
_SEED = 20_260_501
_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Hits of the train part: one row each."""

    names: tuple[str, ...]
    features: Array
    right: Array
    question: NDArray[np.int64]
    """The place of the hit's question."""
    groups: tuple[str, ...]
    """By question."""
    absent: NDArray[np.bool_]
    """By question."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A logistic regression over features as they are."""

    weights: Array
    bias: float

    def confidence(self, features: Array) -> Array:
        return _logistic(features @ self.weights + self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What was learned, and what cross-validation over groups of questions says of it."""

    names: tuple[str, ...]
    model: Model
    threshold: float
    trained_on: str
    bins: tuple[Bin, ...]
    ece: float
    refused: float
    """The share of absent questions without a hit at the threshold."""
    lost: float
    """The share of present questions that have a right hit, and no hit at the threshold."""

    def plain(self) -> dict[str, Any]:
        """As it goes into a bundle."""
        return {
            "version": _VERSION,
            "features": list(self.names),
            "weights": [round(float(weight), 6) for weight in self.model.weights],
            "bias": round(self.model.bias, 6),
            "threshold": self.threshold,
            "trained_on": self.trained_on,
        }


def examples_of(run: Run, only: Sequence[str] = ()) -> Examples:
    """The train part's first hits, with these features, or with all. Invalid when there is nothing to learn from."""
    questions = [question for question in run.dataset.questions if question.part == "train"]
    rows: list[dict[str, float]] = []
    right: list[bool] = []
    places: list[int] = []
    for place, question in enumerate(questions):
        judged = judge(question, run.answers[question.qid].hits[:HITS_EACH], run.dataset.videos)
        rows += [hit.features for hit in judged.hits]
        right += [bool(match) for match in judged.matches]
        places += [place] * len(judged.hits)
    if not any(rows):
        raise Invalid(
            "the run has no features of hits in its train part",
            todo="run `watchword eval run` with --part all against a service that sends them",
        )
    told = tuple(next(row for row in rows if row))
    if unknown := set(only) - set(told):
        raise Invalid(f"hits have no feature {', '.join(sorted(unknown))}", todo=f"use some of {', '.join(told)}")
    names = tuple(only) or told
    if any(set(row) != set(told) for row in rows):
        raise Invalid("not every hit has the same features", todo="run `watchword eval run` again, on one service")
    features = np.asarray([[row[name] for name in names] for row in rows], np.float64)
    if not np.isfinite(features).all():
        bad = [names[place] for place in np.flatnonzero(~np.isfinite(features).all(axis=0))]
        raise Invalid(f"features of hits are not finite: {', '.join(bad)}", todo="repair how the service computes them")
    if len(set(right)) < 2:
        raise Invalid("the hits of the train part are all right, or all wrong", todo="add questions of the other kind")
    return Examples(
        names,
        features,
        np.asarray(right, np.float64),
        np.asarray(places, np.int64),
        tuple(question.group for question in questions),
        np.asarray([question.absent for question in questions], np.bool_),
    )


def calibrate(run: Run, only: Sequence[str] = ()) -> Calibration:
    """Learn from the train part of the run. Reliability is that of hits which the model had not seen."""
    known = examples_of(run, only)
    model = fit(known.features, known.right, known.names)
    unseen = _cross_validated(known)
    threshold = _threshold(known, unseen)
    refused, lost = _at(known, unseen, threshold)
    trained_on = f"{run.dataset.name} {run.dataset.digest}, space {run.about.get('space', '')}, {len(known.right)} hits"
    bins = tuple(reliability(unseen, known.right))
    return Calibration(known.names, model, threshold, trained_on, bins, ece(unseen, known.right), refused, lost)


def fit(features: Array, right: Array, names: Sequence[str], penalty: float = _PENALTY) -> Model:
    """Logistic regression with the signs that RISES and FALLS ask for: a feature whose weight would have the wrong one
    has none, the worst first. The penalty (L2) is on the weights of standardised features."""
    middle, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    standard = (features - middle) / spread
    signs = np.asarray([1.0 if name in RISES else -1.0 if name in FALLS else 0.0 for name in names])
    used = np.arange(len(names))
    while True:
        weights, bias = _newton(standard[:, used], right, penalty)
        wrong = weights * signs[used]
        if not len(used) or wrong.min() >= 0:
            break
        used = np.delete(used, int(np.argmin(wrong)))
    plain = np.zeros(len(names))
    plain[used] = weights / spread[used]
    return Model(plain, float(bias - middle @ plain))


def _newton(features: Array, right: Array, penalty: float) -> tuple[Array, float]:
    """Weights and bias of a logistic regression, by Newton's method."""
    rows = np.column_stack([features, np.ones(len(features))])
    ridge = np.diag([penalty] * features.shape[1] + [1e-9])
    weights = np.zeros(rows.shape[1])
    loss = _loss(rows, right, weights, ridge)
    for _ in range(_STEPS):
        told = _logistic(rows @ weights)
        slope = rows.T @ (told - right) + ridge @ weights
        curve = (rows * (told * (1 - told))[:, None]).T @ rows + ridge
        step, size = np.linalg.solve(curve, slope), 1.0
        # A full step can overshoot where the classes are almost apart.
        while (found := _loss(rows, right, weights - size * step, ridge)) > loss and size > _LEAST_STEP:
            size /= 2
        weights, loss = weights - size * step, found
        if float(np.abs(size * step).max()) < _LEAST_STEP:
            break
    return weights[:-1], float(weights[-1])


def words_of(found: Calibration) -> str:
    """The calibration for people."""
    lines = [f"{name:<20} {weight:+.4f}" for name, weight in zip(found.names, found.model.weights, strict=True)]
    lines.append(f"{'bias':<20} {found.model.bias:+.4f}")
    lines.append(f"{'threshold':<20} {found.threshold:.3f}")
    lines.append("on the train part, by cross-validation over groups of questions:")
    lines.append(
        f"  ECE {found.ece:.3f}; absent questions refused {found.refused:.3f}; present ones lost {found.lost:.3f}"
    )
    lines += [
        f"  {one.low:.1f} to {one.high:.1f}: {one.hits} hits, confidence {one.confidence:.2f}, right {one.right:.2f}"
        for one in found.bins
        if one.hits
    ]
    return "\n".join(lines)


def _logistic(values: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0)))


def _loss(rows: Array, right: Array, weights: Array, ridge: Array) -> float:
    values = rows @ weights
    return float(np.sum(np.logaddexp(0.0, values) - right * values) + weights @ ridge @ weights / 2)


def _best_by_question(known: Examples, confidence: Array) -> Array:
    best = np.zeros(len(known.absent))
    np.maximum.at(best, known.question, confidence)
    return best


def _threshold(known: Examples, confidence: Array) -> float:
    """The lowest threshold that refuses REFUSED of the absent questions: a higher one only loses more."""
    absent = np.sort(_best_by_question(known, confidence)[known.absent])
    if not len(absent):
        return 0.5
    needed = int(np.ceil(REFUSED * len(absent)))
    # Rounded up, so that the highest refused one stays below it.
    return float(np.clip((np.floor(absent[needed - 1] * 1000) + 1) / 1000, 0.001, 0.999))


def _cross_validated(known: Examples) -> Array:
    """The confidence of every hit by a model that saw no question of its group."""
    names = sorted(set(known.groups))
    fold_of = dict(zip(names, np.random.default_rng(_SEED).permutation(len(names)) % _FOLDS, strict=True))
    folds = np.asarray([fold_of[known.groups[place]] for place in known.question])
    found = np.zeros(len(known.right))
    for fold in set(folds.tolist()):
        out = folds == fold
        if out.all():
            raise Invalid("the train part has one group of questions", todo="add questions to it")
        found[out] = fit(known.features[~out], known.right[~out], known.names).confidence(known.features[out])
    return found


def _at(known: Examples, confidence: Array, threshold: float) -> tuple[float, float]:
    sure = _best_by_question(known, confidence) >= threshold
    answered = np.zeros(len(known.absent))
    np.maximum.at(answered, known.question, known.right)
    present = ~known.absent
    refused = float((~sure)[known.absent].mean()) if known.absent.any() else float("nan")
    lost = float((answered[present] * ~sure[present]).mean()) if present.any() else float("nan")
    return refused, lost


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m evals.calibrate`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--feature", action="append", metavar="NAME", help=f"default: {', '.join(USED)}")
    asked = parser.parse_args(arguments)
    try:
        print(write_calibration(asked.run, asked.out, asked.feature or USED))
    except WatchwordError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def write_calibration(folder: Path, out: Path, only: Sequence[str] = USED) -> str:
    """Calibrate on the run in `folder` and write the file for a bundle; returns the words for people."""
    found = calibrate(read_run(folder), only)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found.plain(), indent=1) + "\n", encoding="utf-8")
    return words_of(found)


if __name__ == "__main__":
    sys.exit(main())
