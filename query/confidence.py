"""How unusual a hit's score is: the features that its confidence is computed from. Pure.

A score is judged from two sides. Against other moments: how do the moments of this camera, and of all cameras, score
that were sampled whatever people ask? Against other texts: how do everyday texts score on the same row? And against
chance: how many hits as good as this one would be expected among so many moments if none of them were meant (the
E-value, as BLAST computes it for sequences)?

The score of a moment is the best of its rows, a maximum, so scores of unrelated moments are taken as Gumbel
distributed. It is fitted to the lower half of the sample: the upper half may hold moments that are meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.store import Scored
from proto.types import Vector, Vectors

FEATURES = ("z_camera", "z_pool", "log10_e", "z_words", "score", "object", "agrees")
"""In this order:

z_camera  the score against the camera's own sample, in standard deviations
z_pool    the score against the sample of all cameras
log10_e   how many hits as good chance would give among the moments searched, by the camera's sample; decimal logarithm
z_words   the row against everyday texts: how much better the question fits it than they do; 0 when unknown
score     the cosine
object    1 when the row is an object's
agrees    how well the object's kind fits the question, among all kinds; 0 without a kind
"""

Numbers = NDArray[np.float64]

_EULER = 0.5772156649015329
_MEDIAN = -float(np.log(np.log(2.0)))
_LOWER = 0.9078349914
"""Root mean square distance to the median of the lower half of a standard Gumbel distribution."""
_DEVIATION = float(np.pi / np.sqrt(6.0))
"""Standard deviation of a standard Gumbel distribution."""
_SHRINK = 8.0
"""What a camera is usually like counts as much as this many moments sampled of it."""
_WIDE = 0.15
"""A deviation of cosines that is too large for most spaces: a sample of few moments promises little."""
_LEAST_SHARE, _LEAST = 0.25, 0.005
"""A camera that always shows the same has a deviation of no less: a share of the pool's, and a cosine."""
_RELATED = 0.05
"""The share of the bank's texts nearest to the question, which are left out: they may mean the same."""
_MOST_Z, _MOST_LOG = 50.0, 300.0


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows of sampled moments, moment after moment."""

    rows: Vectors
    starts: NDArray[np.intp]
    """The first row of each moment."""
    middle: Vector
    """The mean row."""

    @classmethod
    def of(cls, moments: Sequence[Vectors]) -> Sample | None:
        """The sample of these moments, each with its rows; None when there are none."""
        moments = [rows for rows in moments if len(rows)]
        if not moments:
            return None
        starts = np.cumsum([0] + [len(rows) for rows in moments[:-1]])
        rows = np.concatenate(moments)
        return cls(rows, starts.astype(np.intp), rows.mean(axis=0))

    def scores(self, question: Vector) -> Numbers:
        """The score of each moment: the best of its rows."""
        best: Numbers = np.maximum.reduceat(self.rows @ question, self.starts).astype(np.float64)
        return best


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Texts to compare a question with."""

    bank: Vectors
    """Vectors of everyday texts."""
    kinds: Mapping[str, Vector] = field(default_factory=dict)
    """Vectors of the kinds of objects."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What scores are judged by. Each part may be missing."""

    pool: Sample | None = None
    """Moments of all cameras."""
    cameras: Mapping[str, Sample] = field(default_factory=dict)
    """Moments of one camera."""
    words: Words | None = None


class Features(NamedTuple):
    """The features of hits."""

    values: dict[str, Numbers]
    """By name, one number a hit."""
    spread: float
    """The deviation of unrelated scores of this question: two scores that differ by less say the same."""


class _Usual(NamedTuple):
    """Mean and deviation of unrelated scores, by hit, and whether anything is known about them."""

    mean: Numbers
    deviation: Numbers
    known: bool


def features_of(
    hits: Sequence[Scored], question: Vector, moments_searched: int, known: Known, *, by_words: bool = True
) -> Features:
    """The features of each hit. They do not depend on the other hits.

    Where a hit has no vector, texts are left out for all. `by_words` is False when the question is a picture: texts
    tell nothing about it.
    """
    scores = np.array([hit.score for hit in hits], np.float64)
    rows = _rows(hits, len(question))
    words = known.words if by_words and rows is not None else None
    pool = _of_pool(rows, question, known.pool, words, len(hits))
    camera = _of_cameras(hits, question, known.cameras, pool)
    values = {
        "z_camera": _z(scores, camera),
        "z_pool": _z(scores, pool),
        "log10_e": np.log10(max(1, moments_searched)) + _log10_by_chance(scores, camera),
        "z_words": np.zeros(len(hits)) if words is None or rows is None else _z_words(rows, question, words, known),
        "score": scores,
        "object": np.array([bool(hit.kind) for hit in hits], np.float64),
        "agrees": _agreement(hits, question, words),
    }
    return Features(values, float(pool.deviation.min()) if len(hits) else 0.0)


