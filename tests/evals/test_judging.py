from __future__ import annotations

from dataclasses import replace

import pytest

from evals.dataset import Relevant
from evals.judging import boxes_agree, boxes_at, is_right, judge, overlap
from proto.types import WHOLE, Box
from tests.evals.small import VIDEOS, hit, question

SPAN = Relevant("gate", 10, 20)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        (hit(start_s=0, end_s=60, at_s=15), True),  # its instant lies in the span
        (hit(start_s=0, end_s=60, at_s=9.2), True),  # at most a second beside it
        (hit(start_s=0, end_s=60, at_s=8.9), False),  # a long moment whose picture shows something else
        (hit(start_s=15, end_s=25, at_s=24), True),  # half of it lies in the span
        (hit(start_s=16, end_s=26, at_s=24), False),
        (hit("dock", start_s=10, end_s=20), False),
    ],
)
def test_a_hit_is_right_when_its_instant_or_half_of_its_span_lies_in_a_relevant_one(given: object, right: bool) -> None:
    assert is_right(given, SPAN, VIDEOS) == right  # type: ignore[arg-type]


def test_a_hit_that_answers_only_spans_that_do_not_count_is_left_out() -> None:
    small, large = Relevant("gate", 10, 20, share=0.01), Relevant("gate", 30, 40, share=0.2)
    asked = question("1", small, large)
    hits = [hit(start_s=30, end_s=40), hit("dock"), hit(start_s=10, end_s=20)]
    judged = judge(asked, hits, VIDEOS, lambda one: one is small)
    assert [hit_.camera for hit_ in judged.hits] == ["dock", "gate"]
    assert judged.matches == (frozenset(), frozenset({0}))
    assert judged.relevant == 1


def test_the_first_hits_span_is_compared_with_the_best_relevant_one() -> None:
    asked = question("1", SPAN, Relevant("gate", 30, 40))
    assert judge(asked, [hit(start_s=30, end_s=35)], VIDEOS).first_iou == pytest.approx(0.5)
    assert judge(asked, [hit("dock", start_s=30, end_s=40)], VIDEOS).first_iou == 0
    assert judge(asked, [], VIDEOS).first_iou == 0


def test_overlap_of_times_is_intersection_over_union() -> None:
    assert overlap((0, 10), (5, 15)) == pytest.approx(1 / 3)
    assert overlap((0, 1), (2, 3)) == 0


@pytest.mark.parametrize(
    ("found", "agrees"),
    [
        (Box(0.1, 0.1, 0.2, 0.3), True),
        (Box(0.12, 0.12, 0.16, 0.2), True),  # small, with its centre inside
        (Box(0.0, 0.0, 0.9, 0.9), False),
        (Box(0.5, 0.5, 0.6, 0.6), False),
    ],
)
def test_boxes_agree_by_their_union_or_by_the_centre(found: Box, agrees: bool) -> None:
    assert boxes_agree(found, Box(0.1, 0.1, 0.2, 0.3)) == agrees


def test_a_box_is_compared_with_where_the_thing_was_at_that_instant() -> None:
    here, there = Box(0.0, 0.1, 0.2, 0.5), Box(0.7, 0.1, 0.9, 0.5)
    walked = replace(SPAN, box=Box(0.4, 0.1, 0.6, 0.5), track=((10.0, here), (19.0, there), (19.0, WHOLE)))
    begin_ms = VIDEOS["gate"].start_ms
    assert boxes_at(walked, begin_ms + 11_000, VIDEOS) == [here]
    assert boxes_at(walked, begin_ms + 18_000, VIDEOS) == [there, WHOLE]
    assert boxes_at(replace(SPAN, box=here), begin_ms, VIDEOS) == [here]
    assert boxes_at(SPAN, begin_ms, VIDEOS) == []


def test_boxes_are_compared_for_the_first_right_hit_that_has_one() -> None:
    place = Box(0.1, 0.1, 0.2, 0.3)
    asked = question("1", Relevant("gate", 10, 20, place))
    whole, placed = hit(start_s=10, end_s=20), hit(start_s=10, end_s=20, box=place)
    assert judge(asked, [whole, placed], VIDEOS).box == 1
    assert judge(asked, [whole], VIDEOS).box is None
    assert judge(asked, [hit("dock", box=place)], VIDEOS).box is None
