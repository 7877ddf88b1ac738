"""What the camera process records: one hand-over from the threads that read cameras to the one that writes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from cameras.picture import Passed, Picture
from cameras.remux import Fragment, Tap
from cameras.segments import Segments
from cameras.settings import CameraSettings, RecordingSettings
from cameras.source import Resume, watch_sparing
from proto.metrics import RECORDING_LOST
from proto.types import Camera, Recording, now_ms

log = logging.getLogger("watchword.cameras")

_TEND_S = 1.0


class Recorder:
    """Records the cameras whose registration says so, out of the connection that they are watched by.

    `watch` is what a camera is watched with. Nothing waits for the disk: the queue is bounded, and what does not fit is
    lost, counted and told.
    """

    def __init__(self, folder: Path, settings: RecordingSettings) -> None:
        self._segments = Segments(folder, settings)
        self._most_bytes = settings.queue_bytes
        self._changed = threading.Condition()
        self._queue: deque[Fragment] = deque()
        self._queued = 0
        self._ending = False
        self._behind = False
        self._limits: dict[str, Recording] = {}
        self._on: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def follow(self, cameras: list[Camera]) -> None:
        """What is registered now. Cameras that were removed keep their limits."""
        recorded = [(camera, camera.record) for camera in cameras if camera.record is not None]
        with self._changed:
            self._limits = {camera.name: limit for camera, limit in recorded}
            self._on = frozenset(camera.name for camera in cameras if camera.records)

    def watch(
        self, camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture | Passed]:
        """The camera's pictures; what it sends is recorded if that is wanted, from now on or later."""
        name = camera.name
        return watch_sparing(camera, settings, stop, resume, Tap(name, lambda: name in self._on, self._give))

    def close(self, within_s: float) -> None:
        """Write what waits, if the disk takes it in time, and close the files. Blocks."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(within_s)

    def _give(self, fragment: Fragment) -> None:
        with self._changed:
            if self._ending or self._queued + len(fragment.data) > self._most_bytes:
                RECORDING_LOST.labels(reason="queue").inc()
                told, self._behind = self._behind, True
            else:
                self._queue.append(fragment)
                self._queued += len(fragment.data)
                self._changed.notify()
                told = True
        if not told:
            log.warning("recordings: the disk is behind; what does not fit into memory meanwhile is not recorded")

    def _write(self) -> None:
        self._segments.begin()
        tended_s = 0.0
        while True:
            with self._changed:
                if not self._queue and not self._ending:
                    self._changed.wait(_TEND_S)
                fragment = self._queue.popleft() if self._queue else None
                ending, self._segments.limits = self._ending, self._limits
            try:
                if fragment is not None:
                    self._segments.write(fragment, now_ms())
                if time.monotonic() - tended_s >= _TEND_S:
                    tended_s = time.monotonic()
                    self._segments.tend(now_ms())
            except Exception:  # recording goes on with the next fragment
                log.exception("recordings: a fragment could not be written, in an unforeseen way")
                RECORDING_LOST.labels(reason="disk").inc()
            if fragment is not None:
                self._written(fragment)
            elif ending:
                self._segments.close()
                return

    def _written(self, fragment: Fragment) -> None:
        with self._changed:
            self._queued -= len(fragment.data)
            caught_up, self._behind = self._behind and not self._queue, self._behind and bool(self._queue)
        if caught_up:
            log.warning("recordings: the disk has caught up")
