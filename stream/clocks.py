"""Time as the log tells it. Pure: every time is an argument.

Cameras' clocks step, hosts' clocks differ, and a worker may be away. What orders frames is their offset; what tells
that a camera fell silent is the log itself; and how late a worker is follows from the broker's own time.
"""

from __future__ import annotations

from collections import deque

_LONGEST_LOOK_S = 5.0
"""Two looks at the end of a partition that are further apart than this say nothing about the time between them."""
_SKEW_LOOKS = 64


class LogClock:
    """The time of one partition: that of its latest record, and while the partition is read to its end, the clock's.

    It stands still while the broker is away or the process is stopped, since nobody knows then what the log holds.
    """

    def __init__(self) -> None:
        self._record_ms = 0
        self._idle_s = 0.0
        self._at_end_s: float | None = None

    @property
    def now_ms(self) -> int:
        return self._record_ms + round(self._idle_s * 1000)

    def read(self, at_ms: int) -> int:
        """A record that the broker took at `at_ms` was taken. Gives the partition's time, which never runs back."""
        self._at_end_s = None
        if at_ms > self.now_ms:
            self._record_ms, self._idle_s = at_ms, 0.0
        return self.now_ms

    def at_end(self, now_s: float) -> None:
        """The broker said just now that nothing is left to read."""
        if self._at_end_s is not None and 0 < now_s - self._at_end_s <= _LONGEST_LOOK_S:
            self._idle_s += now_s - self._at_end_s
        self._at_end_s = now_s

    def not_at_end(self) -> None:
        """Something is left to read, or the broker did not say."""
        self._at_end_s = None


class Lateness:
    """How long records wait between the broker and here, however the two clocks differ.

    The broker's clock and this machine's may be apart by any amount. The least difference between them among the latest
    records that came from the very end of their partition is the difference of the clocks.
    """

    def __init__(self) -> None:
        self._at_end = deque[int](maxlen=_SKEW_LOOKS)

    def came(self, at_ms: int, now_ms: int, *, last: bool) -> None:
        """A record came; `last` when nothing lay behind it in its partition."""
        if last:
            self._at_end.append(now_ms - at_ms)

    def late_s(self, at_ms: int, now_ms: int) -> float:
        """How long a record that the broker took at `at_ms` has been waiting."""
        return max(0, now_ms - at_ms - min(self._at_end, default=0)) / 1000


class Pace:
    """How many frames a second are looked at while there are enough of them."""

    def __init__(self, first_guess: float = 40.0) -> None:
        self.per_s = first_guess
        self._until_s = float("-inf")

    def did(self, frames: int, began_s: float, ended_s: float) -> None:
        """A batch was embedded. Batches may overlap: time is counted once."""
        busy_s = ended_s - max(began_s, self._until_s)
        self._until_s = max(self._until_s, ended_s)
        if frames and busy_s > 0:
            weight = min(0.5, busy_s / 2.0)
            self.per_s += weight * (frames / busy_s - self.per_s)
