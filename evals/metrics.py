"""The metrics. Pure numpy; what counts as right is said in evals/judging.py.

Per question, over its hits in order. A further right hit that answers only spans which an earlier hit answered is left
out first: one event told as three moments is no error, and earns nothing either.

    R@k       1 if a right hit is among the first k, else 0
    spans@k   the share of the relevant spans that the first k hits answer
    AP        average precision: at each right hit the share of right hits up to it, times the spans that it answers,
              over all relevant spans
    nDCG@k    discounted cumulative gain, gain 1 for each span, over the best possible
    R1@IoU    1 if the first hit's span has at least this temporal IoU with a relevant span

Over questions: the mean of these, and

    AUC       the chance that a question whose answer is there has a higher top confidence (or score) than an absent one
    ECE       expected calibration error: hits in ten bins of equal width by confidence, the mean distance of confidence
              and share of right hits, weighted by hits
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BINS = 10


def gains(matches: Sequence[frozenset[int]]) -> list[int]:
    """How many spans each hit answers first; hits that only repeat are left out."""
    known: set[int] = set()
    found = []
    for match in matches:
        new = match - known
        if new or not match:
            found.append(len(new))
        known |= match
    return found


def hit_at(gained: Sequence[int], k: int) -> float:
    """R@k."""
    return float(any(gained[:k]))


def spans_at(gained: Sequence[int], relevant: int, k: int) -> float:
    """The share of relevant spans within the first k."""
    return sum(gained[:k]) / relevant


def average_precision(gained: Sequence[int], relevant: int) -> float:
    """AP over all hits that were given."""
    right = np.cumsum(np.asarray(gained) > 0)
    ranks = np.arange(1, len(gained) + 1)
    return float(np.sum(np.asarray(gained) * right / ranks) / relevant) if len(gained) else 0.0


def ndcg_at(gained: Sequence[int], relevant: int, k: int) -> float:
    """nDCG@k. A hit that answers several spans at once has the gain of all of them; the value is at most 1."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    first = np.asarray(gained[:k], np.float64)
    best = float(discounts[: min(relevant, k)].sum())
    return min(1.0, float(first @ discounts[: len(first)]) / best)


def auc(present: Array, absent: Array) -> float:
    """The chance that a value of `present` is above one of `absent`; ties count half. NaN without values."""
    if not len(present) or not len(absent):
        return float("nan")
    ordered = np.sort(absent)
    below, up_to = np.searchsorted(ordered, present, "left"), np.searchsorted(ordered, present, "right")
    return float((below + up_to).sum() / (2 * len(present) * len(absent)))


@dataclass(frozen=True, slots=True)
class Bin:
    """The hits of one range of confidence."""

    low: float
    high: float
    hits: int
    confidence: float
    """Their mean; NaN without hits."""
    right: float
    """The share of right ones; NaN without hits."""


def reliability(confidence: Array, right: Array) -> list[Bin]:
    """The reliability table: what hits of each confidence are worth."""
    counts, told, true = _binned(confidence, right)
    edges = np.linspace(0, 1, BINS + 1)
    return [
        Bin(
            float(edges[place]),
            float(edges[place + 1]),
            int(counts[place]),
            float(told[place] / counts[place]) if counts[place] else float("nan"),
            float(true[place] / counts[place]) if counts[place] else float("nan"),
        )
        for place in range(BINS)
    ]


def ece(confidence: Array, right: Array) -> float:
    """Expected calibration error; NaN without hits."""
    counts, told, true = _binned(confidence, right)
    return float(np.abs(told - true).sum() / counts.sum()) if counts.sum() else float("nan")


def ann_recall(found: Sequence[Sequence[Hashable]], exact: Sequence[Sequence[Hashable]], k: int) -> float:
    """The mean share of an exact search's first k that the index's first k hold. Both are lists of ids, by question."""
    shares = [
        len(set(one[:k]) & set(true[:k])) / min(k, len(true)) for one, true in zip(found, exact, strict=True) if true
    ]
    return float(np.mean(shares)) if shares else float("nan")


def _binned(confidence: Array, right: Array) -> tuple[Array, Array, Array]:
    """Per bin: hits, their confidences added up, and how many are right."""
    places = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS).astype(np.float64)
    told = np.bincount(places, weights=confidence, minlength=BINS).astype(np.float64)
    true = np.bincount(places, weights=right, minlength=BINS).astype(np.float64)
    return counts, told, true
