"""What packets say of a picture that nobody decoded: how unusual their sizes are. Pure: time is an argument.

A packet's size depends on its place: key frames are large, the pictures just after one differ from later ones, and
pictures that are predicted both ways are small. So sizes are compared within one kind of place, as logarithms, against
their median and spread. What one packet says is little, since sensors spike; so what many say is averaged over a short,
a middle and a long time. What averages are usual while nothing moves is learned as well.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from statistics import median

_REMEMBERED = 1500
"""Sizes of one kind: a minute at 25 pictures a second, so that dusk is followed."""
_LEAST = 8
"""With fewer, a kind says nothing."""
_ENOUGH = 40
"""With fewer, its spread is uncertain."""
_ANEW = 50
_LEAST_SPREAD = 0.01
_FIRST_SPREAD = 0.1
_FOLLOWS = 0.1
"""Spreads a second. What moves shows long before that much is followed."""
_MOST_ODD = 12.0
_SCALES_S = (0.0, 0.15, 0.6, 3.0)
_PART_S = 1.0
_PARTS = 120
_USUAL_SHARE = 0.95
_MARGIN = 1.4
_LEAST_SIGMAS = 5.0
_AFTER_KEY = (8, 32)
"""Packets after the key frame from which on they are of another kind."""
_MOST_BETWEEN = 7
_KEY = 0


class Places:
    """Where in its group of pictures each packet lies."""

    def __init__(self) -> None:
        self._since_key = self._between = 0
        self._latest_s = -math.inf

    def kind(self, pts_s: float, *, key: bool) -> int:
        """The kind of place of the next packet, in the order of decoding."""
        if key:
            self._since_key = self._between = 0
            self._latest_s = pts_s
            return _KEY
        self._since_key += 1
        if pts_s > self._latest_s:
            self._latest_s, self._between = pts_s, 0
        else:
            self._between = min(self._between + 1, _MOST_BETWEEN)  # predicted from what is shown after it, too
        return 1 + bisect_right(_AFTER_KEY, self._since_key) * (_MOST_BETWEEN + 1) + self._between


class _Usual:
    """The sizes of one kind of packets while nothing moved."""

    def __init__(self) -> None:
        self.middle = 0.0
        self.spread = _FIRST_SPREAD
        self.known = 0
        self._logs: deque[float] = deque(maxlen=_REMEMBERED)
        self._strays: deque[float] = deque(maxlen=_REMEMBERED)
        self._fresh = 0

    def add(self, log_size: float, stray: float | None) -> None:
        self._logs.append(log_size)
        if stray is not None:
            self._strays.append(stray)
        self.known += 1
        self._fresh += 1
        if self._fresh >= _ANEW or self.known <= _LEAST * 4:
            self._fresh = 0
            self.middle = median(self._logs)
            if len(self._strays) >= _LEAST:
                ordered = sorted(self._strays)
                last = len(ordered) - 1
                self.spread = max(_LEAST_SPREAD, (ordered[round(last * 0.84)] - ordered[round(last * 0.16)]) / 2)


class Sizes:
    """Which sizes are usual while nothing moves, by kind of place."""

    def __init__(self) -> None:
        self._usual: dict[int, _Usual] = {}
        self._drift = 0.0
        """How much larger all packets but key frames are than they used to be, as a logarithm: noise depends on light,
        and an encoder on its rate."""

    def learn(self, kind: int, log_size: float, stray: float | None) -> None:
        """A packet of this size came while nothing moved."""
        self._usual.setdefault(kind, _Usual()).add(log_size, stray)

    def stray(self, kind: int, log_size: float, follow_s: float) -> float | None:
        """By how much the size of the next packet strays, as a logarithm. None where the kind is not known. A drift is
        followed for `follow_s`."""
        usual = self._usual.get(kind)
        if usual is None or usual.known < _LEAST:
            return None
        if kind == _KEY:
            return None
        stray = log_size - usual.middle - self._drift
        self._drift += math.copysign(_FOLLOWS * follow_s * usual.spread, stray)
        return stray

    def odd(self, kind: int, stray: float | None) -> float | None:
        """By how many spreads it strays: positive where it is larger. None where that says nothing."""
        if stray is None or kind == _KEY:
            return None
        usual = self._usual[kind]
        least = self.spread * (1.0 if usual.known >= _ENOUGH else 2.0)
        return max(-_MOST_ODD, min(_MOST_ODD, stray / max(usual.spread, least)))

    @property
    def spread(self) -> float:
        """The spread of the commonest kind, as a logarithm."""
        common = max(self._usual.values(), key=lambda usual: usual.known, default=None)
        return _FIRST_SPREAD if common is None else common.spread


class Unrest:
    """How unusual packets are on average, and how unusual they are while nothing moves."""

    def __init__(self) -> None:
        self._levels = [0.0] * len(_SCALES_S)
        self._peaks = [0.0] * len(_SCALES_S)
        self._begun_s: float | None = None
        self._parts: list[tuple[float, ...]] = []
        self._doubtful: list[tuple[float, ...]] = []
        self._usual: deque[tuple[float, ...]] = deque(maxlen=_PARTS)
        self.limits = [math.inf] * len(_SCALES_S)
        """Beyond them something moves."""

    def add(self, odd: float, step_s: float, time_s: float, patience: float) -> bool:
        """The next packet, which lasts for `step_s`. Whether something moves: `patience` times the limits are
        exceeded."""
        for at, scale_s in enumerate(_SCALES_S):
            share = _share(step_s, scale_s)
            self._levels[at] += share * (odd - self._levels[at])
            self._peaks[at] = max(self._peaks[at], abs(self._levels[at]))
        if self._begun_s is None or not 0 <= time_s - self._begun_s < 10 * _PART_S:
            self._begun_s = time_s
        elif time_s - self._begun_s >= _PART_S:
            self._parts.append(tuple(self._peaks))
            del self._parts[:-_PARTS]
            self._begun_s, self._peaks = time_s, [abs(level) for level in self._levels]
        return any(abs(level) > patience * limit for level, limit in zip(self._levels, self.limits, strict=True))

    def settle(self, *, quiet: bool, step_s: float) -> None:
        """Pictures say whether anything moved since the last time this was said."""
        if quiet:
            self._usual.extend(self._parts)
            self.limits = [self._limit(at, step_s) for at in range(len(_SCALES_S))]
        self._parts.clear()

    def doubt(self) -> None:
        """It is not known yet whether something moved since the last time that was said."""
        self._doubtful = [*self._parts, tuple(self._peaks)]
        self._parts.clear()

    def end(self, *, moved: bool) -> None:
        """Nothing moves any more. Where nothing did, what was taken for it is usual."""
        if not moved:
            self._usual.extend(self._doubtful)
        self._doubtful = []
        self.begin()

    def begin(self) -> None:
        """What moved before says nothing of what comes."""
        self._levels, self._peaks = [0.0] * len(_SCALES_S), [0.0] * len(_SCALES_S)
        self._parts.clear()
        self._begun_s = None

    def _limit(self, at: int, step_s: float) -> float:
        share = _share(step_s, _SCALES_S[at])
        least = _LEAST_SIGMAS * math.sqrt(share / (2 - share))  # were sizes independent of each other
        peaks = sorted(part[at] for part in self._usual)
        usual = peaks[min(len(peaks) - 1, int(len(peaks) * _USUAL_SHARE))] if peaks else 0.0
        return max(least, _MARGIN * usual)


def _share(step_s: float, scale_s: float) -> float:
    return 1.0 - math.exp(-step_s / scale_s) if scale_s else 1.0
