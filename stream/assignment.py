"""What belongs to the partitions that a worker holds: one object, made when the group gives them, dropped whole.

Its loop gathers batches across cameras and takes them through the pipeline. Two are under way at most: the next is
embedded while the one before is built. Whatever a rebalance interrupts is read again by whoever has the partition next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from catalog.coverage import Gap, Reason
from proto import tracing
from proto.errors import Poison
from proto.metrics import FRAMES_DONE, FRAMES_EXPIRED, FRAMES_OPEN, LATE_SECONDS
from proto.types import now_ms
from stream.clocks import Behind, Lateness, LogClock, Pace, SteadyClock
from stream.consumer import Held, Mark, Record
from stream.frames import NEW, Arrived, Embedded, Recalled, decoded
from stream.inbox import Inbox
from stream.ledger import Ledger
from stream.letters import Letters
from stream.pipeline import Pipeline
from stream.settings import StreamSettings

log = logging.getLogger("watchword.stream")

_IDLE_S = 0.25
_WAITING_BATCHES = 16
"""Frames to choose among when some have to be passed over, in batches."""
_BATCH_S = 0.25
"""A worker that stays fresh sends the encoder no more at once than it answers within this time, where a smaller batch
costs nothing: what opens a scene does not wait behind a full one."""
_ASK_AGAIN_S = 0.5
_TICK_S = 0.2
"""Cameras are looked through for silence this often."""


class Partition:
    """One partition as this worker reads it."""

    def __init__(self, held: Held, now_ms: int) -> None:
        self.end = held.end
        """Where the log ended when the broker was last asked."""
        self.ledger = Ledger(held.start)
        self.clock = LogClock()
        self.behind = Behind(now_ms)
        self.built_ms = 0
        """The time of the log at the latest frame that came through."""

    @property
    def log_ms(self) -> int:
        """The time up to which everything is known of its cameras."""
        return self.built_ms if self.behind.in_hand else max(self.built_ms, self.clock.now_ms)


@dataclass(slots=True, eq=False)
class _Batch:
    items: list[Recalled]
    most: int
    """Frames for the encoder that it could hold."""
    late_s: float = 0.0
    """How long the oldest frame had been waiting."""
    began_s: float = field(default_factory=time.monotonic)


class Assignment:
    """Takes records of its partitions, and knows how far each may be committed."""

    def __init__(
        self,
        log_id: str,
        held: Sequence[Held],
        settings: StreamSettings,
        *,
        letters: Letters,
        begins: Callable[[int], Awaitable[int]],
        expired: Callable[[Gap], Awaitable[None]],
        pipeline: Callable[[Assignment], Pipeline],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.log = log_id
        self._clock = SteadyClock(now_ms(), time.monotonic)
        self.partitions = {one.partition: Partition(one, self._clock.now_ms()) for one in held}
        self.frames_done = 0
        self._settings = settings
        self._letters = letters
        self._begins = begins
        self._expired = expired
        self._moved = moved
        self._inbox = Inbox(_WAITING_BATCHES * settings.batch_frames)
        self._waiting: deque[Recalled] = deque()
        self._some_are_free = False
        """Among those that wait are some for which nothing has to be computed."""
        self._held: list[Arrived] = []
        self._ask_again_s = 0.0
        self._tick_s = 0.0
        self._lateness = Lateness()
        self._pace = Pace()
        self._leaving = asyncio.Event()
        self.pipeline = pipeline(self)

    @property
    def full(self) -> bool:
        """Whether no more is taken for now."""
        return self._inbox.full

    async def take(self, records: Sequence[Record]) -> None:
        """Take records of one partition; waits while too many wait already."""
        self._lateness.came(records[-1].at_ms, self._clock.now_ms(), last=records[-1].last)
        await self._inbox.put(records)

    def done(self, marks: Iterable[Mark]) -> None:
        """These frames are finished."""
        before = self.frames_done
        for partition, offset in marks:
            self.partitions[partition].ledger.done(offset)
            self.frames_done += 1
        FRAMES_DONE.inc(self.frames_done - before)

    def leave(self) -> None:
        """Ask `run` to take nothing more, finish what is under way, and end."""
        self._leaving.set()

    def close(self) -> None:
        """Take nothing more, and let go of whoever waits to hand something over."""
        self._inbox.close()

    async def run(self) -> None:
        """Work until `leave`, or until cancelled."""
        last = asyncio.create_task(asyncio.sleep(0))
        under_way: set[asyncio.Task[object]] = {last}
        try:
            while not self._leaving.is_set():
                batch = await self._gather()
                self._moved()
                embedded = asyncio.create_task(self._embed(batch))
                under_way = {embedded, last}
                await last
                last = asyncio.create_task(self._settle(batch, embedded))
                under_way = {embedded, last}
            await last
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def committable(self) -> dict[int, int]:
        """The offset to commit of each partition that moved on."""
        offsets = {number: one.ledger.committable() for number, one in self.partitions.items()}
        return {number: offset for number, offset in offsets.items() if offset is not None}

    def committed(self, offsets: Mapping[int, int]) -> None:
        for number, offset in offsets.items():
            self.partitions[number].ledger.committed(offset)

    def ends(self) -> dict[tuple[str, int], tuple[int, int]]:
        """The offset to read from next, and the time of the log, of each partition of which something was read."""
        return {
            (self.log, number): (one.ledger.prefix, one.clock.now_ms)
            for number, one in self.partitions.items()
            if one.clock.now_ms
        }

    def saw_ends(self, ends: Mapping[int, int], now_s: float) -> None:
        """Where the partitions end, as the broker said just now."""
        for number, one in self.partitions.items():
            one.end = ends.get(number, one.end)
            if number in ends and one.end <= one.ledger.next_offset:
                one.clock.at_end(now_s)
                one.behind.clear(self._clock.now_ms())
            else:
                one.clock.not_at_end()

    def behind_s(self) -> float:
        """How long the oldest frame has waited that is not looked at, or whose moment is not stored; 0 without one."""
        at_ms = self._clock.now_ms()
        read_s = (
            one.behind.behind_s(at_ms, self._lateness, left=one.end > one.ledger.next_offset)
            for one in self.partitions.values()
        )
        return max(self.pipeline.stored_late_s, *read_s)

    async def _gather(self, idle_s: float = _IDLE_S) -> _Batch:
        """The next frames; empty when nothing came for `idle_s`."""
        most = self._settings.batch_frames
        room = self._room()
        # With frames in hand nothing is waited for.
        idle_s = 0.0 if self._waiting else idle_s
        company_s = 0.0 if self._waiting else self._settings.batch_wait_ms / 1000
        if room:
            records = await self._inbox.take(room, most, idle_s, company_s)
        else:
            records = []
            await asyncio.sleep(0.0 if self._waiting else _IDLE_S)
        await self._recall(await self._arrived(records))
        fresh = self._settings.catch_up == "fresh"
        if fresh:
            most = self._pace.size(most, _BATCH_S)
        late_s = 0.0
        if len(self._waiting) > most:
            # Where none is passed over, they wait in the order in which they came.
            late_s = self._late_s(self._waiting if fresh else islice(self._waiting, most))
        LATE_SECONDS.set(late_s)
        if fresh and len(self._waiting) > most:
            self._waiting = deque(await self.pipeline.in_turn(self._waiting, late_s, self._pace.per_s))
            self._some_are_free = True
        return _Batch(self._next(most), most, late_s)

    def _room(self) -> int:
        """How many more frames may wait. One for which nothing has to be computed takes less than one that has."""
        most = _WAITING_BATCHES * self._settings.batch_frames
        waiting = len(self._waiting)
        costly = sum(item.known is NEW for item in self._waiting) if self._some_are_free else waiting
        return max(0, min(most - costly, 4 * most - waiting) - len(self._held))

    async def _recall(self, arrived: Sequence[Arrived]) -> None:
        """Have the frames wait for their turn, with what the index knows of them.

        Frames of a camera whose shard of the index is away are held, with all that follow of that camera; when too many
        are, all wait.
        """
        now_s = time.monotonic()
        if self._held and now_s >= self._ask_again_s:
            arrived, self._held = [*self._held, *arrived], []
        asked = arrived
        if self._held:
            cameras = {one.key for one in self._held}
            asked = [one for one in arrived if one.key not in cameras]
            self._held += [one for one in arrived if one.key in cameras]
        if asked:
            recalled, unknown = await self.pipeline.recall(asked)
            self._waiting.extend(recalled)
            self._some_are_free = self._some_are_free or any(item.known is not NEW for item in recalled)
            if unknown:
                self._held, self._ask_again_s = [*unknown, *self._held], now_s + _ASK_AGAIN_S

    def _next(self, most: int) -> list[Recalled]:
        """So many frames for the encoder, and whatever needs none and waits behind no frame of its camera."""
        if not self._some_are_free:
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        items: list[Recalled] = []
        left: deque[Recalled] = deque()
        behind: set[tuple[int, str]] = set()
        for item in self._waiting:
            new = item.known is NEW
            if item.arrived.key in behind or (new and not most):
                behind.add(item.arrived.key)
                left.append(item)
            else:
                items.append(item)
                most -= new
        self._waiting = left
        self._some_are_free = any(item.known is not NEW for item in left)
        return items

    def _late_s(self, waiting: Iterable[Recalled]) -> float:
        """How long the oldest of these frames has been waiting."""
        oldest_ms = min((item.arrived.record.at_ms for item in waiting if item.known is NEW), default=None)
        return 0.0 if oldest_ms is None else self._lateness.late_s(oldest_ms, self._clock.now_ms())

    async def _arrived(self, records: Sequence[Record]) -> list[Arrived]:
        """The frames in these records."""
        frames = []
        for record in records:
            partition = self.partitions.get(record.partition)
            if partition is None:
                continue
            if record.offset > partition.ledger.next_offset:
                await self._note_hole(partition, record)
            # Another offset than the expected one comes from before a rebalance.
            if not partition.ledger.taken(record.offset):
                continue
            log_ms = partition.clock.read(record.at_ms)
            tracing.step(record.trail, "inbox")
            try:
                frames.append(decoded(record, log_ms, self._settings.clock_s))
            except Poison as reason:
                await self._letters.bury(record, reason)
                self.done([record.mark])
            else:
                partition.behind.took(record.offset, record.at_ms)
        return frames

    async def _note_hole(self, partition: Partition, record: Record) -> None:
        """Declare frames before this one that the broker dropped unread, if that is why they did not come."""
        begins = await self._begins(record.partition)
        lost = min(begins, record.offset) - partition.ledger.next_offset
        if lost > 0:
            await self._declare_expired(partition, record, lost)

    async def _declare_expired(self, partition: Partition, record: Record, lost: int) -> None:
        first = partition.ledger.next_offset
        log.warning("the broker dropped %d frames of partition %d before they were read", lost, record.partition)
        gap = Gap(
            camera="",
            reason=Reason.EXPIRED,
            start_ms=partition.clock.now_ms,
            end_ms=record.at_ms,
            frames=lost,
            partition=record.partition,
            first_offset=first,
            last_offset=first + lost - 1,
        )
        await self._expired(gap)
        partition.ledger.expired(first + lost)
        FRAMES_EXPIRED.inc(lost)

    async def _embed(self, batch: _Batch) -> list[Recalled | Embedded]:
        batch.began_s = time.monotonic()
        found = await self.pipeline.embed(batch.items)
        asked = sum(item.known is NEW for item in batch.items)
        if asked >= batch.most:  # a smaller one says how many came, not how many can be looked at
            self._pace.did(asked, batch.began_s, time.monotonic())
        return found

    async def _settle(self, batch: _Batch, embedded: asyncio.Task[list[Recalled | Embedded]]) -> None:
        await self.pipeline.build(await embedded, batch.late_s)
        for item in batch.items:
            (number, offset), log_ms = item.arrived.mark, item.arrived.log_ms
            partition = self.partitions[number]
            partition.behind.through(offset)
            partition.built_ms = max(partition.built_ms, log_ms)
        if time.monotonic() >= self._tick_s:
            self._tick_s = time.monotonic() + _TICK_S
            held = {one.key for one in self._held}
            await self.pipeline.tick(lambda number: self.partitions[number].log_ms, held)
            FRAMES_OPEN.set(sum(one.ledger.open for one in self.partitions.values()))
        self._moved()
