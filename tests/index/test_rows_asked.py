"""How many rows a search asks for at first."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from index.rows import MOST_ROWS_EACH
from index.rows_asked import RowsAsked


def rows(moments: int, each: int) -> list[str]:
    """The nearest rows, where each moment has so many that are near."""
    return [f"m{number}" for number in range(moments) for _ in range(each)]


def test_it_asks_for_what_was_needed_before_and_a_little_more() -> None:
    asked = RowsAsked()
    for _ in range(200):
        asked.learn(40, rows(40, 1))
    assert 40 < asked.first(40) < 50
    for _ in range(10):  # more is learnt sooner than less
        asked.learn(40, rows(40, 4))
    assert asked.first(40) > 160


def test_answers_with_too_few_moments_teach_nothing() -> None:
    asked = RowsAsked()
    before = asked.first(10)
    for _ in range(100):
        asked.learn(10, rows(9, 1))
    assert asked.first(10) == before


FOUND = st.lists(st.sampled_from("abcdefgh"), max_size=40)


@given(st.lists(st.tuples(st.integers(1, 50), FOUND)), st.integers(1, 3200))
def test_whatever_was_found_it_asks_for_a_row_of_each_and_never_for_more_than_there_can_be(
    before: list[tuple[int, list[str]]], wanted: int
) -> None:
    asked = RowsAsked()
    for moments, found in before:
        asked.learn(moments, found)
    assert wanted <= asked.first(wanted) <= MOST_ROWS_EACH * wanted
    assert isinstance(asked.first(wanted), int) and not math.isnan(asked.first(wanted))
