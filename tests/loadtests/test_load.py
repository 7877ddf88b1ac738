from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest

from loadtests.load import (
    FIRST_RATE,
    GROWTH,
    LULL_S,
    PROMISED_S,
    REST_S,
    STEP_S,
    Course,
    Phase,
    Zipf,
    told,
    verdict,
)


def asked(course: Course, answer: Callable[[int], float | None], late: Callable[[int], float] = lambda _: 0.0) -> None:
    """Take the course to its end. `answer` gives how long an answer takes at a rate, None for one that fails; `late`
    how late a question is begun."""
    now_s = 100.0
    while (rate := course.rate(now_s)) is not None:
        for number in range(rate):
            due_s = now_s + number / rate
            course.due(due_s, due_s + late(rate))
            takes_s = answer(rate)
            if takes_s is None:
                course.failed(due_s)
            else:
                course.answered(due_s, due_s + takes_s)
        now_s += 1.0


def up_to(capacity: int) -> Callable[[int], float]:
    """A service that answers at once up to this rate, and above it half of the questions too late."""
    turns = itertools.count()
    return lambda rate: 0.01 if rate <= capacity or next(turns) % 2 else 2 * PROMISED_S


def test_the_n_th_question_is_drawn_as_often_as_its_place_says() -> None:
    chances = itertools.cycle((number + 0.5) / 1000 for number in range(1000))
    zipf = Zipf(4, 1.0, lambda: next(chances))
    drawn = Counter(zipf.draw() for _ in range(1000))
    assert [drawn[place] for place in range(4)] == [480, 240, 160, 120]


def test_the_last_chance_draws_the_last_question() -> None:
    assert Zipf(3, 1.0, lambda: 1.0).draw() == 2


def test_the_knee_is_the_highest_step_that_was_kept_up_with_and_half_and_twice_of_it_follow() -> None:
    course = Course()
    asked(course, up_to(25))
    steps = [phase.rate for phase in course.phases if phase.name == "step"]
    assert steps == [10, 14, 20, 28, 28]
    assert course.knee is not None
    assert course.knee.rate == 20
    assert [(phase.name, phase.rate) for phase in course.phases[-2:]] == [("half", 10), ("twice", 40)]
    assert verdict(course) == 0


def test_a_step_that_fails_once_is_tried_again() -> None:
    course = Course()
    troubled = iter([True] * 14)
    kept = up_to(25)
    asked(course, lambda rate: None if rate == 14 and next(troubled, False) else kept(rate))
    assert [phase.rate for phase in course.phases if phase.name == "step"] == [10, 14, 14, 20, 28, 28]
    assert course.knee is not None
    assert course.knee.rate == 20


def test_without_a_step_that_was_kept_up_with_there_is_no_knee_and_the_test_fails() -> None:
    course = Course()
    asked(course, lambda _: None)
    assert course.knee is None
    assert [phase.rate for phase in course.phases] == [FIRST_RATE, FIRST_RATE]
    assert verdict(course) == 1
    assert "no knee" in told(course)


def test_a_latency_counts_from_when_the_question_was_due_however_late_it_was_begun() -> None:
    course = Course()
    course.rate(100.0)
    course.due(101.0, 103.0)
    course.answered(101.0, 103.5)
    assert course.phases[0].latencies == [2.5]
    assert course.phases[0].good_share == 0.0


def test_questions_that_are_never_answered_lower_the_share_of_good_ones() -> None:
    course = Course()
    course.rate(100.0)
    for second in range(4):
        course.due(100.0 + second, 100.0 + second)
    for second in range(3):
        course.answered(100.0 + second, 100.1 + second)
    assert course.phases[0].good_share == 0.75


def test_a_phase_whose_questions_were_begun_after_its_end_is_invalid_and_not_kept_up_with() -> None:
    course = Course()
    asked(course, lambda _: 0.01, late=lambda rate: 0.0 if rate <= FIRST_RATE else 60.0)
    assert course.phases[1].rate == round(FIRST_RATE * GROWTH)
    assert course.phases[1].achieved == 0.0
    assert not course.phases[1].kept
    assert "INVALID" in told(course)


@pytest.mark.parametrize("due_s", [99.0, 108.0, 109.5])
def test_what_is_due_outside_of_every_phase_is_not_counted(due_s: float) -> None:
    course = Course()
    course.rate(100.0)
    course.due(due_s, due_s)
    course.answered(due_s, due_s)
    course.failed(due_s)
    assert (course.phases[0].due, course.phases[0].latencies, course.phases[0].failed) == (0, [], 0)


def test_goodput_is_what_was_answered_well_a_second() -> None:
    phase = Phase("step", 10, 100.0, 110.0, due=100, begun=100, latencies=[0.1] * 80 + [0.6] * 20)
    assert phase.goodput == pytest.approx(8.0)
    assert phase.quantile(0.5) == pytest.approx(0.1)


def test_after_a_phase_that_was_not_kept_up_with_hardly_anything_is_asked_until_its_questions_are_over() -> None:
    course = Course()
    over_s = 100.0 + STEP_S
    assert course.rate(100.0) == FIRST_RATE
    course.due(101.0, 101.0)
    course.failed(101.0)
    assert course.rate(over_s + REST_S - 0.1) == FIRST_RATE
    assert course.rate(over_s + REST_S) == 1
    assert course.rate(over_s + REST_S + LULL_S - 0.1) == 1
    assert len(course.phases) == 1
    assert course.rate(over_s + REST_S + LULL_S) == FIRST_RATE
    assert len(course.phases) == 2
