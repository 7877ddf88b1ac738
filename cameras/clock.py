"""When a picture was taken. Pure: what the clocks of this machine show is an argument.

A stream carries a clock of its own: each picture's PTS, the presentation timestamp. It tells how far apart two pictures
were taken, also when the network held them back. What it does not tell is the time of day. So a live stream's PTS is
anchored to this machine's monotonic clock, and the monotonic clock to the wall clock:

    captured = PTS + anchor + (wall clock - monotonic clock)

The wall clock may be stepped by hours at any time (NTP, a person, a suspended machine); the monotonic clock may not.
The difference of the two is therefore read anew with every picture, while the spacing of pictures depends on the
monotonic clock alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from proto.types import now_ms

_MISSING_S = 2.0
_MISSING_FRAMES = 4.0
"""Pictures are missing when two of them lie further apart than both: in seconds, and in usual distances."""
_BACK_S = 0.5
"""PTS that goes back by more has jumped; by less it is out of order, and time stands still."""
_AHEAD_S = 1.0
"""PTS that goes forward so much further than the monotonic clock has jumped."""
_LATE_S = 1.0
_LATE_FOR_S = 10.0
"""A network that held pictures back delivers them faster than they were taken. A stream that is this late for this long
and does not catch up has no picture left to deliver: time was lost, or its PTS is wrong."""
_CATCHING_UP_S = 0.1
_WRONG_AFTER = 3
_WRONG_WITHIN_S = 600.0
"""PTS that had to be anchored anew so often within this time is no clock: arrival times are used from then on."""
_CREEP = 0.002
"""How much slower than this machine's clock PTS may run before it counts as late. Crystals differ by 0.0001."""
_LONGEST_STEP_S = 1.0
_STEP_MS = 1000
"""The wall clock was stepped when it moved so much further than the monotonic clock between two pictures. Where it was
moved back by less, time stands still until it is reached again."""
_HOLE_S = 60.0
_HOLE_FRAMES = 10.0
"""PTS of a recording that goes forward by more than both has jumped; by less, the recording has a hole."""
_FOLLOWS = 0.1
_LONGEST_LEARNED_S = 10.0
_READ_TOGETHER_S = 0.005


@dataclass(frozen=True, slots=True)
class Instant:
    """What the clocks of this machine show at one moment."""

    mono_s: float
    wall_ms: int


def this_instant() -> Instant:
    """Read both clocks, close together: a thread that is interrupted between them reads them again."""
    for _ in range(3):
        mono_s = time.monotonic()
        wall_ms = now_ms()
        if time.monotonic() - mono_s < _READ_TOGETHER_S:
            break
    return Instant(mono_s, wall_ms)


def _missing(step_s: float, usual_s: float) -> bool:
    """Whether pictures are missing between two that are `step_s` apart, where they usually are `usual_s` apart."""
    return step_s > max(_MISSING_S, _MISSING_FRAMES * usual_s)


def _learned(usual_s: float, step_s: float) -> float:
    """How far apart pictures usually are, now that two were `step_s` apart."""
    if step_s <= 0:
        return usual_s
    return usual_s + _FOLLOWS * (min(step_s, _LONGEST_LEARNED_S) - usual_s)


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a live picture was taken."""

    captured_ms: int
    """By the wall clock."""
    stream_s: float
    """By the monotonic clock: never goes back, whatever is done to the wall clock."""
    after_gap: bool
    """The first picture, or pictures are missing before it, or the stream's clock or the wall clock jumped."""


