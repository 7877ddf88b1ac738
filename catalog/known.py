"""The cameras, and how they are doing, as read last: what is known goes on while the catalog is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from catalog.cameras import CameraRegistry
from catalog.statuses import CameraStatus, Statuses
from proto.access import EVERYTHING, Scope
from proto.errors import WatchwordError
from proto.types import Camera

log = logging.getLogger("watchword.catalog")

_EVERY_S = 1.0


class KnownCameras:
    """The registry for those who only read it. Safe for threads; methods may block.

    They ask the catalog at most once in `every_s`, and only one caller at a time waits for it. They raise its errors
    only when nothing is known yet.
    """

    def __init__(
        self, registry: CameraRegistry, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._every_s = every_s
        self._clock = clock
        self._reading = threading.Lock()
        self._known: list[Camera] | None = None
        self._due_s = 0.0
        self._away = False

    def all(self, until: Callable[[list[Camera]], bool] = lambda _: True) -> list[Camera]:
        """All cameras, sorted by name, including removed ones. When what is known is not what `until` waits for, the
        catalog is asked now, and its errors are raised."""
        found = self._all()
        return found if until(found) else self._read()

    def _all(self) -> list[Camera]:
        known = self._known
        if known is None:
            return self._read()
        if self._clock() >= self._due_s and self._reading.acquire(blocking=False):
            try:
                return self._read_if_there()
            finally:
                self._reading.release()
        return known

    def names(self, wanted: Collection[str] = (), scope: Scope = EVERYTHING) -> frozenset[str]:
        """All names that may be seen. When one of `wanted` is not among them, the catalog is asked now, and its errors
        are raised: a camera that may not be seen takes as long as one that is not there."""
        return frozenset(camera.name for camera in self.seen(scope, lambda seen: _named(wanted, seen)))

    def seen(self, scope: Scope, until: Callable[[list[Camera]], bool] = lambda _: True) -> list[Camera]:
        """Those of `all` that may be seen, which is also what `until` looks at."""

        def visible(cameras: list[Camera]) -> list[Camera]:
            return [camera for camera in cameras if scope.allows(camera.name)]

        return visible(self.all(lambda cameras: until(visible(cameras))))

    def _read_if_there(self) -> list[Camera]:
        try:
            found = self._read()
        except WatchwordError as error:
            if not self._away:
                log.warning("the cameras that are known are used from now on: %s", error)
            self._away = True
            self._due_s = self._clock() + self._every_s
            assert self._known is not None
            return self._known
        if self._away:
            log.info("the cameras can be read again")
        self._away = False
        return found

    def _read(self) -> list[Camera]:
        found = self._registry.all()
        self._known = found
        self._due_s = self._clock() + self._every_s
        return found


class KnownStatuses:
    """How cameras are doing, for those who only read it: read at most once in `every_s`. Safe for threads; blocks."""

    def __init__(
        self, statuses: Statuses, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._statuses = statuses
        self._every_s = every_s
        self._clock = clock
        self._reading = threading.Lock()
        self._away = False
        self._known: dict[str, CameraStatus] = {}
        self._due_s: float | None = None

    def all(self) -> dict[str, CameraStatus]:
        """By camera; those read last while the catalog is away, which grow old."""
        if self._is_due() and self._reading.acquire(blocking=self._due_s is None):
            try:
                if self._is_due():  # else another caller read them while this one waited
                    self._read()
            finally:
                self._reading.release()
        return self._known

    def _is_due(self) -> bool:
        return self._due_s is None or self._clock() >= self._due_s

    def _read(self) -> None:
        try:
            self._known = self._statuses.all()
        except WatchwordError as error:
            if not self._away:  # once, not at every call
                log.warning("how cameras are doing cannot be read: %s", error)
            self._away = True
        else:
            self._away = False
        finally:
            self._due_s = self._clock() + self._every_s


def _named(wanted: Collection[str], cameras: list[Camera]) -> bool:
    return not wanted or set(wanted) <= {camera.name for camera in cameras}
