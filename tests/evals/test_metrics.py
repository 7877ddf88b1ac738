from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, R, Success, nDCG

from evals.metrics import ann_recall, auc, average_precision, ece, gains, hit_at, ndcg_at, reliability, spans_at


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[int], int]:
    """The hits of one question, 1 for a right one, and how many spans are relevant."""
    right = draw(st.lists(st.integers(0, 1), max_size=20))
    return right, draw(st.integers(max(1, sum(right)), 25))


@given(st.lists(answers(), min_size=1, max_size=8))
def test_the_metrics_agree_with_ir_measures_on_random_answers(questions: list[tuple[list[int], int]]) -> None:
    qrels, run = [], []
    for number, (right, relevant) in enumerate(questions):
        spans = iter(range(relevant))
        for place, one in enumerate(right):
            name = f"span{next(spans)}" if one else f"other{place}"
            run.append(ir_measures.ScoredDoc(str(number), name, float(-place)))
        qrels += [ir_measures.Qrel(str(number), f"span{place}", 1) for place in range(relevant)]
    wanted = {
        Success @ 1: "R@1",
        Success @ 5: "R@5",
        Success @ 10: "R@10",
        R @ 10: "spans@10",
        AP: "AP",
        nDCG @ 10: "nDCG",
    }
    found: dict[str, dict[str, float]] = {}
    for metric in ir_measures.iter_calc(list(wanted), qrels, run):
        found.setdefault(metric.query_id, {})[wanted[metric.measure]] = metric.value
    for number, (right, relevant) in enumerate(questions):
        ours = {
            "R@1": hit_at(right, 1),
            "R@5": hit_at(right, 5),
            "R@10": hit_at(right, 10),
            "spans@10": spans_at(right, relevant, 10),
            "AP": average_precision(right, relevant),
            "nDCG": ndcg_at(right, relevant, 10),
        }
        # A question without hits is no query of a run there; here it counts as nothing found.
        assert ours == pytest.approx(found.get(str(number), dict.fromkeys(ours, 0.0)))


def test_a_hit_that_only_repeats_is_left_out_and_one_that_joins_spans_has_them_all() -> None:
    first, second = frozenset({0}), frozenset({0, 1, 2})
    assert gains([first, frozenset(), first, second]) == [1, 0, 2]
    assert average_precision([1, 0, 2], 3) == pytest.approx((1 + 2 * 2 / 3) / 3)
    assert ndcg_at([3], 3, 10) == 1


def test_auc_is_the_chance_of_the_right_order_and_ties_are_half() -> None:
    assert auc(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1
    assert auc(np.array([0.5]), np.array([0.5, 0.1])) == 0.75
    assert np.isnan(auc(np.array([0.5]), np.array([])))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
def test_auc_equals_the_count_of_all_pairs(present: list[int], absent: list[int]) -> None:
    pairs = [1.0 if one > other else 0.5 if one == other else 0.0 for one in present for other in absent]
    assert auc(np.array(present, float), np.array(absent, float)) == pytest.approx(np.mean(pairs))


def test_calibration_error_is_nothing_where_confidence_means_what_it_says() -> None:
    confidence = np.repeat([0.05, 0.95], 100)
    right = np.concatenate([np.arange(100) < 5, np.arange(100) < 95]).astype(float)
    assert ece(confidence, right) == pytest.approx(0)
    assert ece(confidence, 1 - right) == pytest.approx(0.9)


def test_the_reliability_table_has_ten_bins_and_counts_every_hit_once() -> None:
    bins = reliability(np.array([0.0, 0.1, 0.95, 1.0]), np.array([0.0, 1.0, 1.0, 0.0]))
    assert [one.hits for one in bins] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins[9].confidence == pytest.approx(0.975)
    assert bins[9].right == 0.5


def test_recall_against_exact_search_counts_what_the_index_holds_of_the_true_first() -> None:
    assert ann_recall([["a", "b"], ["c"]], [["b", "x"], ["c", "d"]], 2) == pytest.approx(0.5)
    assert ann_recall([["a"]], [["a"]], 10) == 1