class LiveClock:
    """Stamps the pictures of one live source, in order, from its opening on.

    - A picture is never stamped later than it arrived, and `captured_ms` goes back only after a gap.
    - Pictures that the network held back keep their true distances, whenever they arrive.
    - A picture that arrives with less delay than all before it shows that the anchor was too late: the anchor moves at
      once, and time stands still until it is reached again.
    - The anchor creeps forward, so that a slow crystal makes no difference that adds up.
    - PTS that jumps, or stays late without catching up, is anchored anew, which is a gap. When that happens again and
      again, and for pictures without PTS, the time of arrival counts.
    - The wall clock's steps are followed at the next picture, which is then after a gap.
    """

    def __init__(self) -> None:
        self._usual_s = 0.04
        self._last: Stamp | None = None
        self._seen = Instant(0.0, 0)
        self._pts_s: float | None = None
        self._anchor_s = 0.0
        self._late_since_s: float | None = None
        self._least_late_s = 0.0
        self._anchored_s: list[float] = []
        self._arrival_only = False

    def stamp(self, pts_s: float | None, now: Instant) -> Stamp:
        """Stamp the picture that arrived `now`. `pts_s` counts from anywhere."""
        if self._arrival_only:
            pts_s = None
        gap = self._follow(pts_s, now)
        stream_s = now.mono_s if pts_s is None else min(pts_s + self._anchor_s, now.mono_s)
        last = self._last
        if last is not None:
            stream_s = max(stream_s, last.stream_s)
        captured_ms = now.wall_ms - round((now.mono_s - stream_s) * 1000)
        if last is not None:
            moved_ms = now.wall_ms - self._seen.wall_ms - (now.mono_s - self._seen.mono_s) * 1000
            if abs(moved_ms) > _STEP_MS or last.captured_ms - captured_ms > _STEP_MS:
                gap = True
            elif not gap:
                captured_ms = max(captured_ms, last.captured_ms)
        self._seen = now
        self._last = Stamp(captured_ms, stream_s, gap)
        return self._last

    def _follow(self, pts_s: float | None, now: Instant) -> bool:
        """Move the anchor. Whether this picture comes after a gap."""
        before_s, self._pts_s = self._pts_s, pts_s
        passed_s = now.mono_s - self._seen.mono_s
        if self._last is None or pts_s is None or before_s is None:
            if pts_s is not None:
                self._anchor_at(pts_s, now)
            return self._last is None or self._misses(passed_s)
        step_s = pts_s - before_s
        ahead_s = pts_s + self._anchor_s - now.mono_s
        if step_s < -_BACK_S or (step_s - passed_s > _AHEAD_S and ahead_s > _AHEAD_S):
            self._anchor_at(pts_s, now)
            return True
        self._anchor_s += min(_CREEP * min(passed_s, _LONGEST_STEP_S), max(0.0, -ahead_s))
        self._anchor_s = min(self._anchor_s, now.mono_s - pts_s)
        if self._stays_late(now.mono_s - pts_s - self._anchor_s, now.mono_s):
            self._anchor_at(pts_s, now)
            self._distrust(now.mono_s)
            return True
        return self._misses(step_s)

    def _misses(self, step_s: float) -> bool:
        missing = _missing(step_s, self._usual_s)
        self._usual_s = _learned(self._usual_s, step_s)
        return missing

    def _anchor_at(self, pts_s: float, now: Instant) -> None:
        self._anchor_s = now.mono_s - pts_s
        self._late_since_s = None

    def _stays_late(self, late_s: float, mono_s: float) -> bool:
        if late_s <= _LATE_S:
            self._late_since_s = None
        elif self._late_since_s is None or late_s < self._least_late_s - _CATCHING_UP_S:
            self._late_since_s, self._least_late_s = mono_s, late_s
        else:
            return mono_s - self._late_since_s > _LATE_FOR_S
        return False

    def _distrust(self, mono_s: float) -> None:
        self._anchored_s = [at_s for at_s in self._anchored_s if mono_s - at_s < _WRONG_WITHIN_S] + [mono_s]
        self._arrival_only = len(self._anchored_s) >= _WRONG_AFTER


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a picture lies in a recording."""

    at_s: float
    """File time: seconds since the recording's first picture."""
    after_gap: bool
    """The first picture, or pictures are missing before it, or PTS jumped."""


class RecordingClock:
    """Turns the PTS of a recording into file time, which never goes back.

    Where PTS jumps, as in a recording that was put together from several, time goes on by one usual distance. A hole
    of at most a minute keeps its length. Both are gaps.
    """

    def __init__(self, frame_s: float, begins_s: float = 0.0) -> None:
        """`begins_s` is the file time of the first picture, `frame_s` how far apart pictures should be."""
        self._usual_s = frame_s
        self._begins_s = begins_s
        self._at_s: float | None = None
        self._pts_s: float | None = None
        self._anchor_s = 0.0

    @property
    def next_s(self) -> float:
        """Where a picture would lie that follows the last one."""
        return self._begins_s if self._at_s is None else self._at_s + self._usual_s

    def place(self, pts_s: float | None) -> Placed:
        """Place the next picture."""
        before_s, self._pts_s = self._pts_s, pts_s
        at_s, gap = self.next_s, self._at_s is None
        if pts_s is not None:
            step_s = 0.0 if before_s is None else pts_s - before_s
            jumped = step_s < -_BACK_S or step_s > max(_HOLE_S, _HOLE_FRAMES * self._usual_s)
            if before_s is None or jumped:
                self._anchor_s = at_s - pts_s
                gap = gap or jumped
            else:
                gap = _missing(step_s, self._usual_s)
                self._usual_s = _learned(self._usual_s, step_s)
                at_s = max(self._at_s or self._begins_s, pts_s + self._anchor_s)
        self._at_s = at_s
        return Placed(at_s, gap)
