"""A run as a table and as JSON, and two runs compared: overall and by language, size, time of day and kind of thing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table as RichTable

from evals.answers import Run
from evals.dataset import Part, Question, Relevant
from evals.judging import everything
from evals.metrics import Bin, reliability
from evals.statistics import TIMES, Interval, Verdict, compare, interval
from evals.table import FIGURES, Figure, Table, hits_of, stacked, table_of
from proto.errors import Invalid

SIZES: tuple[tuple[str, float, float], ...] = (
    ("under 2 %", 0.0, 0.02),
    ("2 to 5 %", 0.02, 0.05),
    ("over 5 %", 0.05, math.inf),
)
"""Classes of size, by the share of the picture: from, below."""
_RANKED = ("R@1", "R@5", "R@10", "spans@10", "mAP", "nDCG@10", "R1@0.5", "R1@0.7", "boxes")
_SURE = ("AUC by confidence", "AUC by score", "absent refused", "R@10 sure", "R@10 lost")
_ONLY_ALL = frozenset(("AUC by confidence", "AUC by score", "ECE", "ECE of first hits", "absent refused"))
"""Figures that need all questions: a slice by what is relevant has no absent ones of its own."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the questions, under a name."""

    name: str
    wanted: Callable[[Question], bool] = lambda _: True
    kept: Callable[[Relevant], bool] = everything
    by_relevant: bool = False
    """Chosen by relevant spans: absent questions are not in it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A slice of a run, measured."""

    name: str
    questions: int
    groups: int
    figures: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run is worth."""

    title: str
    part: str
    rows: tuple[Row, ...]
    bins: tuple[Bin, ...]
    """The reliability table; empty when the service gives no confidence."""

    def plain(self) -> dict[str, Any]:
        """For JSON; None where there is no value."""
        return {
            "title": self.title,
            "part": self.part,
            "slices": [
                {
                    "name": row.name,
                    "questions": row.questions,
                    "groups": row.groups,
                    "figures": {name: _plain(asdict(one)) for name, one in row.figures.items()},
                }
                for row in self.rows
            ],
            "reliability": [_plain(asdict(one)) for one in self.bins],
        }


def slices_of(run: Run, part: Part | None) -> Iterator[Slice]:
    """All questions, then by language, kind, size and condition, as far as the dataset tells them."""
    asked = [question for question in run.dataset.questions if part in (None, question.part)]
    yield Slice("all")
    languages = sorted({question.language for question in asked})
    if len(languages) > 1:
        for language in languages:
            yield Slice(f"language {language}", wanted=partial(_has_language, language))
    for what in sorted({question.what for question in asked if question.what}):
        yield Slice(f"of a {what}", wanted=partial(_is_of, what))
    spans = [one for question in asked for one in question.relevant]
    for name, low, high in SIZES:
        if any(_within(low, high, one) for one in spans):
            yield Slice(name, kept=partial(_within, low, high), by_relevant=True)
    for condition in sorted({_condition(run, one) for one in spans} - {""}):
        yield Slice(condition, kept=partial(_in_condition, run, condition), by_relevant=True)


def report_of(run: Run, part: Part | None, *, times: int = TIMES) -> Report:
    """Measure the run. Invalid when it has no question of this part."""
    rows = []
    bins: list[Bin] = []
    for one in slices_of(run, part):
        table = _table(run, part, one)
        if one.name == "all":
            if not len(table):
                raise Invalid(f"the run has no question of the {part} part", todo="give another --part")
            if run.has_confidence:
                bins = reliability(*hits_of(table, np.arange(len(table), dtype=np.int64)))
        if len(table):
            rows.append(_row(run, one, table, times))
    return Report(_title(run), part or "all", tuple(rows), tuple(bins))


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one slice, in two runs."""

    slice: str
    figure: str
    questions: int
    verdict: Verdict


def compare_runs(before: Run, after: Run, part: Part | None, *, times: int = TIMES) -> list[Compared]:
    """Compare two runs over the questions that both answered. Invalid when these are none, or are not the same."""
    shared = _shared(before, after, part)
    found = []
    for one in slices_of(after, part):
        first, second = _table(before, part, one, shared), _table(after, part, one, shared)
        if not len(first) or first.qids != second.qids:
            continue
        stack = stacked(first, second)
        for figure in _told_of(one, before.has_confidence and after.has_confidence):
            verdict = compare(
                figure.of(stack), first.groups, higher_is_better=figure.higher_is_better, times=times
            )  # fmt: skip
            if not math.isnan(verdict.difference):
                found.append(Compared(one.name, figure.name, len(first), verdict))
    return found


def show(report: Report) -> Group:
    """The report for people."""
    parts: list[Any] = [f"{report.title}, {report.part} part; 95 % intervals over groups of questions", _ranked(report)]
    told = report.rows[0].figures
    sure = [name for name in _SURE if name in told and not math.isnan(told[name].value)]
    if "AUC by confidence" not in sure:
        parts.append("The service gives no confidence: nothing is said about how sure it is.")
    sure += [name for name in ("ECE", "ECE of first hits") if name in told]
    parts += [f"  {name:<20} {_words(told[name])}" for name in sure]
    if report.bins:
        parts.append(_reliability(report.bins))
    return Group(*parts)


