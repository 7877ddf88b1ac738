"""Moments on their way into the index: what fails together waits together, and holds up nobody else.

Each shard of the index has a lane. A lane stores what waits in one call after another; of a moment that was told again
meanwhile only the newest row is sent. While its shard is away a lane waits and tries again, and the other lanes go on.
Only when too much waits does the whole worker wait.

After an outage of its shard a lane reads what was acknowledged shortly before it, and writes again what is not there
(decision 30). Until that is done no frame counts as stored.

What is gone, too old or erased, is not stored and not written again: before each call a lane asks what that is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from index.store import MomentStore
from proto.errors import Invalid, Late, Overloaded, Transient, WatchwordError
from proto.life import AllKept, Gone, GoneNow
from proto.metrics import MOMENTS_FORGOTTEN, MOMENTS_PASSED, MOMENTS_WAITING, MOMENTS_WRITTEN, RETRIES
from proto.retry import Backoff
from proto.types import Moment
from stream.acknowledged import FOR_S, Acknowledged, forgotten
from stream.consumer import Mark
from stream.fence import Fence, NotHeld
from stream.moments import Write
from stream.pictures import Pictures

log = logging.getLogger("watchword.stream")

_PAUSES = Backoff(0.05, 2.0)
_MOST_CHECKS = 5
"""A store that never shows what it acknowledged is not asked for ever."""

Refused = Callable[[Moment, Sequence[Mark], WatchwordError], Awaitable[None]]
"""What becomes of a moment that the index will never take, and of its frames."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a writer uses."""

    store: MomentStore
    pictures: Pictures
    fence: Fence
    refused: Refused
    stored: Callable[[Sequence[Write]], None]
    """Told of what is stored now."""
    life: GoneNow = field(default_factory=AllKept)
    passed_over: Callable[[Sequence[Write]], None] = lambda _: None
    """Told of what is not stored, since it is gone: too old, or erased."""


class Writer:
    """The lanes of one assignment. `close` drops what waits: its frames come again."""

    def __init__(self, parts: Parts, most_waiting: int) -> None:
        self._parts = parts
        self._most = most_waiting
        self._lanes: dict[str, _Lane] = {}

    @property
    def waiting_s(self) -> float:
        """For how long the oldest call has been under way without any answer: a thread or a server that hangs."""
        return max((lane.waiting_s for lane in self._lanes.values()), default=0.0)

    @property
    def late_s(self) -> float:
        """How long the oldest moment that is not stored has waited; 0 without one."""
        return max((lane.late_s for lane in self._lanes.values()), default=0.0)

    def cameras_waiting(self) -> set[str]:
        """Cameras of which something is not stored yet."""
        return {camera for lane in self._lanes.values() for camera in lane.cameras()}

    async def write(self, writes: Sequence[Write]) -> None:
        """Hand moments over. Returns at once, unless one lane holds too much. Raises what ends the worker."""
        for write in writes:
            self._lane_of(write.moment).add(write)
        for lane in self._lanes.values():
            await lane.below(self._most)
        MOMENTS_WAITING.set(sum(lane.waiting for lane in self._lanes.values()))

    def _lane_of(self, moment: Moment) -> _Lane:
        """That of the camera's shard; while the moment waits in another one, since the camera was moved, that one: two
        lanes could store its tellings in the wrong order. A lane stores at the shard of the camera, whosever it is."""
        name = self._parts.store.shard_of(moment.camera)
        if name not in self._lanes:
            self._lanes[name] = _Lane(name, self._parts)
        return next((lane for lane in self._lanes.values() if lane.holds(moment.id)), self._lanes[name])

    async def flushed(self) -> None:
        """Wait until everything that was handed over is stored."""
        for lane in self._lanes.values():
            await lane.below(1)

    async def close(self) -> None:
        """Drop what waits. What is under way ends by itself: see Fence.written."""
        for lane in self._lanes.values():
            await lane.close()


