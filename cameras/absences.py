"""What the catalog is told of one camera beside its frames: when it was away, which frames were lost, when it was seen
last."""

from __future__ import annotations

import logging
import threading
import time

from cameras.clock import this_instant
from cameras.gaps import AwayGaps, LostGaps
from cameras.ports import Notebook
from catalog.progress import Progress
from proto.errors import WatchwordError
from proto.types import now_ms

log = logging.getLogger("watchword.cameras")

_NOTE_S = 5.0
_LIVE = "live"
"""`Progress.source` of a live camera: its `at_s` is when it was last seen, in seconds since the Unix epoch."""


class Absences:
    """Of one camera, as long as one process watches it. Safe for threads."""

    def __init__(self, camera: str, notes: Notebook, fps: float) -> None:
        self._camera = camera
        self._notes = notes
        self._interval_s = 1 / fps
        self._began = this_instant()
        self._telling = threading.Lock()  # gaps are told from the thread and from the loop
        self._away: AwayGaps | None = None
        self._losses = LostGaps(camera)
        self._opened_ms = 0
        self._noted_s = time.monotonic()

    def begin_live(self) -> Progress:
        """A new run of a live camera. When it was seen before, the time since then is a gap. Blocks."""
        if self._away is None:
            last_ms = self._last_ms()
            with self._telling:  # a thread that was left behind here may come back
                self._away = self._away or AwayGaps(
                    self._camera, self._began, last_ms, live=True, interval_s=self._interval_s
                )
        self._opened_ms = max(now_ms(), self._opened_ms + 1)
        return self._seen(0.0)

    def begin_file(self) -> None:
        """A replay begins, or goes on."""
        self._away = AwayGaps(self._camera, this_instant(), None, live=False)

    def picture(self, captured_ms: int, mono_s: float, *, after_gap: bool) -> None:
        """A picture came."""
        if self._away is not None:
            with self._telling:
                gap = self._away.picture(captured_ms, mono_s, after_gap=after_gap)
                if gap is not None:
                    self._notes.gap(gap)

    def lost(self, captured_ms: int) -> None:
        """A frame is given up."""
        with self._telling:
            self._notes.gap(self._losses.frame(captured_ms))

    def note(self, *, now: bool = False) -> None:
        """Tell a gap that lasts, and when the camera was last seen."""
        away = self._away
        if away is None:
            return
        with self._telling:
            gap = away.lasting(this_instant())
            if gap is not None:
                self._notes.gap(gap)
        if away.last_ms is not None and (now or time.monotonic() - self._noted_s > _NOTE_S):
            self._noted_s = time.monotonic()
            self._notes.progress(self._seen(away.last_ms / 1000))

    def _last_ms(self) -> int | None:
        """When the camera was seen before. One that never was counts as seen now: should this process be killed before
        it notes more, the time since then is a gap."""
        try:
            known = self._notes.progress_of(self._camera)
            if known is not None and known.source == _LIVE:
                return round(known.at_s * 1000)
            self._opened_ms = self._began.wall_ms
            self._notes.begin(self._seen(self._opened_ms / 1000))
        except WatchwordError as error:
            log.warning("camera %s: when it was last seen cannot be read or kept: %s", self._camera, error)
        return None

    def _seen(self, at_s: float) -> Progress:
        return Progress(self._camera, _LIVE, self._opened_ms, 0, at_s, 0, ended=False)
