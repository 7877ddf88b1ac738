"""The course of a load test, and its account, without Locust."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtests.course import (
    CHANGE_S,
    FIRST_RATE,
    GROWTH,
    LEAST_DUE,
    LULL_S,
    PROMISED_S,
    REST_S,
    TURNS,
    Course,
    Knee,
    Phase,
    Soak,
    Spike,
    Zipf,
    shape_of,
)
from loadtests.course_report import exit_code, told, write_csv

OVER_S = 100.0 + LEAST_DUE / FIRST_RATE
"""When the first step ends."""


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


def collapsing(capacity: int) -> Callable[[int], float]:
    """A service that answers at once up to this rate, and above it half of the questions too late."""
    turns = itertools.count()
    return lambda rate: 0.01 if rate <= capacity or next(turns) % 2 else 2 * PROMISED_S


def refusing(capacity: int) -> Callable[[int], float | None]:
    """A service that answers as many as it can, and refuses the rest."""
    turns = itertools.count()
    return lambda rate: 0.01 if (next(turns) * capacity) % rate < capacity or rate <= capacity else None


def test_the_n_th_question_is_drawn_as_often_as_its_place_says() -> None:
    chances = itertools.cycle((number + 0.5) / 1000 for number in range(1000))
    zipf = Zipf(4, 1.0, lambda: next(chances))
    drawn = Counter(zipf.draw() for _ in range(1000))
    assert [drawn[place] for place in range(4)] == [480, 240, 160, 120]


def test_the_last_chance_draws_the_last_question() -> None:
    assert Zipf(3, 1.0, lambda: 1.0).draw() == 2


def test_the_knee_is_the_highest_step_that_was_kept_up_with() -> None:
    course = Course(Knee())
    asked(course, collapsing(25))
    assert [phase.rate for phase in course.called("step")] == [5, 7, 10, 14, 20, 28, 28]
    assert course.knee == 20
    after = [(phase.name, phase.rate, phase.cameras) for phase in course.phases[7:]]
    assert after == [("half", 10, True)] + TURNS * [
        ("knee", 20, True),
        ("twice", 40, True),
        ("twice, idle", 40, False),
    ]


@pytest.mark.parametrize(
    ("answers", "code"), [(refusing(25), 0), (lambda rate: 0.01 if rate <= 25 else 2 * PROMISED_S, 1)]
)
def test_a_service_that_is_late_above_its_knee_fails_and_one_that_refuses_does_not(
    answers: Callable[[int], float | None], code: int
) -> None:
    course = Course(Knee())
    asked(course, answers)
    assert course.knee == 20
    assert exit_code(course) == code
    assert ("NOT REACHED" in told(course)) == bool(code)


def test_a_known_knee_saves_the_ramp() -> None:
    course = Course(Spike(), knee=30)
    asked(course, refusing(35))
    assert [(phase.name, phase.rate) for phase in course.phases] == [("calm", 15), ("spike", 90), ("after", 15)]
    assert [round(verdict.measured, 2) for verdict in course.verdicts()] == [
        1.0,
        1.0,
        pytest.approx(1.17, abs=0.02),
        1.0,
    ]
    assert exit_code(course) == 0


def test_a_spike_that_leaves_the_service_slow_fails() -> None:
    course = Course(Spike(), knee=30)
    asked(course, lambda _: 2 * PROMISED_S if len(course.phases) == 3 else 0.01)
    assert [verdict.reached for verdict in course.verdicts()] == [True, True, True, False]
    assert exit_code(course) == 1


def test_a_soak_is_windows_of_half_of_the_knee() -> None:
    course = Course(shape_of("soak", minutes=4), knee=21)
    asked(course, lambda _: 0.01)
    assert {(phase.name, phase.rate) for phase in course.phases} == {("soak", 10)}
    assert len(course.phases) == 8
    assert exit_code(course) == 0


def test_a_soak_whose_end_is_slow_fails() -> None:
    course = Course(Soak(minutes=4), knee=21)
    asked(course, lambda _: 2 * PROMISED_S if len(course.phases) > 6 else 0.01)
    assert exit_code(course) == 1


def test_a_step_that_fails_once_is_tried_again() -> None:
    course = Course(Knee())
    troubled = iter([True] * 14)
    kept = collapsing(25)
    asked(course, lambda rate: None if rate == 14 and next(troubled, False) else kept(rate))
    assert [phase.rate for phase in course.called("step")] == [5, 7, 10, 14, 14, 20, 28, 28]
    assert course.knee == 20


def test_without_a_step_that_was_kept_up_with_there_is_no_knee_and_the_test_fails() -> None:
    course = Course(Knee())
    asked(course, lambda _: None)
    assert course.knee is None
    assert [phase.rate for phase in course.phases] == [FIRST_RATE, FIRST_RATE]
    assert exit_code(course) == 1
    assert "no knee" in told(course)


def test_a_latency_counts_from_when_the_question_was_due_however_late_it_was_begun() -> None:
    course = Course(Knee())
    course.rate(100.0)
    course.due(101.0, 103.0)
    course.answered(101.0, 103.5)
    assert course.phases[0].latencies == [2.5]
    assert course.phases[0].good_share == 0.0


def test_questions_that_are_never_answered_lower_the_share_of_good_ones() -> None:
    course = Course(Knee())
    course.rate(100.0)
    for second in range(4):
        course.due(100.0 + second, 100.0 + second)
    for second in range(3):
        course.answered(100.0 + second, 100.1 + second)
    assert course.phases[0].good_share == 0.75


def test_a_phase_whose_questions_were_begun_after_its_end_is_invalid_and_not_kept_up_with() -> None:
    course = Course(Knee())
    asked(course, lambda _: 0.01, late=lambda rate: 0.0 if rate <= FIRST_RATE else 60.0)
    assert course.phases[1].rate == round(FIRST_RATE * GROWTH)
    assert course.phases[1].achieved == 0.0
    assert not course.phases[1].kept
    assert "INVALID" in told(course)
    assert exit_code(course) == 1


@pytest.mark.parametrize("due_s", [99.0, OVER_S, OVER_S + 1.5])
def test_what_is_due_outside_of_every_phase_is_not_counted(due_s: float) -> None:
    course = Course(Knee())
    course.rate(100.0)
    course.due(due_s, due_s)
    course.answered(due_s, due_s)
    course.failed(due_s)
    course.spent(due_s, due_s + 0.1, {"query": 0.1})
    first = course.phases[0]
    assert (first.due, first.latencies, first.failed, first.cpu_s) == (0, [], 0, {})


def test_goodput_is_what_was_answered_well_a_second() -> None:
    phase = Phase("step", 10, 100.0, 110.0, due=100, begun=100, latencies=[0.1] * 80 + [0.6] * 20)
    assert phase.goodput == pytest.approx(8.0)
    assert phase.quantile(0.5) == pytest.approx(0.1)


def test_after_a_step_that_was_not_kept_up_with_hardly_anything_is_asked_for_a_while() -> None:
    course = Course(Knee())
    assert course.rate(100.0) == FIRST_RATE
    course.due(101.0, 101.0)
    course.failed(101.0)
    assert course.rate(OVER_S + REST_S - 0.1) == FIRST_RATE
    assert course.rate(OVER_S + REST_S) == 1
    assert course.rate(OVER_S + REST_S + LULL_S - 0.1) == 1
    assert len(course.phases) == 1
    assert course.rate(OVER_S + REST_S + LULL_S) == FIRST_RATE
    assert len(course.phases) == 2


def test_when_cameras_stop_or_run_again_the_next_phase_waits_for_it() -> None:
    course = Course(Knee(), knee=10)
    asked(course, lambda _: 0.01)
    waits = {
        (before.cameras, after.cameras): after.begins_s - before.ends_s
        for before, after in itertools.pairwise(course.phases)
    }
    assert waits[True, True] < CHANGE_S
    assert waits[True, False] >= CHANGE_S
    assert waits[False, True] >= CHANGE_S


def test_the_table_and_the_csv_tell_every_phase(tmp_path: Path) -> None:
    course = Course(Spike(), knee=10)
    asked(course, refusing(12))
    course.spent(101.0, 102.0, {"query": 0.5, "Locust": 0.1})
    write_csv(course, tmp_path / "phases.csv")
    with (tmp_path / "phases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["calm", "spike", "after"]
    assert float(rows[0]["cores_query"]) == pytest.approx(0.5 / 30, abs=0.001)
    assert "Locust, query" in told(course)
