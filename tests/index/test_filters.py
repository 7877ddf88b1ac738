"""Nothing gets into a filter expression that was not checked and quoted."""

from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.filters import Filter, expression, ids_filter, overlapping
from proto.errors import Invalid
from proto.types import CAMERA_NAME, MOMENT_ID

NAMES = st.from_regex(CAMERA_NAME, fullmatch=True)
TIMES = st.none() | st.integers(0, 2**53)
WHOLE = re.compile(
    r"(camera in (?P<names>\[.*\]))?( and )?(end_ms >= (?P<ends>\d+))?( and )?"
    r"(start_ms >= (?P<first>\d+))?( and )?(start_ms < (?P<before>\d+))?"
)


@given(st.none() | st.frozensets(NAMES, min_size=1), TIMES, TIMES, TIMES)
def test_an_expression_says_exactly_the_names_and_times_of_its_filter(
    cameras: frozenset[str] | None, ends_from: int | None, starts_from: int | None, starts_before: int | None
) -> None:
    parts = WHOLE.fullmatch(expression(Filter(cameras, ends_from, starts_from, starts_before)))
    assert parts
    assert (None if parts["names"] is None else set(ast.literal_eval(parts["names"]))) == cameras
    times = [None if t is None else str(t) for t in (ends_from, starts_from, starts_before)]
    assert [parts["ends"], parts["first"], parts["before"]] == times


@given(st.text() | st.text(alphabet="abz019._-\"\\ \n'[](),=<>", max_size=12))
def test_any_text_is_either_refused_or_one_quoted_name(text: str) -> None:
    try:
        said = expression(Filter(frozenset({text})))
    except Invalid:
        assert not CAMERA_NAME.fullmatch(text)
        return
    assert ast.literal_eval(said.removeprefix("camera in ")) == [text]


@given(st.text() | st.text(alphabet='0123456789abcdef"', min_size=30, max_size=34))
def test_any_text_is_either_refused_or_one_quoted_id(text: str) -> None:
    try:
        said = ids_filter([text])
    except Invalid:
        assert not MOMENT_ID.fullmatch(text)
        return
    assert ast.literal_eval(said.removeprefix("id in ")) == [text]


@given(st.integers().filter(lambda n: not 0 <= n <= 2**53))
def test_a_number_that_is_no_time_is_refused(number: int) -> None:
    with pytest.raises(Invalid):
        Filter(ends_from=number)
    with pytest.raises(Invalid):
        Filter(starts_from=number)
    with pytest.raises(Invalid):
        Filter(starts_before=number)


def test_no_filter_is_an_empty_text() -> None:
    assert expression(Filter()) == ""


def test_a_filter_that_nothing_can_pass_is_never_made() -> None:
    with pytest.raises(ValueError, match="nothing can pass"):
        overlapping(frozenset(), None, None)