class _Lane:
    """What waits for one shard, and the task that stores it."""

    def __init__(self, name: str, parts: Parts) -> None:
        self._name = name
        self._parts = parts
        self._waiting: dict[str, Write] = {}
        self._sending: dict[str, Write] = {}
        self._waiting_since: dict[str, float] = {}
        self._sending_since: dict[str, float] = {}
        self._filled = asyncio.Event()
        self._moved = asyncio.Event()
        self._asked_s: float | None = None
        self._acknowledged = Acknowledged()
        self._away_since_s: float | None = None
        """When the first call failed since all that was acknowledged is known to be there."""
        self._checks = 0
        self._task = asyncio.create_task(self._run(), name=f"write-{name}")

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._sending)

    @property
    def waiting_s(self) -> float:
        return 0.0 if self._asked_s is None else time.monotonic() - self._asked_s

    @property
    def late_s(self) -> float:
        since = (*self._waiting_since.values(), *self._sending_since.values())
        return time.monotonic() - min(since) if since else 0.0

    def holds(self, moment_id: str) -> bool:
        return moment_id in self._waiting or moment_id in self._sending

    def cameras(self) -> set[str]:
        return {write.moment.camera for write in (*self._waiting.values(), *self._sending.values())}

    def add(self, write: Write) -> None:
        before = self._waiting.get(write.moment.id)
        self._waiting[write.moment.id] = write if before is None else _merged(before, write)
        self._waiting_since.setdefault(write.moment.id, time.monotonic())
        self._filled.set()

    async def below(self, most: int) -> None:
        while self.waiting >= most and not self._task.done():
            self._moved.clear()
            moved = asyncio.create_task(self._moved.wait())
            try:
                await asyncio.wait({moved, self._task}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                moved.cancel()
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._filled.wait()
            self._filled.clear()
            self._sending, self._waiting = self._waiting, {}
            self._sending_since, self._waiting_since = self._waiting_since, {}
            error = await self._send()
            self._moved.set()
            if error is None:
                if failures:
                    log.info("the index (%s) takes moments again", self._name)
                failures = 0
                continue
            failures += 1
            if failures == 1:
                log.warning("moments wait for the index (%s): %s", self._name, error)
            RETRIES.labels(part="index").inc()
            await asyncio.sleep(_PAUSES.pause_s(failures, random.random()))  # noqa: S311 - spreads load, hides nothing

    async def _send(self) -> WatchwordError | None:
        """Store what is being sent. What failed and may succeed waits again, behind nothing that is newer."""
        gone = await self._parts.life.unwritable()
        passed = [write for write in self._sending.values() if _is_gone(write, gone)]
        writes = [write for write in self._sending.values() if not _is_gone(write, gone)]
        self._asked_s = time.monotonic()
        try:
            failed = await self._parts.fence.passes(lambda: self._store(writes)) if writes else {}
            if self._away_since_s is not None and all(isinstance(reason, Invalid) for reason in failed.values()):
                await self._check([write for write in writes if write.moment.id not in failed])
        except (Transient, Overloaded, Late) as error:
            failed = {write.moment.id: error for write in writes}
        finally:
            # A letter about a moment that was refused may wait for the broker: that is no call that hangs.
            self._asked_s = None
        again = None
        stored = []
        for write in writes:
            reason = failed.get(write.moment.id)
            if reason is None:
                stored.append(write)
            elif isinstance(reason, Invalid):
                await self._parts.refused(write.moment, write.finishes, reason)
            else:
                again = reason
                newer = self._waiting.get(write.moment.id)
                self._waiting[write.moment.id] = write if newer is None else _merged(write, newer)
                self._waiting_since[write.moment.id] = self._sending_since[write.moment.id]
                self._filled.set()
        self._sending, self._sending_since = {}, {}
        now_s = time.monotonic()
        if again is not None and not isinstance(again, Overloaded | NotHeld) and self._away_since_s is None:
            self._away_since_s = now_s
        kept_from_s = (now_s if self._away_since_s is None else self._away_since_s) - FOR_S
        self._acknowledged.note(stored, now_s, kept_from_s)
        for write in stored:
            MOMENTS_WRITTEN.labels(state="closed" if write.moment.closed else "open").inc()
        self._parts.stored(stored)
        if passed:
            MOMENTS_PASSED.inc(len(passed))
            self._parts.passed_over(passed)
        return again

    async def _check(self, writes: Sequence[Write]) -> None:
        """Read what was acknowledged around the outage, and these. Raises Transient when some of it is not there."""
        gone = await self._parts.life.unwritable()
        known = (*self._acknowledged.all(), *writes)
        told = {write.moment.id: write for write in known if not _is_gone(write, gone)}
        lost = forgotten(told.values(), await self._parts.store.fetch(list(told)))
        self._checks += 1
        if not lost or self._checks > _MOST_CHECKS:
            self._away_since_s, self._checks = None, 0
            if lost:
                log.error("the index (%s) does not give %d moments that it acknowledged", self._name, len(lost))
            return
        MOMENTS_FORGOTTEN.inc(len(lost))
        waiting = {write.moment.id for write in writes} | self._waiting.keys()
        for write in lost:
            if write.moment.id not in waiting:
                self.add(write)
        raise Transient(
            f"the index ({self._name}) lost {len(lost)} moments that it had acknowledged",
            todo="they are stored again; look at why it ended",
        )

    async def _store(self, writes: Sequence[Write]) -> dict[str, WatchwordError]:
        failed, _ = await asyncio.gather(
            self._parts.store.upsert([write.moment for write in writes]),
            self._parts.pictures.put(writes),
        )
        return dict(failed)


def _is_gone(write: Write, gone: Gone) -> bool:
    return gone.covers(write.moment.camera, write.moment.start_ms, write.moment.end_ms)


def _merged(before: Write, after: Write) -> Write:
    """The newer row, with what the older one still had to say."""
    shown = {one.at_ms for one in after.moment.regions}
    return replace(
        after,
        pictures=tuple((at_ms, jpeg) for at_ms, jpeg in (*before.pictures, *after.pictures) if at_ms in shown),
        thumbnail=after.thumbnail or before.thumbnail,
        finishes=(*before.finishes, *after.finishes),
        began=before.began or after.began,
    )
