"""When the next picture of a replay is due."""

from __future__ import annotations

import threading
import time


class Pace:
    """The pace of a replay: file time passes `speed` times as fast as time does; 0 waits for nothing."""

    def __init__(self, speed: float, at_s: float) -> None:
        self._speed = speed
        self._started_s = time.monotonic() - (at_s / speed if speed > 0 else 0.0)

    def wait(self, at_s: float, stop: threading.Event) -> bool:
        """Wait until it is time for this file time. False when told to stop."""
        due_s = self._started_s + at_s / self._speed if self._speed > 0 else 0.0
        return not stop.wait(max(0.0, due_s - time.monotonic()))
