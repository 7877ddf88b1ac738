"""Calls to parts that may be away: repeated until they answer."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from proto.errors import Late, Overloaded, Transient, WatchwordError
from proto.metrics import RETRIES
from proto.retry import Backoff

log = logging.getLogger("watchword.stream")

Got = TypeVar("Got")

_PAUSES = Backoff(0.05, 2.0)


class Patience:
    """Goes on trying while a part is away or full."""

    def __init__(self) -> None:
        self.moved_s = time.monotonic()
        """When something was last finished or tried again: a watchdog looks at it."""

    def moved(self) -> None:
        """Note that something was finished or tried."""
        self.moved_s = time.monotonic()

    async def call(self, part: str, ask: Callable[[], Awaitable[Got]]) -> Got:
        """Ask until the part is there and has room. Other errors pass."""
        try:
            return await ask()
        except (Transient, Overloaded, Late) as error:
            first = error
        async with self.waiting(part, first):
            failures = 1
            while True:
                await self.pause(part, failures)
                try:
                    return await ask()
                except (Transient, Overloaded, Late):
                    failures += 1

    @asynccontextmanager
    async def waiting(self, part: str, why: WatchwordError) -> AsyncIterator[None]:
        """Tell that frames are held up, and for how long they were."""
        log.warning("waiting for the %s: %s", part, why)
        began_s = time.monotonic()
        yield
        log.info("the %s is back after %.1f s", part, time.monotonic() - began_s)

    async def pause(self, part: str, failures: int) -> None:
        """Wait before the next try."""
        RETRIES.labels(part=part).inc()
        self.moved()
        await asyncio.sleep(_PAUSES.pause_s(failures, random.random()))  # noqa: S311 - spreads load, hides nothing
