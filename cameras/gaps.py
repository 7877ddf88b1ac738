"""Which times of one camera hold no picture, and which frames were given up. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import replace

from cameras.clock import Instant
from catalog.coverage import Gap, Reason

_AWAY_S = 5.0
"""A live camera that showed nothing for so long is told to be away while it still is, and again every so often."""
_AWAY_PICTURES = 3.0
"""Where pictures come seldom, so many of them must be missing."""
_FORGETS = 0.9
_WORTH_MS = 1000
"""A shorter gap is not told, unless it was told already while it lasted."""
_ONE_LOSS_MS = 10_000
"""Frames that are given up within so much time are one gap."""


class AwayGaps:
    """Tells the times in which a camera showed nothing, from the last picture to the first one after."""

    def __init__(
        self, camera: str, began: Instant, last_ms: int | None, *, live: bool, interval_s: float = 0.0
    ) -> None:
        """`last_ms`: when the camera was last seen before it was watched by this process.

        `interval_s`: how often a picture is looked at; a source may be slower, which is learned.
        """
        self._camera = camera
        self._live = live
        self._seen_s = began.mono_s
        self._interval_s = self._usual_s = interval_s
        self._known = last_ms is not None
        self._last_ms = began.wall_ms if last_ms is None else last_ms
        self._told_s: float | None = None

    @property
    def last_ms(self) -> int | None:
        """The captured time of the last picture; None when there was none yet."""
        return self._last_ms if self._known else None

    def picture(self, captured_ms: int, mono_s: float, *, after_gap: bool) -> Gap | None:
        """A picture came. Gives the gap that it ends."""
        start_ms, told, known = self._last_ms, self._told_s is not None, self._known
        if not after_gap:
            self._usual_s = max(mono_s - self._seen_s, self._interval_s, _FORGETS * self._usual_s)
        self._last_ms, self._seen_s, self._told_s, self._known = captured_ms, mono_s, None, True
        if told:
            # What was told while nothing came may have come late, and then nothing is missing.
            end_ms = max(start_ms, captured_ms) if after_gap else start_ms
            return Gap(self._camera, Reason.AWAY, start_ms, end_ms)
        if after_gap and known and captured_ms - start_ms >= _WORTH_MS:
            return Gap(self._camera, Reason.AWAY, start_ms, captured_ms)
        return None

    def lasting(self, now: Instant) -> Gap | None:
        """The gap that lasts now, every few seconds."""
        silent_s = now.mono_s - (self._seen_s if self._told_s is None else self._told_s)
        if not self._live or silent_s < max(_AWAY_S, _AWAY_PICTURES * self._usual_s):
            return None
        self._told_s = now.mono_s
        return Gap(self._camera, Reason.AWAY, self._last_ms, max(self._last_ms, now.wall_ms))


class LostGaps:
    """Tells the times whose frames were given up, and how many."""

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._gap: Gap | None = None

    def frame(self, captured_ms: int) -> Gap:
        """A frame is given up. Gives its gap, which grows while frames are lost one after another."""
        gap = self._gap
        if gap is None or not gap.start_ms <= captured_ms <= gap.end_ms + _ONE_LOSS_MS:
            gap = Gap(self._camera, Reason.LOST, captured_ms, captured_ms)
        self._gap = replace(gap, end_ms=max(gap.end_ms, captured_ms), frames=gap.frames + 1)
        return self._gap
