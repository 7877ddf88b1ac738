"""Looks on their way to the encoder: beside the path of frames. Live frames do not wait for them.

Looks are answered in the order in which they were decided upon, so that a moment keeps the same regions at every
replay. A part that cannot be read is left out. While the encoder does not answer, a look is tried a few times and then
given up: no moment stays open, and no frame is kept from being committed, because a detector fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import numpy as np

from proto.errors import Broken, Late, Mismatch, Overloaded, Transient, WatchwordError
from proto.types import MOST_OBJECT_CROPS, Box, Region, Vector
from stream.embedding import Embedding
from stream.frames import Unit
from stream.looks import Found, Look
from stream.patience import Patience
from stream.regions import inside
from workers.client import Seen

log = logging.getLogger("watchword.stream")

_TOGETHER = 8
"""Most looks that are sent to the encoder at once."""
_LONG_S = 0.25
"""Where an answer takes longer, fewer are sent at once: frames that come meanwhile wait behind them."""
_MOST_WAITING = 16
"""While so many wait, live cameras are not looked at up close."""
_TRIES = 3
_PASSES = (Transient, Overloaded, Late, Broken)

Answer = TypeVar("Answer")

Saw = Callable[[Sequence[tuple[Look, Found]]], Awaitable[None]]
"""What becomes of answers."""


class Looker:
    """The looks of one assignment, and the task that has them answered."""

    def __init__(self, embedding: Embedding, patience: Patience, saw: Saw) -> None:
        self._embedding = embedding
        self._patience = patience
        self._saw = saw
        self._waiting: deque[Look] = deque()
        self._under_way = 0
        self._together = _TOGETHER
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failing: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more look would be answered soon."""
        return len(self._waiting) + self._under_way < _MOST_WAITING

    def add(self, looks: Sequence[Look]) -> None:
        """Have them answered. Never waits."""
        if not looks:
            return
        self._waiting.extend(looks)
        self._idle.clear()
        self._filled.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="looks")

    async def answered(self) -> None:
        """Wait until every look is answered. Raises what ends the worker."""
        if self._task is None:
            return
        idle = asyncio.create_task(self._idle.wait())
        try:
            await asyncio.wait({idle, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            idle.cancel()
        self.check()

    def check(self) -> None:
        """Raise what ended the task."""
        if self._task is not None and self._task.done():
            self._task.result()

    async def close(self) -> None:
        """Drop what waits: it is decided upon again when the frames come again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            looks = [self._waiting.popleft() for _ in range(min(self._together, len(self._waiting)))]
            if not self._waiting:
                self._filled.clear()
            self._under_way = len(looks)
            began_s = time.monotonic()
            found = await self._found(looks)
            self._together = most_at_once(self._together, len(looks), time.monotonic() - began_s)
            await self._saw(list(zip(looks, found, strict=True)))
            self._under_way = 0
            self._patience.moved()
            if not self._waiting:
                self._idle.set()

    async def _found(self, looks: Sequence[Look]) -> list[Found]:
        """Ask for all of them at once. What is larger than the encoder takes is left out."""
        most = (await self._embedding.info()).max_item_bytes
        crops = [[part for part in look.crops if len(part.jpeg) <= most] for look in looks]
        searched = [look.detect if look.detect and len(look.detect.jpeg) <= most else None for look in looks]
        # Each by itself: where the detector fails, what moved still has its rows.
        vectors, objects = await asyncio.gather(
            self._tried("at what moved", self._embedding.vectors_now, [part.jpeg for parts in crops for part in parts]),
            self._tried("for objects", self._embedding.objects_now, [part.jpeg for part in searched if part]),
        )
        answers, seen = iter(vectors), iter(objects)
        found = []
        for look, parts, part in zip(looks, crops, searched, strict=True):
            told = zip(parts, [next(answers) for _ in parts], strict=True)
            moved = [(one.box, vector) for one, vector in told if isinstance(vector, np.ndarray)]
            bare = [Region(look.at_ms, box, _single(vector)) for box, vector in moved]
            known = next(seen) if part else []
            things = known if isinstance(known, list) else []
            named = [_region(look, part.box, one) for one in things] if part else []
            found.append(Found((*(one for one in named if one.box.is_sound()), *bare), _cost_of(len(things))))
        return found

    async def _tried(
        self, what: str, ask: Callable[[Sequence[bytes]], Awaitable[Sequence[Answer]]], pictures: Sequence[bytes]
    ) -> Sequence[Answer | None]:
        """One answer for each picture; None where there was none after some tries."""
        if not pictures:
            return []
        error: WatchwordError | None = None
        # While it fails, one try: recordings wait for their looks.
        for attempt in range(1 if what in self._failing else _TRIES):
            if attempt:
                await self._patience.pause("encoder", attempt)
            try:
                answers = await ask(pictures)
            except Mismatch:
                raise
            except _PASSES as passing:
                error = passing
            except WatchwordError as final:
                error = final
                break
            else:
                self._failing.discard(what)
                return answers
        if what not in self._failing:
            log.warning("moments are stored without a closer look %s from now on: %s", what, error)
        self._failing.add(what)
        return [None] * len(pictures)


def most_at_once(most: int, sent: int, took_s: float) -> int:
    """How many looks to send at once, after `sent` of them took so long."""
    return max(1, sent // 2) if took_s > _LONG_S else min(_TOGETHER, most + 1)


def _cost_of(objects: int) -> int:
    """How many pictures were embedded for so many objects."""
    return min(objects, MOST_OBJECT_CROPS + 1)


def _region(look: Look, base: Box, one: Seen) -> Region:
    return Region(look.at_ms, inside(base, one.box), one.vector, one.kind, one.score)


def _single(vector: Unit) -> Vector:
    return vector.astype(np.float32)
