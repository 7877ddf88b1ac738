"""What keeps a worker that lost its partitions, and does not know it yet, from writing over its successor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from index.store import Answer, Ask, MomentStore
from proto.errors import Transient
from proto.types import Moment, SpaceInfo


class Lease:
    """How long the group certainly counts this worker among its members. Pure: the times are arguments.

    The group takes its partitions away once it has not heard of it for the length of a session. The worker counts
    from when it asked, which is before the group heard it, so its lease ends first.
    """

    def __init__(self, session_s: float) -> None:
        self._session_s = session_s
        self._until_s = float("-inf")

    def renewed(self, asked_s: float) -> None:
        """The group answered a sign of life that was sent then."""
        self._until_s = max(self._until_s, asked_s + self._session_s)

    def holds(self, now_s: float) -> bool:
        """Whether nobody else can have the partitions."""
        return now_s < self._until_s


class Fenced:
    """A MomentStore that takes moments only while the lease holds, and Transient else.

    A worker that was stopped in the middle and goes on later finds the fence closed; either the group answers it
    again, or a rebalance makes it forget what it was about to write. A write that was begun ends at its deadline,
    also when whoever waited for it is cancelled: the index may take it at any time until then.
    """

    def __init__(self, store: MomentStore, lease: Lease, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._writing: set[asyncio.Task[None]] = set()

    @property
    def space(self) -> SpaceInfo:
        return self._store.space

    async def open(self) -> None:
        await self._store.open()

    async def upsert(self, moments: Sequence[Moment]) -> None:
        if not self._lease.holds(self._clock()):
            raise Transient(
                "the group has not answered this worker for so long that another one may have its partitions",
                todo="it answers again, or gives them out anew",
            )
        writing = asyncio.create_task(self._store.upsert(moments))
        self._writing.add(writing)
        writing.add_done_callback(self._ended)
        await asyncio.shield(writing)

    async def written(self) -> None:
        """Wait until no write is under way."""
        if self._writing:
            await asyncio.wait(self._writing)

    async def search(self, ask: Ask) -> Answer:
        return await self._store.search(ask)

    async def fetch(self, ids: Sequence[str]) -> list[Moment]:
        return await self._store.fetch(ids)

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        return await self._store.count(cameras, start_ms, end_ms)

    async def close(self) -> None:
        await self._store.close()

    def _ended(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # told to whoever waited; where nobody did, the next worker writes it again
