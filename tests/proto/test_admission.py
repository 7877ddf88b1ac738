"""Which calls are admitted, told in seconds that nobody waits for."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from proto.admission import UNDER_WAY, Admission, Stay, waited_in_vain

PROMISED_S = 0.5


def search(most: int = 256) -> Admission:
    return Admission("search", most=most, promised_s=PROMISED_S)


def answered(admission: Admission, calls: int, took_s: float, *, now_s: float = 0.0, rounds: int = 1) -> float:
    """So many calls at once, which all take so long, some rounds of them. Gives the time afterwards."""
    for _ in range(rounds):
        stays = [admission.enter(now_s) for _ in range(calls)]
        now_s += took_s
        for stay in stays:
            admission.leave(stay, now_s, answered=True)
    return now_s


def room(admission: Admission, left_s: float | None = None) -> int:
    """How many calls are admitted at once. They leave at once, so nothing is learnt from them."""
    stays = []
    while admission.refusal(left_s) is None:
        stays.append(admission.enter(0.0))
    for stay in stays:
        admission.leave(stay, 0.0, answered=True)
    return len(stays)


def test_before_anything_was_learnt_calls_are_admitted_by_their_number() -> None:
    assert room(search(most=20)) == 20


def test_calls_that_promise_nothing_are_admitted_by_their_number_however_long_they_take() -> None:
    clips = Admission("clips", most=7)
    answered(clips, 7, 3600.0)
    assert room(clips) == 7
    assert clips.expected_s == 0


def test_as_many_are_admitted_as_can_be_answered_within_the_promise() -> None:
    admission = search()
    answered(admission, 10, 0.2, rounds=200)  # 20 ms for each of them
    assert 18 <= room(admission) <= 20
    assert "would need about" in (full(admission).refusal() or "")


def full(admission: Admission) -> Admission:
    while admission.refusal() is None:
        admission.enter(0.0)
    return admission


def test_a_call_whose_own_deadline_is_nearer_is_refused_earlier() -> None:
    admission = search()
    answered(admission, 10, 0.2, rounds=200)
    assert 8 <= room(admission, left_s=PROMISED_S / 2) <= 10
    assert room(admission, left_s=60.0) == room(admission)


def test_some_calls_are_admitted_also_when_nothing_can_be_answered_in_time() -> None:
    admission = search()
    answered(admission, 4, 30.0, rounds=50)
    assert room(admission) == 4
    assert room(admission, left_s=0.0) == 4


def test_after_a_standstill_few_answers_open_the_door_again() -> None:
    admission = search()
    now_s = answered(admission, 10, 0.2, rounds=200)
    before = room(admission)
    now_s = answered(admission, 10, 10.0, now_s=now_s, rounds=5)
    assert room(admission) == 4
    for calls in (3, 5, 16):  # it opens to four times of what was answered in time
        now_s = answered(admission, calls, 0.02 * calls, now_s=now_s, rounds=100 // calls)
        assert calls < room(admission) <= 4 * calls
    assert room(admission) >= 0.9 * before


def test_calls_that_fail_at_once_do_not_make_the_service_look_fast() -> None:
    admission = search()
    now_s = answered(admission, 10, 0.2, rounds=100)
    before = room(admission)
    for number in range(1000):
        admission.leave(admission.enter(now_s + number), now_s + number + 0.0001, answered=False)
    assert room(admission) == before


def test_calls_that_waited_in_vain_for_a_part_that_hangs_teach_nothing() -> None:
    admission = search()
    now_s = answered(admission, 10, 0.2, rounds=100)
    before = room(admission)
    for stay in [admission.enter(now_s) for _ in range(10)]:
        UNDER_WAY.set(stay)
        waited_in_vain()
        admission.leave(stay, now_s + 5.0, answered=True)
    assert room(admission) == before
    answered(admission, 10, 5.0, now_s=now_s + 10.0, rounds=1)  # and those after them do
    assert room(admission) < before


def test_calls_that_are_given_up_late_count_as_what_they_took() -> None:
    admission = search()
    now_s = answered(admission, 10, 0.2, rounds=100)
    before = room(admission)
    stays = [admission.enter(now_s) for _ in range(10)]
    for stay in stays:
        admission.leave(stay, now_s + 5.0, answered=False)
    assert room(admission) < before / 2


def test_quiet_hours_do_not_take_back_what_was_learnt_under_load() -> None:
    """On a service that answers many at once as fast as one."""
    admission = search()
    now_s = answered(admission, 50, 0.1, rounds=50)
    before = room(admission)
    assert before > 90
    answered(admission, 1, 0.1, now_s=now_s, rounds=200)
    assert room(admission) == before


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60), st.integers(1, 9))
def test_whatever_the_clock_says_the_number_inside_is_right_and_bounded(
    steps: list[tuple[float, bool]], most: int
) -> None:
    admission, inside = search(most), list[Stay]()
    for now_s, comes in steps:
        if comes and admission.refusal() is None:
            inside.append(admission.enter(now_s))
        elif inside:
            admission.leave(inside.pop(0), now_s, answered=True)
        assert admission.inside == len(inside) <= most
        assert admission.expected_s >= 0


@dataclass(order=True)
class Job:
    due_s: float
    left_s: float = field(compare=False)
    stay: Stay | None = field(default=None, compare=False)


def goodput(rate: float, admission: Admission | None, seconds: float = 8.0) -> float:
    """Answers a second within the promise, of a service with two cores that needs 40 ms for each on average."""
    chance = random.Random(7)
    coming, inside, good = list[Job](), list[Job](), 0
    for due_s in itertools.takewhile(
        seconds.__gt__, itertools.accumulate(iter(lambda: chance.expovariate(rate), None))
    ):
        heapq.heappush(coming, Job(due_s, chance.lognormvariate(-3.35, 0.5)))
    now_s, step_s = 0.0, 0.005
    while now_s < seconds:
        while coming and coming[0].due_s <= now_s:
            job = heapq.heappop(coming)
            if admission is None or admission.refusal() is None:
                job.stay = admission.enter(now_s) if admission else None
                inside.append(job)
        now_s += step_s
        for job in list(inside):
            job.left_s -= step_s * min(1.0, 2 / len(inside))
            if job.left_s <= 0:
                inside.remove(job)
                good += now_s - job.due_s <= PROMISED_S
                if admission and job.stay:
                    admission.leave(job.stay, now_s, answered=True)
    return good / seconds


def test_above_its_capacity_a_service_answers_as_much_in_time_as_at_it() -> None:
    at_the_knee = goodput(45, search())
    assert goodput(90, search()) >= 0.95 * at_the_knee
    assert goodput(225, search()) >= 0.95 * at_the_knee
    assert goodput(90, None) < 0.5 * at_the_knee
