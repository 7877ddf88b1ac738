"""How often something may be done: a token bucket for each key. Pure: time is an argument."""

from __future__ import annotations

from collections import OrderedDict

_MOST_KEYS = 4096


class Rates:
    """Each key may spend `burst` at once and gets `per_s` back a second. What was not used for longest is forgotten,
    which gives that key its whole burst again."""

    def __init__(self, per_s: float, burst: float, most_keys: int = _MOST_KEYS) -> None:
        self.per_s = per_s
        self.burst = burst
        self._most_keys = most_keys
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left of each key's bucket, and when that was so."""

    def __len__(self) -> int:
        return len(self._left)

    def wait_s(self, key: str, now_s: float) -> float:
        """0 when the key has something to spend, else after how many seconds it will."""
        left = self._now(key, now_s)
        return 0.0 if left >= 1 else (1 - left) / self.per_s

    def spend(self, key: str, now_s: float) -> None:
        """Take one from the key's bucket, also when it has none: whoever goes on waits for longer, up to a burst."""
        self._left[key] = (max(-self.burst, self._now(key, now_s) - 1), now_s)
        self._left.move_to_end(key)
        while len(self._left) > self._most_keys:
            self._left.popitem(last=False)

    def _now(self, key: str, now_s: float) -> float:
        left, at_s = self._left.get(key, (self.burst, now_s))
        return min(self.burst, left + self.per_s * max(0.0, now_s - at_s))
