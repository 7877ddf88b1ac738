"""What is live, for one caller: cameras and their states, how far they were looked at, moments as they come.

The query service is asked again and again on behalf of the caller, so scope and revoked tokens are its matter, and what
it says last is what listeners learn. All listeners with one token share the asking. Events are kept in a ring, and each
listener has a place in it: nothing is queued for a listener that reads slowly.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.problems import problem_of
from gateway.queries import Queries
from gateway.shapes import CameraInfo, Hit, SearchReply
from proto.errors import Denied, Overloaded, Transient, Unauthenticated, WatchwordError

EVERY_S = 2.0
HEARTBEAT_S = 15.0
MOST_LISTENERS = 64
MOST_EACH = 8
"""Of them for one caller: a page in a tab is one."""
_MOST_EVENTS = 512
_LINGER_S = 30.0
"""After the last listener left, so that one whose connection broke can go on where it was."""
_BACK_MS = 600_000
_MOST_MOMENTS = 300
_ANY_WORDS = "a picture"
"""Every moment answers it: nothing is left out within so short a time."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream."""

    id: str
    name: str
    data: str

    @property
    def lines(self) -> bytes:
        """As it is sent. JSON has no line breaks of its own."""
        return f"id: {self.id}\nevent: {self.name}\ndata: {self.data}\n\n".encode()


HEARTBEAT = b": still here\n\n"


class Watch:
    """What one caller may see of what is live. It ends when the query service refuses the caller."""

    def __init__(self, queries: Queries, every_s: float = EVERY_S) -> None:
        self._queries = queries
        self._every_s = every_s
        self._run = secrets.token_hex(4)
        self._count = 0
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._state: dict[tuple[str, str], str] = {}
        """The latest data by event and camera."""
        self._news = asyncio.Event()
        self._begun = False
        self.over = False
        self.listeners = 0
        self.left_s = 0.0
        """When the last listener left."""

    async def follow(self) -> None:
        """Ask until cancelled or refused."""
        try:
            while True:
                try:
                    await self._look()
                except (Unauthenticated, Denied) as error:
                    self._tell("problem", "", problem_of(error).body)
                    return
                except WatchwordError as error:
                    self._tell("problem", "", problem_of(error).body)
                await asyncio.sleep(self._every_s)
        finally:
            self.end()

    def end(self) -> None:
        """End the streams of all who listen."""
        self.over = True
        self._wake()

    async def events(self, after: str, heartbeat_s: float = HEARTBEAT_S) -> AsyncGenerator[bytes, None]:
        """Events as they come: those after this one where that is known, else all that is known now, and what follows.

        Ends when the caller is refused.
        """
        known = after.startswith(f"{self._run}-") and any(one.id == after for one in self._events)
        place = int(after.rpartition("-")[2]) if known else None
        while True:
            if place is None or (self._events and place < self._number(self._events[0]) - 1):
                if self._begun or self.over:
                    place = self._count
                    yield self._snapshot()
            else:
                for event in [one for one in self._events if self._number(one) > place]:
                    place = self._number(event)
                    yield event.lines
            if self.over:
                return
            news = self._news
            if place is None or place >= self._count:
                try:
                    async with asyncio.timeout(heartbeat_s):
                        await news.wait()
                except TimeoutError:
                    yield HEARTBEAT

    async def _look(self) -> None:
        queries = self._queries.watching(f"{self._run}/{self._count}")
        cameras = (await queries.known()).cameras
        now = time.time_ns() // 1_000_000
        reply = await queries.search(
            text=_ANY_WORDS, start_ms=now - _BACK_MS, limit=_MOST_MOMENTS, all_moments=True, by_time=True
        )
        found = SearchReply.model_validate(reply)
        names = {one.name for one in cameras}
        for _, gone in [key for key in self._state if key[0] == "camera" and key[1] not in names]:
            self._forget(gone)
        for one in cameras:
            told = CameraInfo.model_validate(one).model_dump()
            told["status"].pop("told_ms")
            self._tell("camera", one.name, told)
        for mark in found.coverage.watermarks:
            self._tell("looked", mark.camera, mark.model_dump())
        latest = _latest(found.hits)
        if not found.coverage.shards_missing and len(found.hits) < _MOST_MOMENTS:
            # What was erased, or may be seen no more, is not told to those who come now.
            for camera in [one for name, one in self._state if name == "moment" and one not in latest]:
                del self._state["moment", camera]
        for camera, hit in latest.items():
            self._tell("moment", camera, hit.model_dump())
        self._state.pop(("problem", ""), None)
        if not self._begun:
            self._begun = True
            self._tell("ready", "", {})

    def _forget(self, camera: str) -> None:
        for name in ("camera", "looked", "moment"):
            self._state.pop((name, camera), None)
        self._tell("gone", camera, {"camera": camera}, kept=False)

    def _tell(self, name: str, camera: str, told: Mapping[str, Any], *, kept: bool = True) -> None:
        """Say it, unless it was said."""
        data = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
        if self._state.get((name, camera)) == data:
            return
        if kept:
            self._state[name, camera] = data
        self._count += 1
        self._events.append(Event(f"{self._run}-{self._count}", name, data))
        self._wake()

    def _snapshot(self) -> bytes:
        """All that is known, as events of the latest id: who comes back with that goes on after it."""
        now = f"{self._run}-{self._count}"
        events = [Event(now, "all", "{}"), *(Event(now, name, data) for (name, _), data in self._state.items())]
        return b"".join(one.lines for one in events)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @staticmethod
    def _number(event: Event) -> int:
        return int(event.id.rpartition("-")[2])


