"""Whether packets are worth decoding. Pure: packets, what was seen in pictures, and time are arguments.

While nothing moves, only key frames are decoded, a picture each two seconds or as often as there are. What packets are
like meanwhile is learned per camera, from times in which the gate of pictures saw nothing move. Packets that are not
like that open it: all that was kept since the last picture is decoded, and everything from there on, until both packets
and pictures have been quiet for a while. Where that cannot work, it says why, and everything is decoded.
"""

from __future__ import annotations

import math
from collections import deque
from enum import StrEnum

from cameras.packet_sizes import Places, Sizes, Unrest

_PACE_S = 2.0
"""While nothing moves, key frames that follow each other closer are not all decoded."""
_SIZES_S = 10.0
_LIMITS_S = 10.0
"""So long nothing may move until sizes are known, and then so long until it is known how far they stray."""
_HOLD_S = 3.0
_SETTLES_S = 20.0
"""Packets that stay unusual for so long while pictures show nothing are another usual: light, or the camera's rate."""
_BACK_S = 1.0
_JUMP_S = 3.0
"""PTS that goes back or forward by more is another stream."""
_FEW_PACKETS = 12
_CLOSE_S = 4.0
"""Where key frames lie closer, what moves is found in them, whatever packets say."""
_PATIENCE = 1.5
"""There, packets need to show only what comes and goes between two key frames."""
_MOST_RISE = 0.1
"""Where sizes must change by more until it is noticed, they say little. What moves over noise changes them by few per
cent, upwards or downwards."""
_MISSES = 2
_MISSES_S = 600.0
_AGAIN_S = 60.0
_MUCH_LATER_S = 600.0
_BUSY_S = 60.0
_LONGEST_STEP_S = 1.0
_MOST_PENDING = 10_000


class Do(StrEnum):
    """What becomes of a packet."""

    DECODE = "decode"
    """Decode what was kept, and this one."""
    KEY = "key"
    """Decode this key frame by itself. What was kept before is over."""
    DUE = "due"
    """It stands by itself: decode it if a picture is due, otherwise it is over."""
    KEEP = "keep"
    """Keep it undecoded."""


class Gate(StrEnum):
    """What the gate is doing."""

    OFF = "off"
    """Everything is decoded, since it was not wanted or is a file."""
    LEARNING = "learning"
    """Everything is decoded until packets are known."""
    GATING = "gating"
    """Nothing moves: key frames are decoded."""
    OPEN = "open"
    """Something moves: everything is decoded."""
    INTRA = "intra"
    """Every picture is a key frame: those that are looked at are decoded."""
    UNABLE = "unable"
    """Everything is decoded, for a reason that is told."""


