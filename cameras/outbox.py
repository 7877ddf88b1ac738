"""The bounded hand-over of one camera's frames, from the thread that reads it to the task that sends them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from catalog.progress import Progress
from proto.metrics import FRAMES_LOST
from proto.tracing import Trail
from proto.v1.events_pb2 import Frame


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is handed over: a frame, and how far the replay is once the broker has it."""

    frame: Frame | None
    """None at the end of a recording."""
    progress: Progress | None = None
    trail: Trail | None = None
    """Of a frame that is traced."""


class Outbox:
    """At most `size` frames. A live camera's oldest frame gives way; a file waits, since its time can wait."""

    def __init__(
        self, size: int, *, patient: bool, loop: asyncio.AbstractEventLoop, lost: Callable[[Frame], None]
    ) -> None:
        """`lost` is told of each frame that gives way, in the thread that puts the next one."""
        self._size = size
        self._patient = patient
        self._loop = loop
        self._lost = lost
        self._items: deque[Outgoing] = deque()
        self._room = threading.Condition()
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, item: Outgoing) -> bool:
        """From the thread: hand a frame over. False when the box is closed and the thread should end."""
        lost: Frame | None = None
        with self._room:
            if self._patient:
                self._room.wait_for(lambda: self._closed or len(self._items) < self._size)
            if self._closed:
                return False
            if len(self._items) >= self._size:
                lost = self._items.popleft().frame
            self._items.append(item)
            first = self._items[0].frame
            if lost is not None and first is not None:
                # The gap before the lost frame is a gap before the next one too.
                first.after_gap = first.after_gap or lost.after_gap
        if lost is not None:
            FRAMES_LOST.labels(reason="broker_slow").inc()
            self._lost(lost)
        self._loop.call_soon_threadsafe(self._filled.set)
        return True

    async def get(self) -> Outgoing | None:
        """From the loop: what comes next; None when the box is closed and empty."""
        while True:
            with self._room:
                if self._items:
                    item = self._items.popleft()
                    self._room.notify()
                    return item
                if self._closed:
                    return None
                self._filled.clear()
            await self._filled.wait()

    def close(self) -> None:
        """From the loop: take no more."""
        with self._room:
            self._closed = True
            self._room.notify_all()
        self._filled.set()

    def empty(self) -> list[Frame]:
        """Take out what nobody will send any more."""
        with self._room:
            frames = [item.frame for item in self._items if item.frame is not None]
            self._items.clear()
            self._room.notify_all()
        return frames