def _rows(hits: Sequence[Scored], dimension: int) -> Vectors | None:
    """The rows' vectors; None when one of them is not known."""
    vectors = [hit.vector for hit in hits if hit.vector is not None]
    if len(vectors) < len(hits):
        return None
    return np.stack(vectors) if vectors else np.zeros((0, dimension), np.float32)


def _of_pool(rows: Vectors | None, question: Vector, pool: Sample | None, words: Words | None, count: int) -> _Usual:
    """What is usual over all cameras. Without a sample of them: what other texts score on the same row."""
    if pool is None and words is not None and rows is not None:
        others = rows @ _unrelated(question, words.bank).T
        return _Usual(others.mean(axis=1, dtype=np.float64), others.std(axis=1, dtype=np.float64), known=True)
    wide = _Usual(np.zeros(count), np.full(count, _WIDE), known=False)
    return wide if pool is None else _shrunk(pool.scores(question), wide)


def _of_cameras(hits: Sequence[Scored], question: Vector, cameras: Mapping[str, Sample], pool: _Usual) -> _Usual:
    mean, deviation, known = pool.mean.copy(), pool.deviation.copy(), pool.known
    for camera in {hit.span.camera for hit in hits} & cameras.keys():
        at = np.array([hit.span.camera == camera for hit in hits])
        usual = _shrunk(cameras[camera].scores(question), _Usual(pool.mean[at], pool.deviation[at], pool.known))
        mean[at], deviation[at] = usual.mean, usual.deviation
        known = True
    return _Usual(mean, np.maximum(deviation, _LEAST_SHARE * pool.deviation), known)


def _shrunk(scores: Numbers, prior: _Usual) -> _Usual:
    """What is usual by these scores, shrunk towards what was known before: the more, the fewer they are."""
    median = float(np.median(scores))
    lower = scores[scores <= median]
    scale = float(np.sqrt(np.mean((median - lower) ** 2))) / _LOWER
    mean, variance = median + (_EULER - _MEDIAN) * scale, (_DEVIATION * scale) ** 2
    share = len(scores) / (len(scores) + _SHRINK)
    return _Usual(
        share * mean + (1 - share) * prior.mean if prior.known else np.full_like(prior.mean, mean),
        np.sqrt(share * variance + (1 - share) * prior.deviation**2),
        known=True,
    )


def _z(scores: Numbers, usual: _Usual) -> Numbers:
    if not usual.known:
        return np.zeros_like(scores)
    z: Numbers = np.clip((scores - usual.mean) / np.maximum(usual.deviation, _LEAST), -_MOST_Z, _MOST_Z)
    return z


def _log10_by_chance(scores: Numbers, usual: _Usual) -> Numbers:
    """log10 of the probability that an unrelated moment scores at least this; 0 when nothing is known."""
    if not usual.known:
        return np.zeros_like(scores)
    y = _z(scores, usual) * _DEVIATION + _EULER
    tail: Numbers = np.log10(-np.expm1(-np.exp(-np.clip(y, -_MOST_LOG, _MOST_LOG))))
    return tail


def _z_words(rows: Vectors, question: Vector, words: Words, known: Known) -> Numbers:
    """How much better the question fits each row than everyday texts do, in their standard deviations.

    What texts score on every row alike says nothing, so the mean row of the pool is taken out of each row.
    """
    centred = rows if known.pool is None else rows - known.pool.middle
    others = centred @ _unrelated(question, words.bank).T
    deviation = np.maximum(others.std(axis=1, dtype=np.float64), _LEAST)
    z: Numbers = np.clip((centred @ question - others.mean(axis=1, dtype=np.float64)) / deviation, -_MOST_Z, _MOST_Z)
    return z


def _unrelated(question: Vector, bank: Vectors) -> Vectors:
    """The texts of the bank without those nearest to the question."""
    related = min(int(np.ceil(_RELATED * len(bank))), len(bank) - 1)
    return bank[np.argsort(bank @ question, kind="stable")[: len(bank) - related]]


def _agreement(hits: Sequence[Scored], question: Vector, words: Words | None) -> Numbers:
    """How well the kind of the hit's object fits the question, among all kinds, in standard deviations."""
    if words is None or len(words.kinds) < 2:
        return np.zeros(len(hits))
    fits = np.stack(list(words.kinds.values())) @ question
    unusual = np.clip((fits - fits.mean()) / max(float(fits.std()), _LEAST), -_MOST_Z, _MOST_Z)
    of_kind = dict(zip(words.kinds, unusual, strict=True))
    return np.array([of_kind.get(hit.kind, 0.0) for hit in hits], np.float64)
