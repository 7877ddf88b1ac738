"""How long it takes until a written moment can be found: the last hop, measured by looking for one now and then."""

from __future__ import annotations

import asyncio
import time

from index.store import Ask, MomentStore
from proto import tracing
from proto.errors import WatchwordError
from proto.metrics import HOP_SECONDS
from proto.tracing import Trail
from proto.types import Moment, now_ms

_EVERY_S = 5.0
_LOOK_S = 0.02
_GIVE_UP_S = 10.0
_NEIGHBOURS = 16
_MOST_TRACED = 4


class Visibility:
    """Follows one new moment at a time, one every few seconds at most: a sample, so that it costs the index little."""

    def __init__(self, store: MomentStore) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None
        self._traced: set[asyncio.Task[None]] = set()
        self._next_s = 0.0

    def watch(self, moment: Moment, grabbed_ms: int, trail: Trail | None = None) -> None:
        """Follow this moment, which was just written, unless another one is followed or was a moment ago.

        One whose frame is traced is followed too, unless several are.
        """
        if trail is not None and len(self._traced) < _MOST_TRACED:
            task = asyncio.create_task(self._follow(moment, grabbed_ms, trail))
            self._traced.add(task)
            task.add_done_callback(self._traced.discard)
            return
        if time.monotonic() >= self._next_s and (self._task is None or self._task.done()):
            self._next_s = time.monotonic() + _EVERY_S
            self._task = asyncio.create_task(self._follow(moment, grabbed_ms))

    async def close(self) -> None:
        tasks = [*self._traced, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, moment: Moment, grabbed_ms: int, trail: Trail | None = None) -> None:
        ask = Ask(
            moment.vector,
            _NEIGHBOURS,
            cameras=frozenset({moment.camera}),
            start_ms=moment.start_ms,
            end_ms=moment.start_ms + 1,
        )
        deadline_s = time.monotonic() + _GIVE_UP_S
        while time.monotonic() < deadline_s:
            try:
                found = any(hit.span.id == moment.id for hit in (await self._store.search(ask)).hits)
            except WatchwordError:
                return  # the index is away: what the other hops show
            if found:
                HOP_SECONDS.labels(hop="visible").observe(max(0, now_ms() - grabbed_ms) / 1000)
                tracing.step(trail, "visible", moment=moment.id)
                return
            await asyncio.sleep(_LOOK_S)
