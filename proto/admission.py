"""Which calls are admitted, by how long a new one is expected to take. Pure: time is an argument.

What an answer takes while n calls are inside, divided by n, is a call's share: what each call adds to the time of all.
A new call is expected to take as many shares as calls are inside with it. The share is learnt from every answer. Its
mean deviation is added, as TCP does for its timeout, so that most answers come within the expected time and not half of
them. Answers with little company teach nothing, so the door opens to at most four times of what it saw answered in
time: less would refuse the small crowds that chance makes of calls that come one by one.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

_WEIGHT = 1 / 16
"""How much one answer changes the share."""
_DEVIATIONS = 2.0
"""How many mean deviations are added to the mean share."""
_KEPT_BACK = 0.2
"""The part of the promised time that is left for what the service does not see, such as the network."""
_BEYOND = 4
"""The door opens to so many times what was seen to be answered in time."""
_LEAST = 4
"""So many calls are always admitted. Without any, nothing would be learnt after a standstill."""


@dataclass(slots=True)
class Stay:
    """A call that was admitted."""

    since_s: float
    area: float
    """Calls inside, added up over time, until it came."""
    teaches: bool = True
    """Whether what it takes says something about other calls."""


UNDER_WAY: ContextVar[Stay | None] = ContextVar("the call that is being answered", default=None)


def waited_in_vain() -> None:
    """The call that is being answered waited for a part that hangs, and the next ones will not: it teaches nothing."""
    if stay := UNDER_WAY.get():
        stay.teaches = False


class Admission:
    """Admits calls of one kind: `most` at once; with `promised_s` only while a new one is expected to end within it."""

    def __init__(self, kind: str, *, most: int, promised_s: float | None = None) -> None:
        self.kind = kind
        """The label of its metrics."""
        self.promised_s = promised_s
        self.inside = 0
        """Calls admitted that did not leave yet."""
        self.most = most
        self._area = 0.0
        self._seen_s = 0.0
        self._share_s = 0.0
        self._deviation_s = 0.0

    @property
    def expected_s(self) -> float:
        """How long a call that is admitted now is expected to take at most. 0 before anything was learnt."""
        return (self.inside + 1) * (self._share_s + _DEVIATIONS * self._deviation_s)

    def refusal(self, left_s: float | None = None) -> str | None:
        """Why a call is not admitted whose own deadline is in `left_s`; None when it is."""
        if self.inside >= self.most:
            return f"has {self.inside} calls of this kind under way and takes no more"
        if self.promised_s is None or self.inside < _LEAST:
            return None
        within_s = self.promised_s if left_s is None else min(left_s, self.promised_s)
        if self.expected_s <= (1 - _KEPT_BACK) * within_s:
            return None
        return f"would need about {self.expected_s:.2g} s for an answer, with {self.inside} calls under way"

    def enter(self, now_s: float) -> Stay:
        """A call is admitted. It leaves with what is returned."""
        self._pass(now_s)
        self.inside += 1
        return Stay(now_s, self._area)

    def leave(self, stay: Stay, now_s: float, *, answered: bool) -> None:
        """The call ends. One that failed soon says nothing about the time of an answer; one that failed late does."""
        self._pass(now_s)
        self.inside -= 1
        took_s = now_s - stay.since_s
        if self.promised_s is None or not stay.teaches or took_s <= 0 or (not answered and took_s < self.promised_s):
            return
        company = max(1.0, (self._area - stay.area) / took_s)
        self._learn(took_s / company, company, in_time=took_s <= self.promised_s)

    def _pass(self, now_s: float) -> None:
        self._area += self.inside * max(0.0, now_s - self._seen_s)
        self._seen_s = max(self._seen_s, now_s)

    def _learn(self, share_s: float, company: float, *, in_time: bool) -> None:
        if not self._share_s:
            self._share_s, self._deviation_s = share_s, share_s / 2
            return
        if in_time and company < self._fit() / _BEYOND:  # says little of how long many at once take
            return
        self._deviation_s += _WEIGHT * (abs(share_s - self._share_s) - self._deviation_s)
        self._share_s += _WEIGHT * (share_s - self._share_s)

    def _fit(self) -> float:
        """How many calls at once are expected to be answered as promised."""
        promised_s = self.promised_s or 0.0
        return max(1.0, (1 - _KEPT_BACK) * promised_s / (self._share_s + _DEVIATIONS * self._deviation_s))
