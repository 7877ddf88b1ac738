"""Where records wait between the broker and the chain: a bounded queue that is filled and emptied in batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from stream.app import Record


class Inbox:
    """At most `size` records wait, and those of one fetch more. To be used from one event loop."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._records: deque[Record] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._cleared = 0

    @property
    def full(self) -> bool:
        """Whether whoever fills it has to wait."""
        return not self._room.is_set()

    async def put(self, records: Sequence[Record]) -> None:
        """Add records once there is room; they are dropped if the inbox was cleared meanwhile."""
        cleared = self._cleared
        await self._room.wait()
        if cleared == self._cleared:
            self._records.extend(records)
            self._note()

    async def take(self, most: int, idle_s: float, company_s: float) -> list[Record]:
        """Up to `most` records: at once when so many wait, else those that came within `company_s` of the first.

        Empty when nothing came for `idle_s`.
        """
        if not self._records:
            await self._wait_for(1, idle_s)
        if 0 < len(self._records) < most:
            await self._wait_for(most, company_s)
        taken = [self._records.popleft() for _ in range(min(most, len(self._records)))]
        self._note()
        return taken

    def clear(self) -> None:
        """Drop everything, also what waits to be put."""
        self._cleared += 1
        self._records.clear()
        self._note()

    async def _wait_for(self, records: int, at_most_s: float) -> None:
        deadline_s = time.monotonic() + at_most_s
        while len(self._records) < records:
            self._filled.clear()
            try:
                async with asyncio.timeout(deadline_s - time.monotonic()):
                    await self._filled.wait()
            except TimeoutError:
                return

    def _note(self) -> None:
        if self._records:
            self._filled.set()
        if len(self._records) < self._size:
            self._room.set()
        else:
            self._room.clear()
