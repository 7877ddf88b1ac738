"""Where the time of one search goes, for the metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proto.metrics import SEARCH_PART_SECONDS


class Spent:
    """Adds up the time of parts that a search may pass several times, and tells each once: when its block ends."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}

    def __enter__(self) -> Spent:
        return self

    def __exit__(self, *_: object) -> None:
        for part, seconds in self._seconds.items():
            SEARCH_PART_SECONDS.labels(part=part).observe(seconds)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """What runs inside belongs to this part, also when it fails."""
        begun = self._clock()
        try:
            yield
        finally:
            self._seconds[part] = self._seconds.get(part, 0.0) + self._clock() - begun