class Watches:
    """The watches by caller."""

    def __init__(
        self,
        *,
        most: int = MOST_LISTENERS,
        most_each: int = MOST_EACH,
        every_s: float = EVERY_S,
        linger_s: float = _LINGER_S,
    ) -> None:
        self._most = most
        self._most_each = most_each
        self._every_s = every_s
        self._linger_s = linger_s
        self._watches: dict[str, tuple[Watch, asyncio.Task[None]]] = {}
        self._listening: Counter[str] = Counter()
        self._ended = False

    async def listen(
        self,
        caller: str,
        queries: Callable[[], Queries],
        after: str,
        heartbeat_s: float = HEARTBEAT_S,
        *,
        address: str = "",
    ) -> AsyncGenerator[bytes, None]:
        """The events for this caller, whom `queries` acts for. Overloaded when too many listen, in all or of this
        caller; give the `address` of those who bring no token, so that they are told apart. Transient once stopped."""
        self._end_unheard()
        if self._ended:
            raise Transient("the gateway is ending", todo="connect again")
        who = address or caller
        if self._listening[who] >= self._most_each:
            todo = "close a page that shows what is live, or bring another token"
            raise Overloaded(f"the caller has {self._most_each} listeners, as many as one may have", todo=todo)
        if self._listening.total() >= self._most:
            raise Overloaded("the gateway has as many listeners as it takes", todo="wait a moment and try again")
        watch, _ = self._watches.get(caller, (None, None))
        if watch is None or watch.over:
            watch = Watch(queries(), self._every_s)
            self._watches[caller] = watch, asyncio.create_task(watch.follow())
        heard = self._heard(watch, who, after, heartbeat_s)
        # Only what has begun can be closed, and a client may leave before the first event.
        await anext(heard)
        return heard

    async def _heard(self, watch: Watch, who: str, after: str, heartbeat_s: float) -> AsyncGenerator[bytes, None]:
        watch.listeners += 1
        self._listening[who] += 1
        try:
            yield b""
            async for one in watch.events(after, heartbeat_s):
                yield one
        finally:
            watch.listeners -= 1
            self._listening[who] -= 1
            if not self._listening[who]:
                del self._listening[who]
            watch.left_s = time.monotonic()
            asyncio.get_running_loop().call_later(self._linger_s + 0.1, self._end_unheard)

    def _end_unheard(self) -> None:
        """End the watches to which nobody listens any more."""
        now = time.monotonic()
        for caller, (watch, task) in list(self._watches.items()):
            if watch.over or (watch.listeners == 0 and now - watch.left_s > self._linger_s):
                task.cancel()
                del self._watches[caller]

    async def stop(self) -> None:
        """End all of them, with their streams, and begin none: else an ending gateway waits for its listeners."""
        self._ended = True
        ending = list(self._watches.values())
        for watch, task in ending:
            task.cancel()
            watch.end()  # a task that has not run yet is cancelled without a word
        await asyncio.gather(*(task for _, task in ending), return_exceptions=True)
        self._watches.clear()


def _latest(hits: list[Hit]) -> dict[str, Hit]:
    """The latest moment of each camera."""
    found: dict[str, Hit] = {}
    for hit in hits:
        if hit.camera not in found or found[hit.camera].end_ms <= hit.end_ms:
            found[hit.camera] = hit
    return found