def show_compared(found: Sequence[Compared]) -> RichTable:
    """A comparison for people."""
    table = RichTable(box=None, pad_edge=False)
    for heading in ("questions", "figure", "n", "before", "after", "difference", "p", ""):
        table.add_column(heading, justify="left" if heading in ("questions", "figure", "") else "right", no_wrap=True)
    last = ""
    for one in found:
        verdict = one.verdict
        difference = f"{verdict.difference:+.3f} [{verdict.low:+.3f}, {verdict.high:+.3f}]"
        colour = {"better": "green", "worse": "red"}.get(verdict.words, "dim")
        table.add_row(
            one.slice if one.slice != last else "",
            one.figure,
            str(one.questions) if one.slice != last else "",
            f"{verdict.before:.3f}",
            f"{verdict.after:.3f}",
            difference,
            f"{verdict.p:.3f}",
            f"[{colour}]{verdict.words}[/]",
        )
        last = one.slice
    return table


def compared_plain(found: Sequence[Compared]) -> list[dict[str, Any]]:
    """A comparison for JSON."""
    return [
        {
            "slice": one.slice,
            "figure": one.figure,
            "questions": one.questions,
            "before": _rounded(one.verdict.before),
            "after": _rounded(one.verdict.after),
            "difference": _rounded(one.verdict.difference),
            "low": _rounded(one.verdict.low),
            "high": _rounded(one.verdict.high),
            "p": _rounded(one.verdict.p),
            "verdict": one.verdict.words,
        }
        for one in found
    ]


def _table(run: Run, part: Part | None, one: Slice, shared: frozenset[str] | None = None) -> Table:
    """The slice of a run; of the `shared` questions only, if given."""

    def wanted(question: Question) -> bool:
        if shared is not None and question.qid not in shared:
            return False
        return one.wanted(question) and not (one.by_relevant and question.absent)

    return table_of(run, part, wanted=wanted, kept=one.kept)


def _row(run: Run, one: Slice, table: Table, times: int) -> Row:
    figures = {
        figure.name: interval(figure.of(table), table.groups, times) for figure in _told_of(one, run.has_confidence)
    }
    return Row(one.name, len(table), len(set(table.groups)), figures)


def _told_of(one: Slice, has_confidence: bool) -> list[Figure]:
    return [
        figure
        for figure in FIGURES
        if (has_confidence or not figure.needs_confidence) and not (one.by_relevant and figure.name in _ONLY_ALL)
    ]


def _shared(before: Run, after: Run, part: Part | None) -> frozenset[str]:
    old = {question.qid: question for question in before.dataset.questions}
    shared = [
        question
        for question in after.dataset.questions
        if question.qid in old and part in (None, question.part)
    ]  # fmt: skip
    if not shared:
        raise Invalid("the runs have no question in common", todo="run `watchword eval run` on one dataset twice")
    for question in shared:
        other = old[question.qid]
        if (question.query, question.relevant, question.videos) != (other.query, other.relevant, other.videos):
            raise Invalid(
                f"question {question.qid} is not the same in both runs", todo="run both on one state of the dataset"
            )
    return frozenset(question.qid for question in shared)


def _has_language(language: str, question: Question) -> bool:
    return question.language == language


def _is_of(what: str, question: Question) -> bool:
    return question.what == what


def _within(low: float, high: float, one: Relevant) -> bool:
    return one.share is not None and low <= one.share < high


def _in_condition(run: Run, condition: str, one: Relevant) -> bool:
    return _condition(run, one) == condition


def _condition(run: Run, one: Relevant) -> str:
    return one.condition or run.dataset.videos[one.video].condition


def _title(run: Run) -> str:
    about = run.about
    told = [f"{key} {about[key]}" for key in ("bundle", "space", "commit", "cpu") if about.get(key)]
    return ", ".join([run.dataset.name, *told])


def _ranked(report: Report) -> RichTable:
    table = RichTable(box=None, pad_edge=False)
    table.add_column("questions", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    names = [name for name in _RANKED if any(not math.isnan(row.figures[name].value) for row in report.rows)]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(row.name, str(row.questions), *(_words(row.figures[name], short=True) for name in names))
    return table


def _reliability(bins: Sequence[Bin]) -> RichTable:
    table = RichTable(box=None, pad_edge=False)
    for heading in ("confidence", "hits", "mean", "right"):
        table.add_column(heading, justify="right")
    for one in bins:
        if one.hits:
            table.add_row(
                f"{one.low:.1f} to {one.high:.1f}", f"{one.hits}", f"{one.confidence:.2f}", f"{one.right:.2f}"
            )
    return table


def _words(one: Interval, *, short: bool = False) -> str:
    if math.isnan(one.value):
        return "-"
    if short:
        return f"{one.value:.2f} {one.low:.2f}-{one.high:.2f}"
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _rounded(value) for key, value in values.items()}


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else round(value, 6)
