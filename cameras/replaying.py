"""A replay: one file after the other, sampled by file time, at its own pace, from where it stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from cameras.address import files_of, is_picture, shown
from cameras.clock import RecordingClock
from cameras.meter import SourceFacts
from cameras.pace import Pace
from cameras.picture import Darkroom, Picture, Recorded
from cameras.remux import Tap
from cameras.sampling import RecordingSampler
from cameras.settings import CameraSettings
from proto.errors import Invalid
from proto.types import Camera

log = logging.getLogger("watchword.cameras")

_SAME_S = 0.001
"""File times of two replays that differ by less are of the same picture."""


class Played(Protocol):
    """An open file."""

    darkroom: Darkroom

    def facts(self) -> SourceFacts:
        """What it is."""

    def frame_s(self) -> float:
        """How long one frame lasts."""

    def packets(self) -> Iterator[Any]:
        """All of it."""

    def skipped(
        self, packets: Iterator[Any], clock: RecordingClock, first_s: float, until_s: float
    ) -> tuple[RecordingClock, Iterator[Any]]:
        """What is left when all was passed over that need not be decoded to see the picture at `until_s`."""

    def seen(self, tap: Tap, packets: Iterator[Any]) -> AbstractContextManager[Iterator[Any]]:
        """The packets, seen by `tap`."""

    def frames(self, silent_after_s: float | None = None, packets: Iterable[Any] | None = None) -> Iterator[Any]:
        """The packets, decoded."""


class Replay:
    """The replay of one file, or of the files of a folder. For one use."""

    def __init__(
        self,
        camera: Camera,
        settings: CameraSettings,
        stop: threading.Event,
        opened: Callable[[Path], AbstractContextManager[Played]],
        pts_s: Callable[[Any], float | None],
        tap: Tap,
    ) -> None:
        """The packets of videos pass through `tap`."""
        self._camera, self._settings, self._stop, self._tap = camera, settings, stop, tap
        self._opened, self._pts_s = opened, pts_s
        self._sampler = RecordingSampler(settings.fps)
        self._pace = Pace(camera.speed, 0.0)
        self._at_s = 0.0  # file time before the next file
        self._sought_s: float | None = None  # until the picture at this file time was found
        self._start_ms = 0
        self._over = False  # it was stopped while it waited

    def pictures(self, start_ms: int, from_s: float | None) -> Iterator[Picture]:
        """The pictures from this file time on, whose first is that of `start_ms`. Raises Invalid where there is none.

        A file of a folder that cannot be read is passed over.
        """
        self._start_ms, self._sought_s = start_ms, from_s
        self._pace = Pace(self._camera.speed, from_s or 0.0)
        while not self._stop.is_set():
            files, passed_s = files_of(self._camera.url), self._at_s
            for path in files:
                try:
                    yield from self._file(path)
                except Invalid as error:
                    if len(files) == 1:
                        raise
                    log.warning("camera %s: %s is passed over: %s", self._camera.name, path.name, error)
                if self._stop.is_set() or self._over:
                    return
            if self._at_s <= passed_s:
                raise Invalid(f"{shown(self._camera.url)} holds no picture", todo="give a video that can be played")
            if not self._camera.loop:
                return
            self._pass_rounds(self._at_s - passed_s)

    def _pass_rounds(self, round_s: float) -> None:
        """Rounds are equally long, so those before the picture that is sought are passed over at once."""
        if self._sought_s is not None and self._at_s < self._sought_s:
            self._at_s += round_s * int((self._sought_s - self._at_s) / round_s)

    def _file(self, path: Path) -> Iterator[Picture]:
        """The pictures of one file. A file that is one picture lasts as long as one is looked at."""
        one_s = 1 / self._settings.fps if is_picture(path) else 0.0
        sought_s = self._sought_s
        if sought_s is not None and one_s and self._at_s + one_s <= sought_s - _SAME_S:
            self._at_s += one_s
            return
        first_s = None if sought_s is None else self._first_pts_s(path)
        after_gap = not one_s or not self._at_s  # pictures of a folder follow each other
        with self._opened(path) as source:
            clock, packets = RecordingClock(one_s or source.frame_s(), self._at_s), source.packets()
            if sought_s is not None and first_s is not None:
                clock, packets = source.skipped(packets, clock, first_s, sought_s)
            seen = nullcontext(packets) if one_s else source.seen(self._tap, packets)
            try:
                with seen as passing:
                    yield from self._pictures(source, source.frames(packets=passing), clock, after_gap, one_s)
            finally:
                self._at_s = clock.next_s

    def _pictures(
        self, source: Played, frames: Iterator[Any], clock: RecordingClock, after_gap: bool, one_s: float
    ) -> Iterator[Picture]:
        """Those of the frames that are wanted, each at its time."""
        for frame in frames:
            if self._stop.is_set():
                return
            placed = clock.place(self._pts_s(frame))
            captured_ms = self._start_ms + round(placed.at_s * 1000)
            if not one_s:
                self._tap.stamped(frame, captured_ms)
            after_gap = after_gap or (placed.after_gap and not one_s)
            if not self._wanted(placed.at_s):
                continue
            if not self._pace.wait(placed.at_s, self._stop):
                self._over = True
                return
            resumed, self._sought_s = self._sought_s is not None, None
            yield Picture(
                source.darkroom,
                frame,
                captured_ms,
                after_gap=after_gap and not resumed,
                recorded=Recorded(placed.at_s, resumed=resumed),
                source=source.facts(),
            )
            after_gap = False

    def _wanted(self, at_s: float) -> bool:
        if self._sought_s is not None and at_s < self._sought_s - _SAME_S:
            return False
        return self._sampler.wants(at_s)

    def _first_pts_s(self, path: Path) -> float | None:
        """PTS of the first picture that can be decoded: where the file's time begins."""
        with self._opened(path) as source:
            frame = next(source.frames(), None)
            return None if frame is None else self._pts_s(frame)
