"""How a camera is doing, from what was counted of it, and what would make it better. Pure: time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from cameras.meter import SourceFacts
from cameras.ports import CameraState
from catalog.statuses import STALE_MS, CameraStatus

STATES = ("connecting", "live", "silent", "failing", "done")
_RATES_MS = 30_000
_SAMPLE_MS = 1_000
_COST_MS = 600_000
"""Long: a camera before which somebody walks by must not change its process for that."""
_SILENT_MS = 5_000
_SILENT_PICTURES = 3
"""A camera is silent when nothing came for as long as so many pictures take, and for five seconds."""
_AGAIN_MS = STALE_MS // 3
_LONG_GOP_S = 4.0
_GOOD_GOP_S = 2
_SLOW = 0.7
_LARGE_PIXELS = 2_600_000
_WRONG_CLOCK_MS = 5_000
_LONGEST_WHY = 300


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted of a camera since it is watched."""

    state: CameraState
    live: bool
    """False for a file."""
    looked: int
    kept: int
    failures: int
    lost: int
    source: SourceFacts | None
    spent_s: float = 0.0
    """Processor time that it took."""


class StatusWatch:
    """The status of one camera, as long as one process watches it."""

    def __init__(self, camera: str, fps_wanted: float, began_ms: int, watched_by: str = "", cost: float = 0.0) -> None:
        """`cost`: what it cost where it was watched before; 0: not known."""
        self._camera = camera
        self._watched_by = watched_by
        self._cost = Cost(began_ms, cost)
        self._fps_wanted = fps_wanted
        self._state, self._since_ms = "connecting", began_ms
        self._samples = deque([(began_ms, 0, 0)])
        self._told: CameraStatus | None = None

    def status(self, counted: Counted, now_ms: int) -> CameraStatus:
        """How it is doing now."""
        state, since_ms, why = self._judged(counted, now_ms)
        if state != self._state:
            self._state, self._since_ms = state, since_ms
        got, kept = self._rates(counted, now_ms)
        source = counted.source or SourceFacts()
        return CameraStatus(
            camera=self._camera,
            state=self._state,
            since_ms=self._since_ms,
            told_ms=now_ms,
            why=why[:_LONGEST_WHY],
            fps_wanted=self._fps_wanted,
            fps_got=round(got, 2),
            fps_kept=round(kept, 2),
            width=source.width,
            height=source.height,
            codec=source.codec,
            source_fps=round(source.fps, 2),
            bits_per_second=source.bits_per_second,
            gop_frames=source.gop_frames,
            clock_ahead_ms=source.clock_ahead_ms,
            failures=counted.failures,
            lost=counted.lost,
            decoded_share=round(source.decoded_share, 3),
            gate=source.gate,
            gate_why=source.gate_why[:_LONGEST_WHY],
            cost=self._cost.now(counted.spent_s, now_ms),
            watched_by=self._watched_by,
            advice=advice_on(source, self._fps_wanted) if counted.live and state == "live" else (),
        )

    def due(self, status: CameraStatus) -> bool:
        """Whether it is to be told: something is different, or it was long ago."""
        told = self._told
        return (
            told is None
            or (told.state, told.why, told.advice) != (status.state, status.why, status.advice)
            or (told.gate == "unable") != (status.gate == "unable")
            or not 0 <= status.told_ms - told.told_ms < _AGAIN_MS
        )

    def told(self, status: CameraStatus) -> None:
        """The catalog has it."""
        self._told = status

    def _judged(self, counted: Counted, now_ms: int) -> tuple[str, int, str]:
        """State, since when, and why."""
        state = counted.state
        match state.now:
            case "failed":
                return "failing", now_ms, state.error
            case "done":
                return "done", now_ms, ""
            case "waiting":
                return "connecting", now_ms, ""
        picture_ms = now_ms if state.picture_ms is None else state.picture_ms
        silent_ms = max(_SILENT_MS, _SILENT_PICTURES * 1000 / self._fps_wanted)
        if counted.live and now_ms - picture_ms > silent_ms:
            return "silent", picture_ms, "its connection is open and sends no picture"
        return "live", now_ms, ""

    def _rates(self, counted: Counted, now_ms: int) -> tuple[float, float]:
        """Pictures looked at and kept per second, over the last half minute."""
        newest_ms = self._samples[-1][0]
        if not 0 <= now_ms - newest_ms < 10 * _RATES_MS:
            self._samples.clear()  # the clock was set
        if not self._samples or now_ms - newest_ms >= _SAMPLE_MS:
            self._samples.append((now_ms, counted.looked, counted.kept))
        while len(self._samples) > 1 and now_ms - self._samples[0][0] > _RATES_MS:
            self._samples.popleft()
        begun_ms, looked, kept = self._samples[0]
        passed_s = (now_ms - begun_ms) / 1000
        if passed_s <= 0:
            return 0.0, 0.0
        return (counted.looked - looked) / passed_s, (counted.kept - kept) / passed_s


