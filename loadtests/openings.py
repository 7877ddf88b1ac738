"""Measures the time from a scene's first picture until a search finds it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from loadtests.ledger import Place, Sent


@dataclass
class Openings:
    """First pictures of scenes, and how long it took to find each."""

    samples: dict[Place, float] = field(default_factory=dict)
    """Seconds, by the picture's place in the log."""
    counts: bool = False
    """Whether scenes that begin now count."""
    frames: int = 0
    begun: int = 0
    _waiting: dict[str, dict[int, Sent]] = field(default_factory=lambda: defaultdict(dict))

    def sees(self, sent: Sent) -> None:
        """Record a frame that the broker accepted."""
        if not self.counts:
            return
        self.frames += 1
        if sent.opens:
            self.begun += 1
            self._waiting[sent.camera][sent.captured_ms] = sent

    def found(self, camera: str, start_ms: int, end_ms: int, at_ms: int) -> None:
        """Record that a search, answered at `at_ms`, found this span."""
        waiting = self._waiting[camera]
        for time_ms in [time_ms for time_ms in waiting if start_ms <= time_ms <= end_ms]:
            self.samples[waiting.pop(time_ms).place] = (at_ms - time_ms) / 1000

    @property
    def waiting(self) -> list[Sent]:
        """The openings not found yet."""
        return [sent for times in self._waiting.values() for sent in times.values()]

    def p(self, share: float, places: Collection[Place] | None = None) -> float:
        """A quantile of the seconds; with `places`, of these openings only."""
        return quantile((s for place, s in self.samples.items() if places is None or place in places), share)


def quantile(samples: Iterable[float], share: float) -> float:
    values = list(samples)
    return float(np.quantile(values, share)) if values else float("nan")
