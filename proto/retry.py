"""Backoff: how long to wait before a retry. Pure: randomness and failure count are arguments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause doubles with each failure, up to a limit, with jitter so that callers do not retry in step."""

    first_s: float
    most_s: float
    spread: float = 0.5
    """The random share of each pause."""

    def pause_s(self, failures: int, chance: float) -> float:
        """The pause after this many consecutive failures (from 1), with `chance` between 0 and 1."""
        longest_s: float = min(self.first_s * 2.0 ** min(failures - 1, 32), self.most_s)
        return longest_s * (1.0 - self.spread * (1.0 - chance))
