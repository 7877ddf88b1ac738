"""What keeps a worker that lost its partitions, and does not know it yet, from writing over its successor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from proto.errors import Transient

Done = TypeVar("Done")


class NotHeld(Transient):
    """The lease does not hold, and nothing was written."""


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

    def revoked(self) -> None:
        """The group said that this worker is no member, or no longer this one: it ends at once."""
        self._until_s = float("-inf")

    def left_s(self, now_s: float) -> float:
        """For how long nobody else can have the partitions; 0 or less when somebody may."""
        return self._until_s - now_s

    def holds(self, now_s: float) -> bool:
        """Whether nobody else can have the partitions."""
        return self.left_s(now_s) > 0


class Fence:
    """Lets writes pass while the lease holds. Every write of a worker passes here: rows, pictures, coverage.

    A worker that was stopped in the middle and goes on later finds the fence closed; either the group answers it
    again, or a rebalance makes it drop what it was about to write. A write that was begun goes on when whoever waited
    for it is cancelled, since the index may have it already, but not past the lease: it takes several calls, and a
    process that was stopped between two of them must not make the second.
    """

    def __init__(self, lease: Lease, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._clock = clock
        self._under_way: set[asyncio.Task[Any]] = set()

    async def passes(self, write: Callable[[], Coroutine[Any, Any, Done]]) -> Done:
        """Begin the write, and wait for it. NotHeld when the lease does not hold; then nothing was begun."""
        if not self._lease.holds(self._clock()):
            raise _no_lease(NotHeld)
        task = asyncio.create_task(self._within_lease(write))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def _within_lease(self, write: Callable[[], Coroutine[Any, Any, Done]]) -> Done:
        try:
            async with asyncio.timeout(self._lease.left_s(self._clock())) as lease:
                return await write()
        except TimeoutError as error:
            if not lease.expired():
                raise
            raise _no_lease(Transient) from error

    async def written(self) -> None:
        """Wait until no write is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waited; where nobody did, the next worker writes it again


def _no_lease(kind: type[Transient]) -> Transient:
    return kind(
        "the group has not answered this worker for so long that another one may have its partitions",
        todo="it answers again, or gives them out anew",
    )
