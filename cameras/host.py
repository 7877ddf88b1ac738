"""The camera process: watches every registered camera and sends what is new to the broker."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from cameras.settings import CameraSettings
from cameras.watching import CameraState, Sender, Watching
from proto.metrics import CAMERAS_OPEN
from proto.types import Camera

log = logging.getLogger("watchword.cameras")

_LOOK_S = 0.5
_STOP_S = 4.0


class Registry(Protocol):
    """Where the cameras are registered."""

    def all(self) -> list[Camera]:
        """Every camera that is known, watched or not."""


class CameraHost:
    """Follows the registry: a camera that is added is watched within a second, one that is removed is let go.

    Each camera has a thread of its own, since PyAV blocks, and a task that hands its frames to the broker.
    """

    def __init__(self, registry: Registry, producer: Sender, settings: CameraSettings, image_side: int) -> None:
        self._registry = registry
        self._producer = producer
        self._settings = settings
        self._image_side = image_side
        self._watched: dict[str, Watching] = {}
        self._leaving = asyncio.Event()

    def states(self) -> dict[str, CameraState]:
        """How every watched camera is doing, for a status table."""
        return {name: watching.state for name, watching in self._watched.items()}

    def stop(self) -> None:
        """Ask `run` to let every camera go and end."""
        self._leaving.set()

    async def run(self) -> None:
        """Watch until `stop`. One camera's trouble is its own; Broken when the registry cannot be read."""
        try:
            while not self._leaving.is_set():
                await self._follow(await asyncio.to_thread(self._registry.all))
                for watching in self._watched.values():
                    watching.check()
                CAMERAS_OPEN.set(sum(watching.state.now == "open" for watching in self._watched.values()))
                await _wait(self._leaving, _LOOK_S)
        finally:
            await self._let_go(list(self._watched))

    async def _follow(self, cameras: list[Camera]) -> None:
        wanted = {camera.name: camera for camera in cameras if camera.watching}
        changed = [name for name, watching in self._watched.items() if wanted.get(name) != watching.camera]
        await self._let_go(changed)
        for name in wanted.keys() - self._watched.keys():
            log.info("watching camera %s", name)
            self._watched[name] = Watching(wanted[name], self._producer, self._settings, self._image_side)
            self._watched[name].start()

    async def _let_go(self, names: list[str]) -> None:
        going = [self._watched.pop(name) for name in names]
        for watching in going:
            watching.leave()
        try:
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*(watching.left() for watching in going))
        except TimeoutError:
            log.warning("some sources hang; their threads are left behind")
        finally:
            for watching in going:
                watching.abandon()


async def _wait(event: asyncio.Event, at_most_s: float) -> None:
    try:
        async with asyncio.timeout(at_most_s):
            await event.wait()
    except TimeoutError:
        return
