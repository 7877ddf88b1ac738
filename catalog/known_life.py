"""What is gone, by the rules as they were read last: what is known goes on while the catalog is away."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Protocol

from proto.errors import WatchwordError
from proto.life import Gone, Rules
from proto.types import now_ms

log = logging.getLogger("watchword.catalog")

_WAIT_S = 0.5
"""How long a caller waits for the catalog. Later it goes on with what is known."""
_MINUTE_MS = 60_000


class Life(Protocol):
    """Where the rules are kept. Blocks."""

    def rules(self) -> Rules:
        """All that are in force."""


class KnownLife:
    """Says what is gone. Fulfils `proto.life.GoneNow`; for one event loop, and any thread for `as_known`.

    The rules are read again when they are older than `every_s`. With 0 every caller gets rules that were read after it
    asked, so that an erasure takes effect for all questions that come after it. While the catalog is away or slow, what
    is known goes on; its errors are raised only when nothing is known yet.
    """

    def __init__(
        self,
        life: Life,
        every_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = now_ms,
    ) -> None:
        self._life = life
        self._every_s = every_s
        self._clock = clock
        self._now = now
        self._rules: Rules | None = None
        self._asked_s = -math.inf
        """When the latest read that ended had begun."""
        self._reading: asyncio.Task[None] | None = None
        self._away = False
        self._made: tuple[Rules, int, Gone] | None = None

    async def gone(self) -> Gone:
        """What may not be shown now."""
        return self._by_now(await self.rules())

    async def unwritable(self) -> Gone:
        """What may not be written now. While the clock is in doubt nothing is too old to be written."""
        rules = await self.rules()
        return rules.erased if rules.clock_doubt(self._now()) else self._by_now(rules)

    def as_known(self) -> Gone:
        """The same without asking the catalog."""
        rules = self._rules or Rules()
        return rules.erased if rules.clock_doubt(self._now()) else self._by_now(rules)

    async def rules(self) -> Rules:
        """The rules in force, as far as they can be read soon."""
        asked_s = self._clock()
        wanted_s = asked_s - self._every_s
        until_s = asyncio.get_running_loop().time() + _WAIT_S
        while self._asked_s < wanted_s or self._rules is None:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            left_s = until_s - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({self._reading}, timeout=None if self._rules is None else max(0.0, left_s))
            if not done and self._rules is not None:
                break
            if self._rules is None:
                self._reading.result()
        return self._rules

    async def _read(self) -> None:
        begun_s = self._clock()
        try:
            self._rules = await asyncio.to_thread(self._life.rules)
        except WatchwordError as error:
            if self._rules is None:
                raise
            if not self._away:
                log.warning("the limits and erasures that are known are used from now on: %s", error)
            self._away = True
        except Exception:
            if self._rules is None:
                raise
            # As in an outage: else each question would read again and again until it goes on with what is known.
            if not self._away:
                log.exception("limits and erasures cannot be read; those that are known are used from now on")
            self._away = True
        else:
            if self._away:
                log.info("limits and erasures can be read again")
            self._away = False
        self._asked_s = begun_s

    def _by_now(self, rules: Rules) -> Gone:
        at_ms = self._now()
        made = self._made
        if made is None or made[0] is not rules or made[1] != at_ms // _MINUTE_MS:
            made = self._made = (rules, at_ms // _MINUTE_MS, rules.gone(at_ms))
        return made[2]
