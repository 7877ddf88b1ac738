"""The map of shards as read last: what is known goes on while the catalog is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from proto.errors import WatchwordError
from proto.shards import ShardMap

log = logging.getLogger("watchword.catalog")

EVERY_S = 0.5
FRESH_S = 3.0
"""Less than the pauses of a move (index/moving.py), so that what is as old as this has missed no step of one."""


class MapSource(Protocol):
    """Where the map is kept. Blocks."""

    def map(self) -> ShardMap:
        """The map now."""


class KnownShards:
    """Follows the map, for one event loop. Fulfils `proto.shards.KnownMap`."""

    def __init__(
        self, source: MapSource, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._every_s = every_s
        self._clock = clock
        self._map: ShardMap | None = None
        self._read_s = 0.0
        self._away = False

    def map(self) -> ShardMap:
        """The map as it was read last. `read` must have been called."""
        assert self._map is not None
        return self._map

    def is_fresh(self) -> bool:
        """Whether the catalog was asked lately, and answered."""
        return self._clock() - self._read_s < FRESH_S

    async def read(self) -> ShardMap:
        """Ask the catalog now. Raises its errors."""
        begun_s = self._clock()
        self._map = await asyncio.to_thread(self._source.map)
        self._read_s = begun_s
        return self._map

    async def follow(self) -> None:
        """Ask again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.read()
            except WatchwordError as error:
                if not self._away:
                    log.warning("the map of shards that is known is used from now on: %s", error)
                self._away = True
            except Exception:
                # Were it to end, this process would never hear of a move again.
                log.exception("the map of shards cannot be read; the one that is known is used from now on")
                self._away = True
            else:
                if self._away:
                    log.info("the map of shards can be read again")
                self._away = False
