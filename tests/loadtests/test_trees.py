"""Whether a trace's spans account for its whole, and how the tree shows it."""

from __future__ import annotations

import pytest

from loadtests.trees import account, steps, tree
from tests.tools.otlp import CLIENT, Span


def span(name: str, parent: str, begin_ms: float, end_ms: float, kind: int = 1) -> Span:
    return Span("watchword-x", name, "t", name, parent, kind, round(begin_ms * 1e6), round(end_ms * 1e6))


def test_what_goes_on_inside_a_span_between_its_parts_is_not_accounted_for() -> None:
    found = account([span("a", "", 0, 100), span("b", "a", 10, 60), span("c", "a", 50, 90)])
    assert (found.whole_ms, found.told_ms, found.untold) == (100, 80, {"a": 10, "a after c": 10})
    assert found.share == pytest.approx(0.8)


def test_a_call_accounts_for_the_way_there_and_back_and_its_server_does_not() -> None:
    spans = [span("call", "", 0, 100, CLIENT), span("served", "call", 20, 90), span("run", "served", 30, 90)]
    found = account(spans)
    assert (found.told_ms, found.untold) == (90, {"served": 10})
    assert any("(there and back)" in line and line.endswith("30.0") for line in tree(spans))


def test_a_root_that_stands_for_the_whole_tells_nothing_by_itself() -> None:
    spans = [span("frame", "", 0, 50), span("send", "frame", 0, 40), span("write", "frame", 70, 100)]
    found = account(spans, root="frame")
    assert (found.whole_ms, found.told_ms) == (100, 70)
    assert found.untold == {"nothing after send": 30}


def test_the_tree_is_in_order_of_time_and_shows_children_whose_parent_never_came() -> None:
    lines = list(tree([span("late", "gone", 5, 9), span("b", "a", 2, 3), span("a", "", 0, 4)]))
    assert [line.split()[0] for line in lines[1:]] == ["a", "b", "late"]
    assert lines[2].startswith("  b")


def test_the_steps_of_a_question_are_the_parts_of_what_its_server_did() -> None:
    call, served = span("call", "", 0, 100, CLIENT), span("served", "call", 20, 90)
    step, part = span("step", "served", 20, 85), span("part", "step", 30, 40)
    assert steps([part, step, served, call]) == [call, served, step]
    assert account(steps([part, step, served, call])).share == pytest.approx(0.95)
    assert account([part, step, served, call]).share == pytest.approx(0.40)
