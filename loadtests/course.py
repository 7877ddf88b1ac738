"""The course of a load test by Locust: which rate is asked when, and what became of the questions. Pure.

Every course begins with a ramp: the rate rises in steps until one is twice not kept up with; the highest that was is
the knee. `knee` then holds half of the knee, and in turns the knee, twice the knee, and twice the knee while no camera
runs. `spike` is calm, asks three times the knee for some seconds, and is calm again. `soak` holds half of the knee.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

PROMISED_S = 0.5
PROMISED_SHARE = 0.99
KEPT_SHARE = 0.95
"""A rate of which fewer questions are answered well is not kept up with."""
VALID_SHARE = 0.99
FIRST_RATE, GROWTH, MOST_RATE = 3, 1.5, 2000
STEP_S, LEAST_DUE, HOLD_S, TURN_S = 8.0, 60, 25.0, 12.0
"""A step lasts `STEP_S`, or until so many questions were due."""
SPIKE_S, CALM_S, WINDOW_S = 10.0, 30.0, 30.0
TURNS = 3
REST_S, LULL_S, CHANGE_S = 2.0, 3.0, 4.0
"""After a phase its rate goes on for `REST_S`, so that its last answers come as the others. After a step that was not
kept up with hardly anything is asked for `LULL_S`. When cameras stop or run again, the next phase waits `CHANGE_S`."""


class Zipf:
    """Draws the numbers 0 to `count` - 1, the n-th as often as 1 / (n + 1) ** `skew` says: few are asked often."""

    def __init__(self, count: int, skew: float, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._reach = list(itertools.accumulate((n + 1) ** -skew for n in range(count)))

    def draw(self) -> int:
        return bisect.bisect_right(self._reach, self._chance() * self._reach[-1], hi=len(self._reach) - 1)


@dataclass(frozen=True)
class Plan:
    """What a phase is to be."""

    name: str
    rate: int
    length_s: float
    cameras: bool = True
    """Whether cameras run meanwhile."""


@dataclass
class Phase:
    """A span of one rate, and what became of the questions that were due in it."""

    name: str
    rate: int
    begins_s: float
    ends_s: float
    cameras: bool = True
    promised_s: float = PROMISED_S
    due: int = 0
    begun: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds from when a question was due to its answer."""
    cpu_s: dict[str, float] = field(default_factory=dict)
    """Processor time by process; `Locust` is Locust itself."""

    @property
    def length_s(self) -> float:
        return self.ends_s - self.begins_s

    @property
    def achieved(self) -> float:
        """The share of the questions that Locust began while the phase lasted."""
        return self.begun / self.due if self.due else 0.0

    @property
    def good_share(self) -> float:
        """The share of the due questions that were answered well."""
        return sum(one <= self.promised_s for one in self.latencies) / self.due if self.due else 0.0

    @property
    def goodput(self) -> float:
        return self.good_share * self.due / self.length_s

    @property
    def valid(self) -> bool:
        return self.achieved >= VALID_SHARE

    @property
    def kept(self) -> bool:
        return self.valid and self.good_share >= KEPT_SHARE

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies, share)) if self.latencies else float("nan")


@dataclass(frozen=True)
class Verdict:
    """One goal, and whether it was reached."""

    what: str
    measured: float
    goal: float
    """At least this."""

    @property
    def reached(self) -> bool:
        return self.measured >= self.goal


class Shape(Protocol):
    """What is asked once the knee is known."""

    def plans(self, knee: int) -> Iterator[Plan]:
        """The phases, in order."""

    def verdicts(self, course: Course) -> Iterator[Verdict]:
        """What is judged at the end."""


