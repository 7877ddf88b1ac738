"""The state of a process: starting, ready, stopping."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, NoReturn

from proto.errors import Unknown, WatchwordError
from watchword.ops import Ready, Worst

log = logging.getLogger("watchword.process")


def no_cameras(_: Mapping[str, str]) -> NoReturn:
    """What a process without cameras says of them."""
    raise Unknown("this process watches no cameras", todo="ask a camera process")


class Stage:
    """The state of a process: starting, ready, stopping."""

    def __init__(self) -> None:
        self.closing = AsyncExitStack()
        """Closes what the process opened, in reverse order."""
        self.worst_cameras: Worst = no_cameras
        self._ready: Ready = lambda: "starting"
        self._stop: Callable[[], None] | None = None
        self._told = asyncio.Event()

    def why_not_ready(self) -> str | None:
        """None when ready, else a sentence about what it waits for."""
        return self._ready()

    def tell_worst_cameras(self, asked: Mapping[str, str]) -> Mapping[str, Any]:
        """What /cameras/worst answers. Unknown when the process watches none."""
        return self.worst_cameras(asked)

    def waits_for(self, error: WatchwordError) -> None:
        """Say why the process is not ready yet."""
        self._ready = lambda: str(error)

    def tell_to_stop(self, work: asyncio.Task[None]) -> None:
        """Called on signals. A process that is not ready yet has nothing to finish and is cancelled."""
        self._told.set()
        if self._stop is None:
            work.cancel()
        else:
            self._stop()

    async def serve(self, work: Awaitable[None] | None, stop: Callable[[], None], ready: Ready = lambda: None) -> None:
        """Report ready until told to stop; with `work`, until it ends. `stop` is called to end it."""
        self._stop, self._ready = stop, ready
        # Objects loaded so far stay alive. Frozen, they do not prolong the pauses of later collections.
        gc.collect()
        gc.freeze()
        log.info("ready")
        if self._told.is_set():
            stop()
        try:
            await (self._told.wait() if work is None else work)
        finally:
            self._ready = lambda: "stopping"
