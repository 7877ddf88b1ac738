"""A run as columns: one row for each question, from which every figure and its interval are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals import metrics
from evals.answers import Answered, Run
from evals.dataset import Part, Question, Relevant
from evals.judging import Judged, everything, judge
from evals.metrics import Array
from evals.statistics import Measure, Rows

CALIBRATED = 10
"""The first so many hits of each question count in the reliability table: those that a reply shows by default."""
_NONE = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Questions and what their answers are worth. NaN where a column says nothing about a question."""

    qids: tuple[str, ...]
    groups: tuple[str, ...]
    columns: Mapping[str, Array]
    """Figures of single questions, whose means are told."""
    absent: Array
    """1 for a question that nothing answers, else 0."""
    top_confidence: Array
    top_score: Array
    confidence: Array
    """Of the first hits, (questions, CALIBRATED)."""
    right: Array
    """1 for a hit that is right, else 0; likewise."""

    def __len__(self) -> int:
        return len(self.qids)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a table."""

    name: str
    measure: Callable[[Table, Rows], float]
    higher_is_better: bool = True
    needs_confidence: bool = False

    def of(self, table: Table) -> Measure:
        """The figure as a function of the questions that count."""
        return lambda rows: self.measure(table, rows)


def table_of(
    run: Run,
    part: Part | None,
    *,
    wanted: Callable[[Question], bool] = lambda _: True,
    kept: Callable[[Relevant], bool] = everything,
) -> Table:
    """The run's questions of a part (None: of both) that are `wanted`, judged by the relevant spans that are `kept`.
    A question without such a span counts only if it is absent."""
    rows = []
    for question in run.dataset.questions:
        if part not in (None, question.part) or not wanted(question):
            continue
        answer = run.answers[question.qid]
        judged = judge(question, answer.hits, run.dataset.videos, kept)
        if question.absent or judged.relevant:
            rows.append((question, answer, judged))
    values = [_values(*row) for row in rows]
    first = [_first_hits(judged) for _, _, judged in rows]
    return Table(
        qids=tuple(question.qid for question, _, _ in rows),
        groups=tuple(question.group for question, _, _ in rows),
        columns={name: np.asarray([one[name] for one in values], np.float64) for name in _COLUMNS},
        absent=np.asarray([float(question.absent) for question, _, _ in rows], np.float64),
        top_confidence=np.asarray([_top([hit.confidence for hit in answer.hits]) for _, answer, _ in rows], np.float64),
        top_score=np.asarray([_top([hit.score for hit in answer.hits], -1.0) for _, answer, _ in rows], np.float64),
        confidence=np.asarray([one[0] for one in first], np.float64).reshape(-1, CALIBRATED),
        right=np.asarray([one[1] for one in first], np.float64).reshape(-1, CALIBRATED),
    )


def stacked(first: Table, second: Table) -> Table:
    """Both tables, one below the other."""
    return Table(
        first.qids + second.qids,
        first.groups + second.groups,
        {name: np.concatenate([values, second.columns[name]]) for name, values in first.columns.items()},
        *(np.concatenate([getattr(first, name), getattr(second, name)]) for name in _ARRAYS),
    )


def hits_of(table: Table, rows: Rows) -> tuple[Array, Array]:
    """The confidence of the questions' first hits, and whether each is right."""
    confidence, right = table.confidence[rows].ravel(), table.right[rows].ravel()
    there = ~np.isnan(confidence)
    return confidence[there], right[there]


def mean_of(name: str) -> Callable[[Table, Rows], float]:
    """The mean of a column over the questions that it says something about."""

    def measure(table: Table, rows: Rows) -> float:
        values = table.columns[name][rows]
        known = values[~np.isnan(values)]
        # Not known.mean(): its overhead is most of the time of a thousand resamples.
        return float(np.add.reduce(known)) / len(known) if len(known) else _NONE

    return measure


def _auc(values: Callable[[Table], Array]) -> Callable[[Table, Rows], float]:
    def measure(table: Table, rows: Rows) -> float:
        told, absent = values(table)[rows], table.absent[rows] > 0
        return metrics.auc(told[~absent], told[absent])

    return measure


def _ece(table: Table, rows: Rows) -> float:
    return metrics.ece(*hits_of(table, rows))


def _ece_first(table: Table, rows: Rows) -> float:
    confidence, right = table.confidence[rows, 0], table.right[rows, 0]
    there = ~np.isnan(confidence)
    return metrics.ece(confidence[there], right[there])


FIGURES = (
    Figure("R@1", mean_of("R@1")),
    Figure("R@5", mean_of("R@5")),
    Figure("R@10", mean_of("R@10")),
    Figure("spans@10", mean_of("spans@10")),
    Figure("mAP", mean_of("mAP")),
    Figure("nDCG@10", mean_of("nDCG@10")),
    Figure("R1@0.5", mean_of("R1@0.5")),
    Figure("R1@0.7", mean_of("R1@0.7")),
    Figure("boxes", mean_of("boxes")),
    Figure("AUC by confidence", _auc(lambda table: table.top_confidence), needs_confidence=True),
    Figure("AUC by score", _auc(lambda table: table.top_score)),
    Figure("ECE", _ece, higher_is_better=False, needs_confidence=True),
    Figure("ECE of first hits", _ece_first, higher_is_better=False, needs_confidence=True),
    Figure("absent refused", mean_of("absent refused"), needs_confidence=True),
    Figure("R@10 sure", mean_of("R@10 sure"), needs_confidence=True),
    Figure("R@10 lost", mean_of("R@10 lost"), higher_is_better=False, needs_confidence=True),
)
"""Every figure of a report, in its order."""

_COLUMNS = (
    *("R@1", "R@5", "R@10", "spans@10", "mAP", "nDCG@10", "R1@0.5", "R1@0.7", "boxes"),
    *("absent refused", "R@10 sure", "R@10 lost"),
)
_ARRAYS = ("absent", "top_confidence", "top_score", "confidence", "right")


def _values(question: Question, answer: Answered, judged: Judged) -> dict[str, float]:
    """The row of one question. "R@10 sure" counts an answer that says `no_confident_match` as no answer."""
    values = dict.fromkeys(_COLUMNS, _NONE)
    if question.absent:
        values["absent refused"] = float(answer.no_confident_match or not answer.hits)
        return values
    gained = metrics.gains(judged.matches)
    found = metrics.hit_at(gained, 10)
    sure = 0.0 if answer.no_confident_match else found
    return values | {
        "R@1": metrics.hit_at(gained, 1),
        "R@5": metrics.hit_at(gained, 5),
        "R@10": found,
        "spans@10": metrics.spans_at(gained, judged.relevant, 10),
        "mAP": metrics.average_precision(gained, judged.relevant),
        "nDCG@10": metrics.ndcg_at(gained, judged.relevant, 10),
        "R1@0.5": float(judged.first_iou >= 0.5),
        "R1@0.7": float(judged.first_iou >= 0.7),
        "boxes": _NONE if judged.box is None else judged.box,
        "R@10 sure": sure,
        "R@10 lost": found - sure,
    }


def _first_hits(judged: Judged) -> tuple[list[float], list[float]]:
    hits = judged.hits[:CALIBRATED]
    blank = [_NONE] * (CALIBRATED - len(hits))
    right = [float(bool(match)) for match in judged.matches[: len(hits)]]
    return [hit.confidence for hit in hits] + blank, right + blank


def _top(values: Sequence[float], otherwise: float = 0.0) -> float:
    return max(values, default=otherwise)