class Course:
    """Which rate is asked when, and the account of it. Time is an argument."""

    def __init__(self, shape: Shape, knee: int | None = None, promised_s: float = PROMISED_S) -> None:
        """A `knee` that is known saves the ramp."""
        self.phases: list[Phase] = []
        self._shape = shape
        self._given = knee
        self._promised_s = promised_s
        self._plans = shape.plans(knee) if knee else None

    def rate(self, now_s: float) -> int | None:
        """The rate to ask now; None once everything was asked."""
        if not self.phases:
            return self._begin(now_s)
        last = self.phases[-1]
        over_s = now_s - last.ends_s
        if over_s < REST_S:
            return last.rate
        if over_s < REST_S + LULL_S and last.name == "step" and not last.kept:
            return 1
        return self._begin(now_s)

    def due(self, due_s: float, begun_s: float) -> None:
        """A question was due then, and Locust began it then."""
        if phase := self.at(due_s):
            phase.due += 1
            phase.begun += begun_s < phase.ends_s

    def answered(self, due_s: float, now_s: float) -> None:
        if phase := self.at(due_s):
            phase.latencies.append(now_s - due_s)

    def failed(self, due_s: float) -> None:
        if phase := self.at(due_s):
            phase.failed += 1

    def spent(self, from_s: float, to_s: float, cpu_s: Mapping[str, float]) -> None:
        """Processor time of processes in a span of time."""
        phase = self.at(from_s)
        if phase is not None and phase is self.at(to_s):
            for name, seconds in cpu_s.items():
                phase.cpu_s[name] = phase.cpu_s.get(name, 0.0) + seconds

    def at(self, due_s: float) -> Phase | None:
        """The phase of this time."""
        place = bisect.bisect_right(self.phases, due_s, key=lambda phase: phase.begins_s) - 1
        return self.phases[place] if place >= 0 and due_s < self.phases[place].ends_s else None

    @property
    def cameras(self) -> bool:
        """Whether cameras are to run now."""
        return not self.phases or self.phases[-1].cameras

    @property
    def knee(self) -> int | None:
        """The highest rate that was kept up with; None when none was."""
        if self._given:
            return self._given
        kept = (phase.rate for phase in self.phases if phase.name == "step" and phase.kept)
        return max(kept, default=None)

    def called(self, name: str) -> list[Phase]:
        return [phase for phase in self.phases if phase.name == name]

    def goodput(self, name: str) -> float:
        """Mean goodput of the phases of this name; nan when there are none."""
        found = [phase.goodput for phase in self.called(name)]
        return sum(found) / len(found) if found else float("nan")

    def verdicts(self) -> list[Verdict]:
        """What is judged. Without a knee there is nothing but that."""
        if self.knee is None:
            return [Verdict(f"a knee: at least {FIRST_RATE} questions a second are kept up with", 0, 1)]
        fast = _share(phase.valid for phase in self.phases)
        valid = Verdict("share of the phases in which Locust was fast enough", fast, 1)
        return [valid, *self._shape.verdicts(self)]

    def _begin(self, now_s: float) -> int | None:
        plan = self._next()
        if plan is None:
            return None
        waits_s = CHANGE_S if plan.cameras != self.cameras else 0.0
        begins_s = now_s + waits_s
        ends_s = begins_s + plan.length_s
        self.phases.append(Phase(plan.name, plan.rate, begins_s, ends_s, plan.cameras, self._promised_s))
        return plan.rate

    def _next(self) -> Plan | None:
        if self._plans is None:
            if step := self._step():
                return step
            self._plans = self._shape.plans(self.knee) if self.knee else iter(())
        return next(self._plans, None)

    def _step(self) -> Plan | None:
        """The next step of the ramp; None when it is over."""
        if not self.phases:
            return _step(FIRST_RATE)
        last = self.phases[-1]
        if last.kept:
            return _step(max(last.rate + 1, round(last.rate * GROWTH))) if last.rate < MOST_RATE else None
        tried = sum(phase.rate == last.rate for phase in self.phases)
        return _step(last.rate) if tried == 1 else None  # another program may have been at work


def _step(rate: int) -> Plan:
    return Plan("step", rate, max(STEP_S, LEAST_DUE / rate))


class Knee:
    """Half of the knee, then in turns the knee, twice the knee, and twice the knee without cameras."""

    def plans(self, knee: int) -> Iterator[Plan]:
        yield Plan("half", max(1, knee // 2), HOLD_S)
        for _ in range(TURNS):
            yield Plan("knee", knee, TURN_S)
            yield Plan("twice", 2 * knee, TURN_S)
            yield Plan("twice, idle", 2 * knee, TURN_S, cameras=False)

    def verdicts(self, course: Course) -> Iterator[Verdict]:
        yield _promised(course.called("half"), "half of the knee")
        twice = course.goodput("twice")
        yield Verdict("goodput at twice the knee / at the knee", _ratio(twice, course.goodput("knee")), 0.95)
        idle = course.goodput("twice, idle")
        yield Verdict("answers in time a second, while cameras run / without, saturated", _ratio(twice, idle), 0.85)


class Spike:
    """Calm, three times the knee for some seconds, calm again."""

    def plans(self, knee: int) -> Iterator[Plan]:
        yield Plan("calm", max(1, knee // 2), CALM_S)
        yield Plan("spike", 3 * knee, SPIKE_S)
        yield Plan("after", max(1, knee // 2), CALM_S)

    def verdicts(self, course: Course) -> Iterator[Verdict]:
        yield _promised(course.called("calm"), "before the spike")
        yield Verdict("goodput in the spike / the knee", _ratio(course.goodput("spike"), course.knee or 0), 0.9)
        yield _promised(course.called("after"), "after the spike")


class Soak:
    """Half of the knee for long, in windows."""

    def __init__(self, minutes: float) -> None:
        self._windows = max(3, round(minutes * 60 / (WINDOW_S + REST_S)))

    def plans(self, knee: int) -> Iterator[Plan]:
        yield from itertools.repeat(Plan("soak", max(1, knee // 2), WINDOW_S), self._windows)

    def verdicts(self, course: Course) -> Iterator[Verdict]:
        windows = course.called("soak")
        yield _promised(windows, "all the time")
        yield Verdict("share of the windows that were kept up with", _share(one.kept for one in windows), 0.95)
        third = max(1, len(windows) // 3)
        yield _promised(windows[-third:], "in the last third")


def shape_of(name: str, minutes: float) -> Shape:
    """The shape of this name."""
    shapes: dict[str, Callable[[], Shape]] = {"knee": Knee, "spike": Spike, "soak": lambda: Soak(minutes)}
    return shapes[name]()


def _promised(phases: Iterable[Phase], when: str) -> Verdict:
    phases = list(phases)
    due = sum(phase.due for phase in phases)
    good = sum(phase.good_share * phase.due for phase in phases) / due if due else 0.0
    return Verdict(f"answered as promised, {when}", good, PROMISED_SHARE)


def _ratio(one: float, other: float) -> float:
    return one / other if other else 0.0


def _share(holds: Iterable[bool]) -> float:
    every = list(holds)
    return sum(every) / max(1, len(every))
