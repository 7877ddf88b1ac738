"""What other processes record in the same folder, so that a budget of all holds for all of them together.

Blocks on the disk. Looks at the latest hours of each camera alone.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from cameras.mending import mended, unread
from cameras.recording import Ring
from catalog.recordings import Recordings

_OPEN_S = 60.0
"""The latest segment of a camera is taken to be written while it was changed within this time: to try its lock could
keep its writer from it."""


class Following:
    """Keeps the ring up to what others wrote and removed."""

    def __init__(self, folder: Path, ring: Ring) -> None:
        self._recordings = Recordings(folder)
        self._ring = ring
        self._sizes: dict[str, int] = {}
        """Of each camera's open segment when it was looked at last."""
        self.known: set[str] = set()
        """The cameras all of whose segments the ring knows, or knew."""

    def look(self, mine: Collection[str]) -> set[str]:
        """Look at the cameras that are not `mine`. Gives those of which nothing is known yet."""
        others = set(self._recordings.cameras()) - set(mine)
        for camera in sorted(others & self.known):
            with suppress(FileNotFoundError):  # what is removed meanwhile is seen the next time
                self._look_at(camera)
        return others - self.known

    def _look_at(self, camera: str) -> None:
        self._ring.drop(camera, lambda name: not Path(name).exists())
        newest_ms = self._ring.newest_ms(camera)
        found = self._recordings.segments(camera, newest_ms)
        new = [one for one in found if newest_ms is None or one.start_ms > newest_ms]
        if not new:
            self._ring.grown(camera, 0)
            self._sizes.pop(camera, None)
            return
        *closed, last = new
        before = self._sizes.pop(camera, None)
        written = 0
        for segment, following in zip(closed, new[1:], strict=True):
            if (kept := unread(segment, following)) is not None:
                self._ring.add(kept)
                written += kept.size
        told = last.video.stat()
        if time.time() - told.st_mtime > _OPEN_S:
            if (kept := mended(last)) is not None:
                self._ring.add(kept)
            return
        size = told.st_size + last.index.stat().st_size
        self._sizes[camera] = size
        # Until it is looked at again it may grow by twice as much as since the last time.
        more = 0 if before is None else max(0, written + size - before)
        self._ring.grown(camera, size + 2 * more)
