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

log = logging.getLogger("watchword.stream")

Got = TypeVar("Got")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_LONGEST_STEP_S = 1.0
"""More than this between two looks at the clock is time in which the whole process stood still, or nearly."""


class Patience:
    """Goes on trying while a part is away or full, and knows how long that held the frames up."""

    def __init__(self) -> None:
        self._lived_s = self._looked_s = time.monotonic()
        self._waiting = 0
        self.moved_s = time.monotonic()
        """When something was last finished or tried again: a watchdog looks at it."""

    def clock(self) -> float:
        """Seconds, without those in which frames were held up or nobody looked: no camera was silent then."""
        now_s = time.monotonic()
        if not self._waiting:
            self._lived_s += min(now_s - self._looked_s, _LONGEST_STEP_S)
        self._looked_s = now_s
        return self._lived_s

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
            attempt = 0
            while True:
                await self.pause(part, attempt)
                try:
                    return await ask()
                except (Transient, Overloaded, Late):
                    attempt += 1

    @asynccontextmanager
    async def waiting(self, part: str, why: WatchwordError) -> AsyncIterator[None]:
        """The time inside is time in which frames are held up."""
        log.warning("waiting for the %s: %s", part, why)
        began_s = time.monotonic()
        self.clock()
        self._waiting += 1
        try:
            yield
            log.info("the %s is back after %.1f s", part, time.monotonic() - began_s)
        finally:
            self.clock()
            self._waiting -= 1

    async def pause(self, part: str, attempt: int) -> None:
        """Wait before try number `attempt` + 2."""
        RETRIES.labels(part=part).inc()
        self.moved()
        longest_s = min(_FIRST_PAUSE_S * 2.0**attempt, _LONGEST_PAUSE_S)
        await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads load, hides nothing
