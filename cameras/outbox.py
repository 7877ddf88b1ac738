"""The bounded hand-over of one camera's frames, from the thread that reads it to the task that sends them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from proto.metrics import FRAMES_LOST
from proto.v1.events_pb2 import Frame


class Outbox:
    """At most `size` frames. A live camera's oldest frame gives way; a file waits, since its time can wait."""

    def __init__(self, size: int, *, patient: bool, loop: asyncio.AbstractEventLoop) -> None:
        self._size = size
        self._patient = patient
        self._loop = loop
        self._frames: deque[Frame] = deque()
        self._room = threading.Condition()
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, frame: Frame) -> bool:
        """From the thread: hand a frame over. False when the box is closed and the thread should end."""
        with self._room:
            if self._patient:
                self._room.wait_for(lambda: self._closed or len(self._frames) < self._size)
            if self._closed:
                return False
            if len(self._frames) >= self._size:
                lost = self._frames.popleft()
                FRAMES_LOST.labels(reason="broker_slow").inc()
                # The gap before the lost frame is a gap before the next one too.
                first = self._frames[0] if self._frames else frame
                first.after_gap = first.after_gap or lost.after_gap
            self._frames.append(frame)
        self._loop.call_soon_threadsafe(self._filled.set)
        return True

    async def get(self) -> Frame | None:
        """From the loop: the next frame; None when the box is closed and empty."""
        while True:
            with self._room:
                if self._frames:
                    frame = self._frames.popleft()
                    self._room.notify()
                    return frame
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
