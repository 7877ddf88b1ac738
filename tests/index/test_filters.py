"""Nothing gets into a filter expression that was not checked and quoted."""

from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.filters import ids_filter, moments_filter
from proto.errors import Invalid
from proto.types import CAMERA_NAME, MOMENT_ID

NAMES = st.from_regex(CAMERA_NAME, fullmatch=True)
TIMES = st.none() | st.integers(0, 2**53)
WHOLE = re.compile(
    r"(camera in (?P<names>\[.*\]))?( and )?(end_ms >= (?P<start>\d+))?( and )?(start_ms < (?P<end>\d+))?"
)


@given(st.none() | st.frozensets(NAMES, min_size=1), TIMES, TIMES)
def test_a_filter_says_exactly_the_names_and_times_it_was_given(
    cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None
) -> None:
    parts = WHOLE.fullmatch(moments_filter(cameras, start_ms, end_ms))
    assert parts
    assert (None if parts["names"] is None else set(ast.literal_eval(parts["names"]))) == cameras
    assert (parts["start"], parts["end"]) == tuple(None if t is None else str(t) for t in (start_ms, end_ms))


@given(st.text() | st.text(alphabet="abz019._-\"\\ \n'[](),=<>", max_size=12))
def test_any_text_is_either_refused_or_one_quoted_name(text: str) -> None:
    try:
        expression = moments_filter(frozenset({text}), None, None)
    except Invalid:
        assert not CAMERA_NAME.fullmatch(text)
        return
    assert ast.literal_eval(expression.removeprefix("camera in ")) == [text]


@given(st.text() | st.text(alphabet='0123456789abcdef"', min_size=30, max_size=34))
def test_any_text_is_either_refused_or_one_quoted_id(text: str) -> None:
    try:
        expression = ids_filter([text])
    except Invalid:
        assert not MOMENT_ID.fullmatch(text)
        return
    assert ast.literal_eval(expression.removeprefix("id in ")) == [text]


@given(st.integers().filter(lambda n: not 0 <= n <= 2**53))
def test_a_number_that_is_no_time_is_refused(number: int) -> None:
    with pytest.raises(Invalid):
        moments_filter(None, number, None)
    with pytest.raises(Invalid):
        moments_filter(None, None, number)


def test_no_filter_is_an_empty_text() -> None:
    assert moments_filter(None, None, None) == ""


def test_a_filter_that_nothing_can_pass_is_never_written() -> None:
    with pytest.raises(ValueError, match="nothing can pass"):
        moments_filter(frozenset(), None, None)
