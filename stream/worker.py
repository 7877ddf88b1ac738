"""The stream worker: frames from the broker become moments in the index, at least once and idempotent at rest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from catalog.coverage import Gap, Looked
from catalog.media import Thumbnails
from index.store import MomentStore
from proto import tracing
from proto.errors import Broken, Mismatch, Transient, WatchwordError
from proto.life import AllKept, GoneNow
from proto.metrics import BEHIND_SECONDS, FRAMES_CONSUMED, HOP_SECONDS, LAG, PARTITIONS
from proto.types import Moment, now_ms
from stream.assignment import Assignment
from stream.backgrounds import EVERY_S, Backgrounds, Sampler
from stream.consumer import Consumer, Held, Mark, Record
from stream.embedding import Embedding
from stream.fence import Fence
from stream.letters import DeadLetters, Letters
from stream.moments import Write
from stream.patience import Patience
from stream.pictures import Pictures
from stream.pipeline import Pipeline, Tools
from stream.recall import Recall
from stream.settings import StreamSettings
from stream.visibility import Visibility
from stream.watchdog import LagAlarm, Stalls
from stream.writer import Parts, Writer
from workers.client import Encoder

log = logging.getLogger("watchword.stream")

PICTURES_S = 2.0
"""How long pictures that wait may take to be written when the worker ends."""

_COMMIT_S = 1.0
_LEAVE_S = 10.0
_LOOK_S = 0.25
_ENDS_S = 1.0
_WRITTEN = HOP_SECONDS.labels(hop="written")


class Coverage(Protocol):
    """What of the cameras was looked at. Methods block, and raise Broken when it cannot be read or written."""

    def declare(self, gaps: Sequence[Gap]) -> None:
        """Durable when it returns."""

    def declared(self, log: str, partition: int, from_offset: int) -> list[Gap]:
        """The frames of this partition that were passed over, from this offset on."""

    def looked(self, marks: Sequence[Looked], ends: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        """How far each camera was looked at, and each partition committed."""

    def partition_mark(self, log: str, partition: int) -> tuple[int, int] | None:
        """What `looked` was last told of the partition."""


@dataclass(frozen=True, slots=True)
class House:
    """The parts that a worker works with."""

    encoder: Encoder
    store: MomentStore
    thumbnails: Thumbnails
    coverage: Coverage
    letters: DeadLetters
    frames_topic: str
    backgrounds: Backgrounds | None = None
    """None: no background of cameras is kept up."""
    life: GoneNow = field(default_factory=AllKept)
    """What may not be written any more."""


class StreamWorker:
    """One member of the group: takes its partitions' frames, in batches across cameras, through the pipeline.

    Frames are committed strictly in order per partition, each only when its moment is closed and stored, its dead
    letter is written, or its shedding is declared. So a worker that dies at any instant loses nothing: the next one is
    given the frames again and goes on with the same moments.
    """

    def __init__(self, house: House, consumer: Consumer, settings: StreamSettings) -> None:
        self._house = house
        self._consumer = consumer
        self._settings = settings
        self._fence = Fence(consumer.lease)
        self._patience = Patience()
        self._letters = Letters(house.letters, house.frames_topic, settings.letters_per_minute, self._patience)
        self._embedding = Embedding(house.encoder, house.store, self._patience, settings.refusals)
        self._visibility = Visibility(house.store)
        self._pictures = Pictures(house.thumbnails, house.life.as_known)
        self._assignment: Assignment | None = None
        self._work: asyncio.Task[None] | None = None
        self._given = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._frames_done = 0
        self._leaving = asyncio.Event()
        self._committed_s = time.monotonic()
        self._coverage_told = True
        self._sampler: Sampler | None = None

    @property
    def ready(self) -> bool:
        """Whether the group gave this worker its partitions."""
        return self._consumer.ready and self._assignment is not None

    @property
    def frames_done(self) -> int:
        """Frames finished since the start."""
        return self._frames_done + (self._assignment.frames_done if self._assignment else 0)

    def stop(self) -> None:
        """Ask `run` to take nothing more, finish what is under way, commit and leave."""
        self._leaving.set()

    async def run(self) -> None:
        """Work until `stop`.

        Raises Mismatch when the encoder's space is not the store's, and Transient when the broker let us down or
        nothing moves any more: the process then ends, and is started again.
        """
        space = (await self._house.encoder.describe()).space
        if space != self._house.store.space:
            raise Mismatch(
                f"the encoder runs space {space.id}, the index holds {self._house.store.space.id}",
                todo="start the stream worker again, so that it opens the store of the encoder's space",
            )
        try:
            await self._consumer.start(self)
            await self._until_leaving()
        finally:
            await self._consumer.stop()
            await self.taken_away()
            await self._visibility.close()
            await self._pictures.finish(PICTURES_S)

    async def given(self, log: str, partitions: Sequence[Held]) -> None:
        """Begin with these partitions."""
        await self.taken_away()
        try:
            self._assignment = await self._begin(log, partitions)
        except WatchwordError as error:
            self._fail(error)
            return
        self._work = asyncio.create_task(self._assignment.run(), name="assignment")
        self._work.add_done_callback(self._ended)
        self._given.set()

    async def take(self, records: Sequence[Record]) -> None:
        """Take records from the consumer; waits while too many wait already."""
        await self._given.wait()
        if self._assignment is not None:
            FRAMES_CONSUMED.inc(len(records))
            await self._assignment.take(records)

    async def taken_away(self) -> None:
        """Drop what is held. Whoever has the partitions next goes on with the same moments."""
        assignment, self._assignment = self._assignment, None
        work, self._work = self._work, None
        self._given.clear()
        if assignment is not None and work is not None:
            self._frames_done += assignment.frames_done
            assignment.close()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await assignment.pipeline.close()
        await self._fence.written()

    async def _begin(self, log: str, partitions: Sequence[Held]) -> Assignment:
        """Everything that lives as long as these partitions are held."""
        house, settings = self._house, self._settings
        # A new one: what waited was of cameras that somebody else may have by now.
        self._sampler = Sampler(house.backgrounds, house.store.space.id) if house.backgrounds else None
        told = [await asyncio.to_thread(_told, house.coverage, log, one) for one in partitions]
        held = [one for one, _ in told]
        passed = [gap for _, gaps in told for gap in gaps]

        async def expired(gap: Gap) -> None:
            # A partition of which nothing was read since says by its mark when it was read last.
            start_ms = gap.start_ms or await asyncio.to_thread(_read_until, house.coverage, log, gap)
            known = replace(gap, log=log, start_ms=start_ms)
            # Nothing is read on before it is declared.
            await self._patience.call("catalog", lambda: self._declared(known))

        def pipeline(assignment: Assignment) -> Pipeline:
            def stored(writes: Sequence[Write]) -> None:
                assignment.done(mark for write in writes for mark in write.finishes)
                self._stored(writes)

            async def refused(moment: Moment, marks: Sequence[Mark], reason: WatchwordError) -> None:
                await self._letters.refuse(moment, marks, reason)
                assignment.done(marks)

            def passed_over(writes: Sequence[Write]) -> None:
                assignment.done(mark for write in writes for mark in write.finishes)

            parts = Parts(house.store, self._pictures, self._fence, refused, stored, house.life, passed_over)
            return Pipeline(
                Tools(
                    space=house.store.space.id,
                    log=log,
                    recall=Recall(house.store, log, {one.partition: one.end for one in held}, passed),
                    embedding=self._embedding,
                    writer=Writer(parts, settings.waiting_moments),
                    letters=self._letters,
                    patience=self._patience,
                    coverage=house.coverage,
                    fence=self._fence,
                    settings=settings,
                    done=assignment.done,
                    clock=time.monotonic,
                    life=house.life,
                )
            )

        return Assignment(
            log,
            held,
            settings,
            letters=self._letters,
            begins=lambda partition: self._patience.call("broker", lambda: self._consumer.begins(partition)),
            expired=expired,
            pipeline=pipeline,
            moved=self._patience.moved,
        )

    async def _declared(self, gap: Gap) -> None:
        try:
            await self._fence.passes(lambda: asyncio.to_thread(self._house.coverage.declare, [gap]))
        except Broken as error:
            raise Transient(error.message, todo=error.todo) from error

    def _stored(self, writes: Sequence[Write]) -> None:
        if self._sampler is not None:
            self._sampler.offer(writes)
        for write in writes:
            if write.began is not None:
                grabbed_ms = write.began.frame.grabbed_ms
                _WRITTEN.observe(max(0, now_ms() - grabbed_ms) / 1000)
                trail = write.began.record.trail
                tracing.step(trail, "write", moment=write.moment.id)
                self._visibility.watch(write.moment, grabbed_ms, trail)

    def _ended(self, work: asyncio.Task[None]) -> None:
        if not work.cancelled() and (error := work.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _until_leaving(self) -> None:
        parts = (self._commit_for_ever, self._keep_backgrounds_for_ever, self._watch, self._watch_lag, self._leave)
        tasks = [asyncio.create_task(part()) for part in parts]
        try:
            await asyncio.wait([*tasks, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for task in [*tasks, self._failed]:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self) -> None:
        """Wait to be told to stop, then leave the index as true as possible, and the offsets as far as possible.

        Not for long: a part may be away for hours, and nothing is lost by going.
        """
        await self._leaving.wait()
        try:
            async with asyncio.timeout(_LEAVE_S):
                if self._assignment is not None and self._work is not None:
                    self._assignment.leave()
                    await asyncio.wait({self._work})
                    await self._assignment.pipeline.refresh()
                    await self._assignment.pipeline.flushed()
                    await self._commit()
                    await self._tell_coverage()
                    while await self._keep_backgrounds():
                        pass
        except TimeoutError:
            log.warning("left without finishing what was under way; the next worker does it again")

    async def _commit_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            await self._commit()
            await self._tell_coverage()

    async def _commit(self) -> None:
        assignment = self._assignment
        offsets = assignment.committable() if assignment is not None else {}
        if assignment is None or not offsets:
            self._committed_s = time.monotonic()
        elif await self._consumer.commit(offsets) and assignment is self._assignment:
            assignment.committed(offsets)
            self._committed_s = time.monotonic()

    async def _tell_coverage(self) -> None:
        """Behind the path: what it cannot take now is told the next time."""
        assignment = self._assignment
        if assignment is None:
            return
        marks, ends = assignment.pipeline.looked(), assignment.ends()
        try:
            await self._fence.passes(lambda: asyncio.to_thread(self._house.coverage.looked, marks, ends))
        except WatchwordError as error:
            assignment.pipeline.looked_again(marks)
            if self._coverage_told:
                log.warning("coverage cannot be kept up: %s", error)
            self._coverage_told = False
        else:
            self._coverage_told = True

    async def _keep_backgrounds_for_ever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            while await self._keep_backgrounds():  # all of it: what waits is bounded, and what does not fit is lost
                pass

    async def _keep_backgrounds(self) -> bool:
        """Write a batch of what was sampled, behind the path. False when there was none."""
        sampler = self._sampler
        if sampler is None or not (taken := sampler.take()):
            return False
        with suppress(WatchwordError):  # without a lease nothing is written: another worker samples these cameras
            gone = await self._house.life.unwritable()
            sampler.learn(await self._fence.passes(lambda: asyncio.to_thread(sampler.flush, taken, gone)))
        return True

    async def _watch(self) -> None:
        """Raise Transient as soon as something that should move does not."""
        stalls = Stalls(self._settings.stalled_s)
        self._committed_s = time.monotonic()
        self._patience.moved()
        given_s = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            self._consumer.check()
            now_s = time.monotonic()
            if self.ready:
                given_s = now_s
            stalls.moved("the group did not give out its partitions", given_s)
            stalls.moved("the broker did not take a commit", self._committed_s)
            stalls.moved("the frames under way did not move", self._patience.moved_s)
            if self._assignment is not None:
                stalls.moved("a write to the index did not end", now_s - self._assignment.pipeline.writing_s)
            stalls.check(now_s)
            BEHIND_SECONDS.set(self._assignment.behind_s() if self._assignment else 0.0)
            PARTITIONS.labels(state="held").set(len(self._assignment.partitions) if self._assignment else 0)
            PARTITIONS.labels(state="paused").set(self._consumer.paused)

    async def _watch_lag(self) -> None:
        """Tell how much lies in the broker; raise Transient when it does not come although there is room for it."""
        alarm = LagAlarm(self._settings.stalled_s)
        while True:
            await asyncio.sleep(_ENDS_S)
            assignment = self._assignment
            if assignment is None:
                alarm.room(there_is=False)
                continue
            asked_s = time.monotonic()
            try:
                ends = await self._consumer.ends()
            except Transient:
                ends = {}  # the broker is away, which the commits tell
            if assignment is not self._assignment:
                continue
            # The log may have grown since it was asked, so silence counts from then.
            assignment.saw_ends(ends, asked_s)
            expected = {number: one.ledger.next_offset for number, one in assignment.partitions.items()}
            LAG.set(sum(max(0, end - expected.get(partition, end)) for partition, end in ends.items()))
            if ends:
                alarm.room(there_is=not assignment.full)
                alarm.check(expected, ends, time.monotonic())


def _told(coverage: Coverage, log: str, held: Held) -> tuple[Held, list[Gap]]:
    """The partition, and its frames that were passed over. Without a commit its mark says what was read of it; without
    a mark nothing was, and whatever the broker dropped was never looked at."""
    start = held.start
    if not held.committed:
        mark = coverage.partition_mark(log, held.partition)
        start = min(start, mark[0]) if mark else 0
    return replace(held, start=start), coverage.declared(log, held.partition, start)


def _read_until(coverage: Coverage, log: str, gap: Gap) -> int:
    mark = coverage.partition_mark(log, gap.partition)
    return min(mark[1], gap.end_ms) if mark else gap.end_ms
