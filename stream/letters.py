"""Records that end without a moment: buried with their reason. None ends silently."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from proto.errors import Invalid, Poison, WatchwordError
from proto.metrics import DEAD_LETTERS
from proto.types import Moment, now_ms
from proto.v1.events_pb2 import DeadLetter
from stream.consumer import Mark, Record
from stream.patience import Patience

log = logging.getLogger("watchword.stream")


class DeadLetters(Protocol):
    """Where records go that can never be processed."""

    async def bury(self, letter: DeadLetter) -> None:
        """Keep the letter. Transient when that is not possible now, Invalid when it never is."""


class MinuteLimit:
    """So many a minute, counted back from now. Pure: the time is an argument."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: deque[float] = deque()

    def allows(self, now_s: float) -> bool:
        """Whether one more may pass now; if so, it is counted."""
        while self._times and now_s - self._times[0] >= 60.0:
            self._times.popleft()
        if len(self._times) >= self._most:
            return False
        self._times.append(now_s)
        return True


class Letters:
    """Writes them, and goes on trying until the broker has them."""

    def __init__(self, box: DeadLetters, topic: str, whole_per_minute: int, patience: Patience) -> None:
        self._box = box
        self._topic = topic
        self._limit = MinuteLimit(whole_per_minute)
        self._patience = patience
        self._full = False

    async def bury(self, record: Record, reason: Poison) -> None:
        """Give the record up. Beyond the limit its letter goes without the record's bytes: a fleet that sends
        nothing but rubbish does not fill the broker twice."""
        whole = self._limit.allows(time.monotonic())
        if not whole and not self._full:
            log.warning("too many dead letters a minute; more are written without the records themselves")
        self._full = not whole
        letter = DeadLetter(
            topic=self._topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason.reason,
            detail=reason.message,
            failed_ms=now_ms(),
            key=record.key,
            value=record.value if whole else b"",
        )
        await self._send(letter)
        DEAD_LETTERS.labels(reason=reason.reason).inc()
        if whole:
            log.warning("frame %d of partition %d is given up: %s", record.offset, record.partition, reason)

    async def refuse(self, moment: Moment, marks: Sequence[Mark], reason: WatchwordError) -> None:
        """Give the frames of a moment up that the index will never take. Their records are no longer at hand."""
        for mark in marks:
            await self._send(
                DeadLetter(
                    topic=self._topic,
                    partition=mark.partition,
                    offset=mark.offset,
                    reason="not_storable",
                    detail=f"the index does not take moment {moment.id}: {reason.message}",
                    failed_ms=now_ms(),
                    key=moment.camera.encode(),
                )
            )
            DEAD_LETTERS.labels(reason="not_storable").inc()
        log.error("moment %s of %s is given up with %d frames: %s", moment.id, moment.camera, len(marks), reason)

    async def _send(self, letter: DeadLetter) -> None:
        try:
            await self._patience.call("broker", lambda: self._box.bury(letter))
        except Invalid as error:  # the letter is larger than its record, and can be too large
            log.warning("a dead letter is written without its record: %s", error)
            letter.ClearField("value")
            await self._patience.call("broker", lambda: self._box.bury(letter))
