from __future__ import annotations

import numpy as np

from evals.statistics import Rows, compare, interval


def mean_of(values: np.ndarray) -> object:
    return lambda rows: float(values[rows].mean())


def test_an_interval_holds_its_value_and_is_the_same_every_time() -> None:
    values = np.random.default_rng(1).random(60)
    groups = [str(number) for number in range(60)]

    def measure(rows: Rows) -> float:
        return float(values[rows].mean())

    first, again = interval(measure, groups), interval(measure, groups)
    assert first == again
    assert first.low < first.value < first.high
    assert 0.1 < first.high - first.low < 0.2


def test_translations_of_one_question_are_no_independent_evidence() -> None:
    values = np.repeat(np.random.default_rng(1).random(20), 4)
    apart = [str(number) for number in range(80)]
    together = [str(number // 4) for number in range(80)]

    def measure(rows: Rows) -> float:
        return float(values[rows].mean())

    by_group, by_question = interval(measure, together), interval(measure, apart)
    assert by_group.high - by_group.low > 1.5 * (by_question.high - by_question.low)


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(2)
    groups = [str(number) for number in range(40)]
    held = 0
    for _ in range(100):
        values = chance.random(40)
        found = interval(lambda rows, values=values: float(values[rows].mean()), groups, times=200)  # type: ignore[misc]
        held += found.low <= 0.5 <= found.high
    assert 85 <= held <= 100


def both(
    before: np.ndarray, after: np.ndarray, *, higher_is_better: bool = True, groups: list[str] | None = None
) -> str:
    stacked = np.concatenate([before, after])
    names = groups or [str(number) for number in range(len(before))]
    verdict = compare(lambda rows: float(stacked[rows].mean()), names, higher_is_better=higher_is_better)
    return verdict.words


def test_a_clear_difference_is_better_or_worse_by_what_the_figure_means() -> None:
    before = np.random.default_rng(3).random(40)
    assert both(before, before + 0.1) == "better"
    assert both(before, before - 0.1) == "worse"
    assert both(before, before + 0.1, higher_is_better=False) == "worse"


def test_no_difference_is_seen_between_a_run_and_itself_or_noise() -> None:
    chance = np.random.default_rng(4)
    before = chance.random(40)
    assert both(before, before) == "no difference seen"
    assert both(before, before + chance.normal(0, 0.3, 40)) == "no difference seen"


def test_four_translations_of_three_questions_prove_nothing() -> None:
    before = np.zeros(12)
    assert both(before, before + 0.5, groups=[str(number // 4) for number in range(12)]) == "no difference seen"
    assert both(before, before + 0.5) == "better"
