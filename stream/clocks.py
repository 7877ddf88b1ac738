"""Time as the log tells it. Pure: every time is an argument.

Cameras' clocks step, hosts' clocks differ, and a worker may be away. What orders frames is their offset; what tells
that a camera fell silent is the log itself; and how late a worker is follows from the broker's own time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

_LONGEST_LOOK_S = 5.0
"""Two looks at the end of a partition that are further apart than this say nothing about the time between them."""
_SKEW_LOOKS = 64
_LEAST_BATCH = 4
_WORTH = 0.7
"""Smaller batches are sent while they reach this share of the pace of larger ones."""


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
        now_ms = self.now_ms
        if at_ms <= now_ms:
            return now_ms
        self._record_ms, self._idle_s = at_ms, 0.0
        return at_ms

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


class Behind:
    """How far the reading of one partition is behind the end of its log, in seconds.

    While frames are in hand, that is how long the oldest of them has waited. While frames are only known to lie in the
    log, it is the time since nothing did: since the broker said so, or took the latest frame that came through.
    """

    def __init__(self, now_ms: int) -> None:
        self._in_hand: dict[int, int] = {}
        self._begun_ms = now_ms
        self._clear_ms: int | None = None
        self._through_ms: int | None = None

    @property
    def in_hand(self) -> int:
        """Frames taken that did not come through the pipeline yet."""
        return len(self._in_hand)

    def took(self, offset: int, at_ms: int) -> None:
        """A frame that the broker took at `at_ms` is in hand."""
        self._in_hand[offset] = at_ms

    def through(self, offset: int) -> None:
        """The frame came through the pipeline."""
        at_ms = self._in_hand.pop(offset)
        self._through_ms = at_ms if self._through_ms is None else max(at_ms, self._through_ms)

    def clear(self, now_ms: int) -> None:
        """The broker said just now that nothing is left to read."""
        if not self._in_hand:
            self._clear_ms = now_ms

    def behind_s(self, now_ms: int, lateness: Lateness, *, left: bool) -> float:
        """How far behind; `left`: the log was longer than what was taken when the broker was last asked."""
        if self._in_hand:
            return lateness.late_s(next(iter(self._in_hand.values())), now_ms)
        if not left:
            return 0.0
        since = [] if self._clear_ms is None else [(now_ms - self._clear_ms) / 1000]
        since += [] if self._through_ms is None else [lateness.late_s(self._through_ms, now_ms)]
        return min(since, default=(now_ms - self._begun_ms) / 1000)


class SteadyClock:
    """The wall clock as it was at the start, carried on by the monotonic one: steps of the wall clock are no lag."""

    def __init__(self, start_ms: int, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._offset_ms = start_ms - monotonic_s() * 1000

    def now_ms(self) -> int:
        return round(self._offset_ms + self._monotonic_s() * 1000)


class Pace:
    """How many frames a second the encoder looks at, and how many it is best sent at once."""

    def __init__(self, first_guess: float = 40.0) -> None:
        self.per_s = first_guess
        self._by_size: dict[int, float] = {}
        self._until_s = float("-inf")

    def did(self, frames: int, began_s: float, ended_s: float) -> None:
        """A batch that was as large as it could be was embedded. Batches may overlap: time is counted once."""
        busy_s = ended_s - max(began_s, self._until_s)
        self._until_s = max(self._until_s, ended_s)
        if not frames or busy_s <= 0:
            return
        weight = min(0.5, busy_s / 2.0)
        self.per_s += weight * (frames / busy_s - self.per_s)
        known = self._by_size.get(frames, frames / busy_s)
        self._by_size[frames] = known + 0.2 * (frames / busy_s - known)

    def size(self, most: int, within_s: float) -> int:
        """The largest batch, halved so often that it ends within this time; not where smaller ones are much slower."""
        size = most
        while size > _LEAST_BATCH and size > self._by_size.get(size, self.per_s) * within_s:
            half = max(_LEAST_BATCH, size // 2)
            if self._by_size.get(half, float("inf")) < _WORTH * self._by_size.get(size, 0.0):
                break
            size = half
        return size