class PacketGate:
    """The gate of one opened source."""

    def __init__(self, heartbeat_s: float, fps: float) -> None:
        """A picture is decoded at least every `heartbeat_s`; at most `fps` a second are looked at."""
        self._heartbeat_s = heartbeat_s
        self._pace_s = max(_PACE_S, 1 / fps)
        self.why = ""
        self.opened_by = ""
        """What opened it last: packets, or a picture."""
        self._until_s = 0.0
        self._misses: deque[float] = deque(maxlen=100)
        self._hits: deque[float] = deque(maxlen=100)
        self._step_s = 0.04
        self._time_s: float | None = None
        self._keys_in_a_row = 0
        self._learn("learns what its packets are like")

    def _learn(self, why: str) -> None:
        self.state, self.why = Gate.LEARNING, why
        self._places, self._sizes, self._unrest = Places(), Sizes(), Unrest()
        self._pending: list[tuple[int, float, float | None]] = []
        self._pts_s: float | None = None
        self._begun_s: float | None = None
        self._key_s: float | None = None
        self._groups: deque[float] = deque(maxlen=3)
        self._quiet_s = 0.0
        self._limits_from_s: float | None = None
        self._looked_s: float | None = None
        self._news = True
        self._moved_s = self._burst_s = 0.0
        self._seen_moving = False

    @property
    def gop_s(self) -> float:
        """How far apart key frames are, by those seen last; 0 while that is not known."""
        return max(self._groups, default=0.0)

    def restart(self, why: str) -> None:
        """What it sends is something else from here on."""
        self._learn(why)

    def refuse(self, why: str, for_s: float = _AGAIN_S) -> None:
        """Decode everything for a while."""
        self._learn("")
        self.state, self.why = Gate.UNABLE, why
        self._until_s = (self._time_s or 0.0) + for_s

    def packet(self, size: int, *, key: bool, pts_s: float | None, time_s: float) -> Do:
        """The next packet came at `time_s`, by a clock that never goes back."""
        self._pass(time_s)
        self._keys_in_a_row = self._keys_in_a_row + 1 if key else 0
        if self._keys_in_a_row > _FEW_PACKETS:
            return self._intra()
        if self.state is Gate.INTRA:
            self._learn("it sends more than key frames now")
        if self.state is Gate.UNABLE:
            if time_s < self._until_s:
                return Do.DECODE
            self._learn("tries again")
        if pts_s is None:
            self.refuse("its packets carry no times")
            return Do.DECODE
        self._follow(pts_s)
        if self._begun_s is None:
            self._begun_s = time_s
        if key:
            self._group(time_s)
        moves = self._measured(size, key=key, pts_s=pts_s, time_s=time_s)
        match self.state:
            case Gate.GATING:
                return self._gated(moves, key=key, time_s=time_s)
            case Gate.OPEN:
                self._stay_open(moves, time_s)
            case Gate.LEARNING:
                self._wait_for_key(time_s)
        return Do.DECODE

    def looked(self, *, news: bool, time_s: float) -> None:
        """A picture was decoded and looked at; `news`: something moved in it."""
        if self.state in (Gate.UNABLE, Gate.INTRA):
            return
        quiet, ended, self._news = not news and not self._news, self._news and not news, news
        passed_s = 0.0 if self._looked_s is None else time_s - self._looked_s
        self._looked_s = time_s
        if ended:
            self._unrest.begin()
        if self._limits_from_s is not None and self.state is not Gate.OPEN:
            self._unrest.settle(quiet=quiet, step_s=self._step_s)
        if quiet:
            for kind, log_size, stray in self._pending:
                self._sizes.learn(kind, log_size, stray)
        self._pending.clear()
        if news:
            self._moved(time_s)
        elif quiet and self.state is Gate.LEARNING:
            self._quiet_s += passed_s
            self._learned()
        if self.state is Gate.LEARNING and self._begun_s is not None and time_s - self._begun_s > _BUSY_S:
            self.why = "something moves nearly all the time"

    def glanced(self, time_s: float) -> None:
        """A key frame shows that something may have moved, which packets did not say. What was kept is decoded."""
        if self.state is Gate.GATING:
            self._miss(time_s)

    def _pass(self, time_s: float) -> None:
        if self._time_s is not None:
            step_s = min(max(time_s - self._time_s, 0.0), _LONGEST_STEP_S)
            self._step_s += 0.02 * (step_s - self._step_s)
        self._time_s = time_s

    def _intra(self) -> Do:
        if self.state is not Gate.INTRA:
            self._learn("")
            self.state, self.why = Gate.INTRA, "every picture is a key frame: only those that are due are decoded"
        return Do.DUE

    def _follow(self, pts_s: float) -> None:
        before_s, self._pts_s = self._pts_s, pts_s
        if before_s is not None and not -_BACK_S <= pts_s - before_s <= max(_JUMP_S, 10 * self._step_s):
            self._learn("the times of its packets jumped")
            self._pts_s = pts_s

    def _group(self, time_s: float) -> None:
        if self._key_s is not None:
            self._groups.append(time_s - self._key_s)
            if self.gop_s > self._heartbeat_s:
                self.refuse(
                    f"a key frame comes every {self.gop_s:.0f} s, and a picture is looked at at least every "
                    f"{self._heartbeat_s:g} s: ask the camera for a key frame every 2 s"
                )
        self._key_s = time_s

    def _measured(self, size: int, *, key: bool, pts_s: float, time_s: float) -> bool:
        """Whether packets say that something moves."""
        kind, log_size = self._places.kind(pts_s, key=key), math.log(max(1, size))
        stray = self._sizes.stray(kind, log_size, 0.0 if self.state is Gate.OPEN else self._step_s)
        if len(self._pending) < _MOST_PENDING:
            self._pending.append((kind, log_size, stray))
        if self._limits_from_s is None:
            return False
        odd = self._sizes.odd(kind, stray)
        patience = _PATIENCE if self.gop_s <= _CLOSE_S else 1.0
        return odd is not None and self._unrest.add(odd, self._step_s, time_s, patience)

    def _gated(self, moves: bool, *, key: bool, time_s: float) -> Do:
        looked_s = time_s if self._looked_s is None else self._looked_s
        if moves:
            self._open("packets", time_s)
            return Do.DECODE
        if time_s - looked_s > self._heartbeat_s:
            self.refuse(f"no key frame came for {self._heartbeat_s:g} s")
            return Do.DECODE
        return Do.KEY if key and time_s - looked_s >= self._pace_s - 0.5 * self._step_s else Do.KEEP

    def _open(self, by: str, time_s: float) -> None:
        self.state, self.why, self.opened_by = Gate.OPEN, "something moves", by
        self._moved_s = self._burst_s = time_s
        self._news = True
        self._seen_moving = by == "picture"
        self._unrest.doubt()

    def _stay_open(self, moves: bool, time_s: float) -> None:
        if moves:
            self._moved_s = time_s
            if time_s - self._burst_s > _SETTLES_S and not self._news:
                self._learn("its packets became others while nothing moved")
        elif time_s - self._moved_s > _HOLD_S and not self._news:
            self.state, self.why = Gate.GATING, ""
            self._unrest.end(moved=self._seen_moving)

    def _wait_for_key(self, time_s: float) -> None:
        since_s = self._begun_s if self._key_s is None else self._key_s
        if since_s is not None and time_s - since_s > self._heartbeat_s:
            self.why = f"no key frame came for {self._heartbeat_s:g} s: ask the camera for one every 2 s"

    def _moved(self, time_s: float) -> None:
        """A picture shows that something moves."""
        if self.state is Gate.GATING:
            self._miss(time_s)
        elif self.state is Gate.OPEN:
            self._moved_s = self._burst_s = time_s
            if not self._seen_moving:
                self._seen_moving = True
                self._hits.append(time_s)

    def _miss(self, time_s: float) -> None:
        """A picture says so first. Where key frames lie close, nothing was lost by that."""
        self._open("picture", time_s)
        self._misses.append(time_s)
        misses, hits = (sum(time_s - at_s < _MISSES_S for at_s in found) for found in (self._misses, self._hits))
        if self.gop_s > _CLOSE_S and misses >= _MISSES and misses > hits:
            self.refuse(
                f"things moved that its packets did not show, and a key frame comes only every {self.gop_s:.0f} s: ask "
                "the camera for one every 2 s",
                _MUCH_LATER_S,
            )

    def _learned(self) -> None:
        """Go on with learning, since it was quiet."""
        if self._limits_from_s is None:
            if self._quiet_s >= _SIZES_S and self._groups:
                self._limits_from_s = self._quiet_s
        elif self._quiet_s - self._limits_from_s >= _LIMITS_S:
            rise = min(self._unrest.limits) * self._sizes.spread
            if self.gop_s > _CLOSE_S and rise > _MOST_RISE:
                self.refuse(
                    f"the sizes of its packets vary too much to tell when something moves, and a key frame comes only "
                    f"every {self.gop_s:.0f} s: ask the camera for one every 2 s",
                    _MUCH_LATER_S,
                )
            else:
                self.state, self.why = Gate.GATING, ""
