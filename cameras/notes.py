"""What the catalog is told of cameras, behind the path of frames: gaps, how far replays are, how views are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from cameras.outage import Outage
from catalog.coverage import Gap, Reason
from catalog.progress import Progress
from catalog.views import CameraView
from proto.errors import WatchwordError

_WRITE_S = 1.0
_MOST_GAPS = 1000

_GapKey = tuple[str, Reason, int]


class GapStore(Protocol):
    """Where gaps are declared. Blocks; raises an error of the tree when it is away."""

    def declare(self, gaps: Sequence[Gap]) -> None:
        """Keep the gaps. One of the same camera, reason and start takes the place of the one before."""


class ProgressStore(Protocol):
    """Where the progress of each camera is kept. Blocks; raises an error of the tree when it is away."""

    def get(self, camera: str) -> Progress | None:
        """The camera's progress as it was put last."""

    def put(self, progress: Progress) -> None:
        """Keep it; durable when it returns."""

    def forget(self, camera: str) -> None:
        """Drop the camera's progress."""


class ViewStore(Protocol):
    """Where the view of each camera is kept. Blocks; raises an error of the tree when it is away."""

    def view_of(self, camera: str) -> CameraView | None:
        """The camera's view as it was put last."""

    def put_view(self, view: CameraView) -> None:
        """Keep it; durable when it returns."""


class Notes:
    """Keeps what is to be written until the catalog has it. Safe for threads.

    Only the latest of each gap and of each camera's progress and view waits, and when more than 1,000 gaps wait, older
    ones of one camera and reason become one. So it is bounded however long the catalog is away.
    """

    def __init__(self, gaps: GapStore, progress: ProgressStore, views: ViewStore) -> None:
        self._gap_store = gaps
        self._progress_store = progress
        self._view_store = views
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # a write that is given up goes on in its thread, and must not come last
        self._gaps: dict[_GapKey, Gap] = {}
        self._progress: dict[str, Progress | None] = {}
        self._views: dict[str, CameraView] = {}
        self._outage = Outage("the catalog", "cameras go on, and what it should know is written later")

    def gap(self, gap: Gap) -> None:
        """Declare the gap soon, in place of an earlier one with the same start."""
        with self._lock:
            self._gaps[_key(gap)] = gap
            if len(self._gaps) > _MOST_GAPS:
                self._gaps = _folded(self._gaps)

    def progress(self, progress: Progress) -> None:
        """Store the progress soon."""
        with self._lock:
            self._progress[progress.camera] = progress

    def view(self, view: CameraView) -> None:
        """Store the view soon."""
        with self._lock:
            self._views[view.camera] = view

    def view_of(self, camera: str) -> CameraView | None:
        """The latest view, whether it was written or waits. Blocks; raises when the catalog is away."""
        with self._lock:
            if camera in self._views:
                return self._views[camera]
        return self._view_store.view_of(camera)

    def forget(self, camera: str) -> None:
        """Drop the camera's progress soon."""
        with self._lock:
            self._progress[camera] = None

    def discard(self, camera: str) -> None:
        """Do not write the progress and the view that wait: another process has the camera now."""
        with self._lock:
            self._progress.pop(camera, None)
            self._views.pop(camera, None)

    def begin(self, progress: Progress) -> None:
        """Store the progress at once. Blocks; raises when the catalog is away."""
        with self._writing:
            with self._lock:
                self._progress.pop(progress.camera, None)
            self._progress_store.put(progress)

    def progress_of(self, camera: str) -> Progress | None:
        """The latest progress, whether it was written or waits. Blocks; raises when the catalog is away."""
        with self._lock:
            if camera in self._progress:
                return self._progress[camera]
        return self._progress_store.get(camera)

    async def keep_writing(self) -> None:
        """Write what waits, about once a second, until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_S)
            await self.write()

    async def write(self) -> None:
        """Write what waits. What the catalog does not take waits on."""
        try:
            written = await asyncio.to_thread(self._write)
        except WatchwordError as error:
            self._outage.failed(error)
        else:
            if written:
                self._outage.worked()

    def _write(self) -> bool:
        with self._writing:
            return self._write_all()

    def _write_all(self) -> bool:
        with self._lock:
            gaps, progress, views = dict(self._gaps), dict(self._progress), dict(self._views)
        if gaps:
            self._gap_store.declare(list(gaps.values()))
            with self._lock:
                for key, gap in gaps.items():
                    if self._gaps.get(key) is gap:
                        del self._gaps[key]
        for camera, latest in progress.items():
            if latest is None:
                self._progress_store.forget(camera)
            else:
                self._progress_store.put(latest)
            with self._lock:
                if camera in self._progress and self._progress[camera] is latest:
                    del self._progress[camera]
        for camera, view in views.items():
            self._view_store.put_view(view)
            with self._lock:
                if self._views.get(camera) is view:
                    del self._views[camera]
        return bool(gaps or progress or views)


def _key(gap: Gap) -> _GapKey:
    return gap.camera, gap.reason, gap.start_ms


def _folded(gaps: dict[_GapKey, Gap]) -> dict[_GapKey, Gap]:
    """Of each camera and reason the latest gap as it is, since it may still grow, and those before it as one."""
    found: dict[tuple[str, Reason], list[Gap]] = {}
    for gap in sorted(gaps.values(), key=lambda one: one.start_ms):
        before = found.setdefault((gap.camera, gap.reason), [])
        if len(before) == 2:
            first, second = before
            frames = first.frames + second.frames
            before[:] = [replace(first, end_ms=max(first.end_ms, second.end_ms), frames=frames)]
        before.append(gap)
    return {_key(gap): gap for kept in found.values() for gap in kept}
