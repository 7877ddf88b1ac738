"""What tells a worker that it should end and be started again. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping

from proto.errors import Transient

_AGAIN = "the worker starts again"


class Stalls:
    """Things that must move: each is said to have moved, and none may stand for longer than the limit."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._moved_s: dict[str, float] = {}

    def moved(self, what: str, at_s: float) -> None:
        """Note when it last moved; from the first time on it is watched."""
        self._moved_s[what] = at_s

    def check(self, now_s: float) -> None:
        """Raise Transient when something stands."""
        for what, moved_s in self._moved_s.items():
            if now_s - moved_s > self._limit_s:
                raise Transient(f"{what} for {self._limit_s:.0f} s", todo=_AGAIN)


class LagAlarm:
    """Frames that lie in the broker and do not come, although there is room for them."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._stands: dict[int, tuple[int, float]] = {}

    def room(self, *, there_is: bool) -> None:
        """Without room nothing can come, and nothing is wrong."""
        if not there_is:
            self._stands.clear()

    def check(self, expected: Mapping[int, int], ends: Mapping[int, int], now_s: float) -> None:
        """Raise Transient when a partition with frames left did not move on. `expected` are the next offsets."""
        for partition, end in ends.items():
            offset = expected.get(partition, end)
            if offset >= end:
                self._stands.pop(partition, None)
                continue
            at, since_s = self._stands.get(partition, (offset, now_s))
            if at != offset:
                since_s = now_s
            self._stands[partition] = (offset, since_s)
            if now_s - since_s > self._limit_s:
                raise Transient(
                    f"no frame of partition {partition} came for {self._limit_s:.0f} s, although {end - offset} wait",
                    todo=_AGAIN,
                )