class Cost:
    """What a camera costs, in cores: at first the mean, and later that of about the last ten minutes.

    What is known from before goes on: the first minutes of a camera, in which all is decoded, say little.
    """

    def __init__(self, began_ms: int, before: float = 0.0) -> None:
        self._at_ms = began_ms
        self._began_ms = began_ms - _COST_MS if before else began_ms
        self._spent_s, self._cost = 0.0, before

    def now(self, spent_s: float, now_ms: int) -> float:
        """The cost, given the processor time spent so far. 0 until it is known."""
        passed_ms = now_ms - self._at_ms
        if not 0 <= passed_ms < _COST_MS:
            self._began_ms, self._at_ms, self._spent_s = (
                self._began_ms + passed_ms,
                now_ms,
                spent_s,
            )  # the clock was set
        elif passed_ms >= _SAMPLE_MS:
            share = passed_ms / min(now_ms - self._began_ms, _COST_MS)
            self._cost += share * (1000 * (spent_s - self._spent_s) / passed_ms - self._cost)
            self._at_ms, self._spent_s = now_ms, spent_s
        return round(self._cost, 5) if self._at_ms - self._began_ms >= _RATES_MS else 0.0


def advice_on(source: SourceFacts, fps_wanted: float) -> tuple[str, ...]:
    """What would make a live camera better, in sentences."""
    found = []
    gop_s = source.gop_frames / source.fps if source.fps else 0.0
    if gop_s > _LONG_GOP_S:
        found.append(
            f"a key frame comes every {source.gop_frames} pictures, {gop_s:.0f} s at {source.fps:.0f} a second: after "
            f"a break nothing is seen until the next, and clips begin up to {gop_s:.0f} s early; ask the camera for a "
            f"key frame every {_GOOD_GOP_S} s"
        )
    if 0 < source.fps < _SLOW * fps_wanted:
        found.append(
            f"it sends {source.fps:.3g} pictures a second and {fps_wanted:g} are wanted: raise its rate, or give it "
            f"--fps {source.fps:.2g}"
        )
    if source.gate == "unable" and source.gate_why:
        found.append(f"all of it is decoded: {source.gate_why}")
    if source.codec == "mjpeg":
        found.append("it sends whole JPEG pictures: H.264 takes about a tenth of the network and of the disk")
    if source.width * source.height > _LARGE_PIXELS:
        found.append(
            f"it sends {source.width} x {source.height}, which costs much to decode: give the address of its second, "
            "smaller stream"
        )
    if source.clock_ahead_ms is not None and abs(source.clock_ahead_ms) > _WRONG_CLOCK_MS:
        which = "ahead of" if source.clock_ahead_ms > 0 else "behind"
        found.append(
            f"its clock is {abs(source.clock_ahead_ms) / 1000:,.0f} s {which} this machine's, and so is what it writes "
            "into its pictures: give it a time server. Moments are by this machine's clock"
        )
    return tuple(found)
