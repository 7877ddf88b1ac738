"""About how many moments pass a filter, for answers that say what their hits were chosen from."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from index.places import Bucket
from proto.errors import WatchwordError

log = logging.getLogger("watchword.index")

_FRESH_S = 30.0
"""A count that is older is made again when it is needed, and still given meanwhile."""
_OLDEST_S = 300.0
"""A count that is older is given only when no other can be had."""
_WAIT_S = 0.25
"""How long an answer waits for a count that is not known."""
_MOST = 10_000
"""The most counts that are kept; the oldest is dropped."""

Count = Callable[[], Awaitable[int]]


class Counts:
    """Keeps counts for a while, so that most searches need no request for theirs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        self._counting: dict[Hashable, asyncio.Task[None]] = {}

    async def about(self, key: Hashable, count: Count, wait_s: float) -> int | None:
        """The count with this key: at most five minutes old if that is known in time, else the last one. None when it
        was never counted: too few moments make hits look surer than they are, so an old number is better than none."""
        known = self._of_late(key, _OLDEST_S)
        if self._of_late(key, _FRESH_S) is None:
            task = self._counting.get(key)
            if task is None:
                task = self._counting[key] = asyncio.create_task(self._count(key, count))
                task.add_done_callback(lambda _: self._counting.pop(key))
            if known is None:
                await asyncio.wait({task}, timeout=max(0.0, min(wait_s, _WAIT_S)))
                known = self._of_late(key, math.inf)
        return known

    def _of_late(self, key: Hashable, most_s: float) -> int | None:
        number, at_s = self._known.get(key, (0, -math.inf))
        return number if self._clock() - at_s < most_s else None

    async def close(self) -> None:
        """Stop counting."""
        counting = list(self._counting.values())
        for task in counting:
            task.cancel()
        await asyncio.gather(*counting, return_exceptions=True)

    async def _count(self, key: Hashable, count: Count) -> None:
        begun = self._clock()
        try:
            number = await count()
        except WatchwordError as error:
            log.info("moments were not counted: %s", error)
            return
        self._known[key] = number, begun
        self._known.move_to_end(key)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)


def share_of(bucket: Bucket, start_ms: int | None, end_ms: int | None, now_ms: int) -> float:
    """Which share of the time that the bucket has held so far lies in [start_ms, end_ms)."""
    until_ms = now_ms if bucket.start_ms < now_ms < bucket.end_ms else bucket.end_ms
    first_ms = max(bucket.start_ms, start_ms or 0)
    last_ms = until_ms if end_ms is None else min(until_ms, end_ms)
    return max(0.0, (last_ms - first_ms) / (until_ms - bucket.start_ms))
