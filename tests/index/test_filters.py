"""Nothing gets into a filter expression that was not checked and quoted."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.filters import Filter, expression, overlapping, rows_filter
from proto.errors import Invalid
from proto.life import Erased, Gone, Stretch
from proto.types import CAMERA_NAME, KIND, MOMENT_ID

NAMES = st.from_regex(CAMERA_NAME, fullmatch=True)
KINDS = st.frozensets(st.from_regex(KIND, fullmatch=True), max_size=4)
TIMES = st.none() | st.integers(0, 2**53)
WHOLE = re.compile(
    r"(camera in (?P<names>\[[^\]]*\]))?( and )?(end_ms >= (?P<ends>\d+))?( and )?"
    r"(start_ms >= (?P<first>\d+))?( and )?(start_ms < (?P<before>\d+))?"
    r"( and )?(?P<objects>objects.*)?"
)


@given(st.none() | st.frozensets(NAMES, min_size=1, max_size=4), TIMES, TIMES, TIMES, KINDS)
def test_an_expression_says_exactly_the_names_times_and_kinds_of_its_filter(
    cameras: frozenset[str] | None,
    ends_from: int | None,
    starts_from: int | None,
    starts_before: int | None,
    objects: frozenset[str],
) -> None:
    parts = WHOLE.fullmatch(expression(Filter(cameras, ends_from, starts_from, starts_before, objects)))
    assert parts
    assert (None if parts["names"] is None else set(ast.literal_eval(parts["names"]))) == cameras
    times = [None if t is None else str(t) for t in (ends_from, starts_from, starts_before)]
    assert [parts["ends"], parts["first"], parts["before"]] == times
    kinds = [f'objects["{kind}"] > 0' for kind in sorted(objects)]
    assert (parts["objects"] or "") == " and ".join(kinds)


@given(st.text() | st.text(alphabet="abz019._-\"\\ \n'[](),=<>", max_size=12))
def test_any_text_is_either_refused_or_one_quoted_name(text: str) -> None:
    try:
        said = expression(Filter(frozenset({text})))
    except Invalid:
        assert not CAMERA_NAME.fullmatch(text)
        return
    assert ast.literal_eval(said.removeprefix("camera in ")) == [text]


@given(st.text() | st.text(alphabet='az "\\\n]>0', max_size=12))
def test_any_text_is_either_refused_or_one_quoted_kind(text: str) -> None:
    try:
        said = expression(Filter(objects=frozenset({text})))
    except Invalid:
        assert not KIND.fullmatch(text)
        return
    assert KIND.fullmatch(text)
    assert said == f'objects["{text}"] > 0'


@given(st.text() | st.text(alphabet='0123456789abcdef"', min_size=30, max_size=34))
def test_any_text_is_either_refused_or_one_quoted_id(text: str) -> None:
    try:
        said = rows_filter([text])
    except Invalid:
        assert not MOMENT_ID.fullmatch(text)
        return
    assert ast.literal_eval(said.removeprefix("id in ")) == [text, *(f"{text}.{number}" for number in (1, 2, 3, 4))]


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


def test_many_erasures_and_holds_make_no_long_chain_of_conditions() -> None:
    erased = tuple(Erased(Stretch("gate", n * 100, n * 100 + 50), (Stretch("gate", 0, 120),)) for n in range(90))
    held = tuple(Stretch("gate", n * 100, n * 100 + 10) for n in range(60))
    gone = Gone(before_ms=5_000, erased=erased, held=held)
    for which in (Filter(without=gone), Filter(only=gone)):
        tree = ast.parse(expression(which), mode="eval")
        chains = [node for node in ast.walk(tree) if isinstance(node, ast.BoolOp)]
        assert max(len(chain.values) for chain in chains) <= 8
        passes = compile(tree, "", "eval")
        for start_ms in (10, 60, 130, 160, 1_000, 4_970, 5_010, 5_060, 8_990, 200_000):
            for camera in ("gate", "dock"):
                row = {"camera": camera, "start_ms": start_ms, "end_ms": start_ms + 5}
                span = SimpleNamespace(objects=(), **row)
                assert eval(passes, {}, row) == which.passes(span), row  # type: ignore[arg-type]
