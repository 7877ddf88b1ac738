"""How much a figure may be chance. Pure numpy; every seed is fixed, so the same run gives the same interval.

The unit is the group of questions: translations of one question are no independent evidence. An interval is the
percentile bootstrap over groups. Two runs are compared question by question: their difference has a paired bootstrap
interval, and its p is that of a permutation test that swaps the two runs' answers, group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Places of questions. A question may be in them several times."""
Measure = Callable[[Rows], float]
"""A figure computed from these questions; NaN when they do not suffice."""

SEED = 20_260_501
TIMES = 1000
LEVEL = 0.95
_SURE = 0.05


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and the interval that holds it with 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two runs compared by one figure."""

    before: float
    after: float
    low: float
    """The 95 % interval of the difference."""
    high: float
    p: float
    words: str
    """"better", "worse" or "no difference seen"."""

    @property
    def difference(self) -> float:
        return self.after - self.before


def interval(measure: Measure, groups: Sequence[str], times: int = TIMES) -> Interval:
    """The figure over all questions, and its bootstrap interval. `groups` names the group of each question."""
    value = measure(np.arange(len(groups), dtype=np.int64))
    low, high = _between([measure(rows) for rows in _resamples(tuple(groups), times)])
    return Interval(value, low, high)


def compare(measure: Measure, groups: Sequence[str], *, higher_is_better: bool = True, times: int = TIMES) -> Verdict:
    """Compare two runs over the same questions.

    `measure` knows the questions of both runs: place i is question i as the first run answered it, and place
    i + len(groups) the same question as the second one did.
    """
    count = len(groups)
    everything = np.arange(count, dtype=np.int64)

    def difference(rows: Rows, other: Rows) -> float:
        return measure(other) - measure(rows)

    old, new = measure(everything), measure(everything + count)
    low, high = _between([difference(rows, rows + count) for rows in _resamples(tuple(groups), times)])
    by_chance = []
    for rows in _swaps(tuple(groups), times):
        first = everything.copy()
        first[rows] += count
        by_chance.append(difference(first, (first + count) % (2 * count)))
    known = [one for one in by_chance if not np.isnan(one)]
    p = float("nan")
    if known and not np.isnan(new - old):
        p = (1 + sum(abs(one) >= abs(new - old) - 1e-12 for one in known)) / (1 + len(known))
    words = "no difference seen"
    if p < _SURE:
        words = "better" if (new > old) == higher_is_better else "worse"
    return Verdict(old, new, low, high, p, words)


def _members(groups: Sequence[str]) -> list[Rows]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(groups):
        places.setdefault(name, []).append(place)
    return [np.asarray(one, np.int64) for one in places.values()]


@lru_cache(maxsize=2)
def _resamples(groups: tuple[str, ...], times: int) -> list[Rows]:
    """So many samples of groups, drawn with replacement, as the questions in them. Kept for the next figure."""
    members, chance = _members(groups), np.random.default_rng(SEED)
    drawn = chance.integers(0, len(members), (times, len(members))) if members else np.zeros((times, 0), np.int64)
    return [np.concatenate([members[place] for place in one]) if members else np.zeros(0, np.int64) for one in drawn]


@lru_cache(maxsize=2)
def _swaps(groups: tuple[str, ...], times: int) -> list[Rows]:
    """So many choices of groups, each in with chance one half, as the questions in them."""
    members, chance = _members(groups), np.random.default_rng(SEED + 1)
    chosen = chance.random((times, len(members))) < 0.5
    return [
        np.concatenate([np.zeros(0, np.int64), *(members[place] for place in np.flatnonzero(one))]) for one in chosen
    ]


def _between(values: Sequence[float]) -> tuple[float, float]:
    known = np.asarray([value for value in values if not np.isnan(value)])
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
