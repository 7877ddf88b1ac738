"""Where records wait between the broker and the pipeline: a bounded queue that is filled and emptied in batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from stream.consumer import Record


class Inbox:
    """At most `size` records wait, and those of one fetch more. To be used from one event loop."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._records: deque[Record] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._records)

    @property
    def full(self) -> bool:
        """Whether whoever fills it has to wait."""
        return not self._room.is_set()

    async def put(self, records: Sequence[Record]) -> None:
        """Add records once there is room; they are dropped when the inbox was closed meanwhile."""
        await self._room.wait()
        if not self._closed:
            self._records.extend(records)
            self._note()

    def close(self) -> None:
        """Drop everything, also what waits to be put."""
        self._closed = True
        self._records.clear()
        self._room.set()

    async def take(self, most: int, enough: int, idle_s: float, company_s: float) -> list[Record]:
        """Up to `most` records: at once when `enough` wait, else those that came within `company_s` of the first.

        Empty when nothing came for `idle_s`.
        """
        if not self._records and idle_s > 0:
            await self._wait_for(1, idle_s)
        if 0 < len(self._records) < enough and company_s > 0:
            await self._wait_for(enough, company_s)
        taken = [self._records.popleft() for _ in range(min(most, len(self._records)))]
        self._note()
        return taken

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
