"""What one Milvus has in memory of one space, kept within a limit by the processes that search."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from index.loaded import Use, fitting
from index.places import Bucket
from proto.types import now_ms

_LOOK_S = 60.0
"""How long it is believed what is loaded and how large it is. Other processes load and release too."""
_ROW_BYTES = 512
"""Of a row in memory beside its vector: its other fields, and what Milvus keeps to find it."""

Look = Callable[[Bucket], Awaitable[tuple[bool, int]]]
"""Whether a bucket is loaded, and how many rows it has."""


@dataclass(frozen=True, slots=True)
class _Seen:
    loaded: bool
    rows: int
    at_s: float


class MilvusMemory:
    """Chooses what a question is searched in, and releases what was not asked for lately to make room for it."""

    def __init__(self, most_bytes: int, dimension: int, look: Look) -> None:
        self._most_bytes = most_bytes
        self._row_bytes = 4 * dimension + _ROW_BYTES
        self._look = look
        self._seen: dict[Bucket, _Seen] = {}
        self._choosing = asyncio.Lock()
        self.use = Use()

    async def room_for(
        self, asked: Collection[Bucket], there: Collection[Bucket]
    ) -> tuple[Collection[Bucket], Collection[Bucket]]:
        """Those of the asked buckets that are searched, and those that are there and must be released for it."""
        async with self._choosing:
            await self._look_again(there)
            sizes = {one: seen.rows * self._row_bytes for one, seen in self._seen.items()}
            loaded = [one for one, seen in self._seen.items() if seen.loaded]
            searched = fitting(asked, sizes, self._most_bytes)
            leaving = self.use.leaving(loaded, searched, sizes, self._most_bytes, now_ms())
            for some, is_loaded in ((leaving, False), (searched, True)):
                for one in some:
                    if one in self._seen:
                        self._seen[one] = _Seen(is_loaded, self._seen[one].rows, self._seen[one].at_s)
            return searched, leaving

    async def _look_again(self, there: Collection[Bucket]) -> None:
        """Ask about what was not asked about lately."""
        now_s = time.monotonic()
        old = [one for one in there if one not in self._seen or now_s - self._seen[one].at_s >= _LOOK_S]
        told = await asyncio.gather(*(self._look(one) for one in old))
        known = self._seen | {one: _Seen(*each, now_s) for one, each in zip(old, told, strict=True)}
        self._seen = {one: seen for one, seen in known.items() if one in there}
