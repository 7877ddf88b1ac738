"""The stream worker: frames from the broker become moments in the index, at least once and idempotent at rest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any

from broker.settings import KafkaSettings
from catalog.media import Thumbnails
from catalog.skips import Skips
from index.store import MomentStore
from proto.errors import Mismatch, Transient
from proto.metrics import FRAMES_CONSUMED, FRAMES_DONE, FRAMES_OPEN, LAG, PARTITIONS
from stream.app import FrameConsumer, Record
from stream.chain import Batch, Chain, Item, Mark
from stream.fence import Fenced
from stream.inbox import Inbox
from stream.ledger import Ledger
from stream.letters import DeadLetters
from stream.settings import StreamSettings
from stream.watchdog import LagAlarm, Stalls
from workers.client import Encoder

log = logging.getLogger("watchword.stream")

_COMMIT_S = 1.0
_LEAVE_S = 10.0
_IDLE_S = 0.25
_LOOK_S = 5.0


class StreamWorker:
    """One member of the group: takes its partitions' frames, in batches across cameras, through the chain.

    Frames are committed strictly in order per partition, each only when its moment is closed and stored or its dead
    letter is written. So a worker that dies at any instant loses nothing: the next one is given the frames again and
    builds the same moments.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        store: MomentStore,
        thumbnails: Thumbnails,
        skips: Skips,
        letters: DeadLetters,
        kafka: KafkaSettings,
        settings: StreamSettings,
    ) -> None:
        self._encoder = encoder
        self._store = store
        self._settings = settings
        self._consumer = FrameConsumer(kafka, settings, self)
        self._fenced = Fenced(store, self._consumer.lease)
        self._chain = Chain(
            encoder=encoder,
            store=self._fenced,
            thumbnails=thumbnails,
            skips=skips,
            letters=letters,
            settings=settings,
            frames_topic=kafka.frames_topic,
            finish=self._done,
        )
        self._ledgers: dict[int, Ledger] = defaultdict(Ledger)
        # Bounded: while a part is away, frames wait in the broker.
        self._inbox = Inbox(4 * settings.batch_frames)
        self._epoch = 0
        self.frames_done = 0
        """Frames finished since the start: inside a stored moment, dead-lettered or skipped."""
        self._under_way: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Event()
        self._committed_s = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether the group gave this worker its partitions."""
        return self._consumer.ready

    def stop(self) -> None:
        """Ask `run` to take nothing more, finish what is under way, commit and leave."""
        self._leaving.set()

    async def run(self) -> None:
        """Work until `stop`.

        Raises Mismatch when the encoder's space is not the store's, and Transient when the broker let us down or
        nothing moves any more: the process then ends, and is started again.
        """
        space = (await self._encoder.describe()).space
        if space != self._store.space:
            raise Mismatch(
                f"the encoder runs space {space.id}, the index holds {self._store.space.id}",
                todo="start the stream worker again, so that it opens the store of the encoder's space",
            )
        try:
            await self._consumer.start()
            await self._until_leaving()
        finally:
            await self._consumer.stop()
            await self._chain.close()

    async def take(self, records: Sequence[Record]) -> None:
        """Take records from the consumer; waits while too many wait already."""
        FRAMES_CONSUMED.inc(len(records))
        await self._inbox.put(records)

    def reset(self) -> None:
        """Forget everything that was taken: the partitions change hands, and open frames come again."""
        self._epoch += 1
        self._inbox.clear()
        self._ledgers.clear()
        self._chain.reset()
        for task in self._under_way:
            task.cancel()

    async def written(self) -> None:
        """Wait until no write to the index is under way, whoever asked for it."""
        await self._fenced.written()

    async def _until_leaving(self) -> None:
        work = asyncio.create_task(self._work())
        tasks = {
            work,
            *(
                asyncio.create_task(part())
                for part in (self._commit_for_ever, self._watch, self._watch_lag, self._too_late)
            ),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if work in done:
                await self._say_goodbye()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _say_goodbye(self) -> None:
        """Leave the index as true as possible, and the committed offsets as far as possible."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                await self._chain.refresh()
                await self._commit()
        except TimeoutError:
            log.warning("left without a last commit; the next worker does some frames again, which changes nothing")

    async def _too_late(self) -> None:
        """End when leaving takes too long: a part may be away for hours, and nothing is lost by going."""
        await self._leaving.wait()
        await asyncio.sleep(_LEAVE_S)
        log.warning("left without finishing what was under way; the next worker does it again")

    async def _work(self) -> None:
        """Two batches are under way at most: the next is embedded while the one before is embedded and stored."""
        last = asyncio.create_task(asyncio.sleep(0))
        try:
            while not self._leaving.is_set():
                batch, drained_s = await self._gather()
                epoch = self._epoch
                await _over(self._begin(self._chain.prepare(batch)))
                if epoch != self._epoch:
                    continue
                embedded = self._begin(self._chain.embed(batch))
                await _over(last)
                if epoch == self._epoch:
                    last = self._begin(self._settle(batch, embedded, drained_s))
            await _over(last)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of its own: a rebalance cancels what is under way, and only that."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _settle(self, batch: Batch, embedded: asyncio.Task[None], drained_s: float | None) -> None:
        await embedded
        await self._chain.settle(batch)
        if drained_s is not None:
            await self._chain.tick(drained_s)

    async def _gather(self) -> tuple[Batch, float | None]:
        """The next frames, and when there were no more; None when more wait. Empty when nothing came for a moment."""
        most = self._settings.batch_frames
        records = await self._inbox.take(most, _IDLE_S, self._settings.batch_wait_ms / 1000)
        # Silence counts until here: while this batch is under way, however long that takes, frames may come.
        drained_s = self._chain.patience.clock() if len(records) < most else None
        items = [Item(record) for record in records if self._ledgers[record.partition].taken(record.offset)]
        FRAMES_OPEN.set(sum(ledger.open for ledger in self._ledgers.values()))
        return Batch(items), drained_s

    def _done(self, marks: Sequence[Mark]) -> None:
        for partition, offset in marks:
            self._ledgers[partition].done(offset)
        self.frames_done += len(marks)
        FRAMES_DONE.inc(len(marks))

    async def _commit_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            await self._commit()

    async def _commit(self) -> None:
        epoch, ledgers = self._epoch, dict(self._ledgers)
        offsets = {number: offset for number, ledger in ledgers.items() if (offset := ledger.committable()) is not None}
        if not offsets:
            self._committed_s = time.monotonic()
        elif await self._consumer.commit(offsets) and epoch == self._epoch:
            for number, offset in offsets.items():
                ledgers[number].committed(offset)
            self._committed_s = time.monotonic()

    async def _watch(self) -> None:
        """Raise Transient as soon as something that should move does not."""
        stalls = Stalls(self._settings.stalled_s)
        stalls.moved("the group did not give out its partitions", time.monotonic())
        self._committed_s = time.monotonic()
        self._chain.patience.moved()
        while True:
            await asyncio.sleep(_IDLE_S)
            self._consumer.check()
            if self._consumer.ready:
                stalls.moved("the group did not give out its partitions", time.monotonic())
            stalls.moved("the broker did not take a commit", self._committed_s)
            stalls.moved("the frames under way did not move", self._chain.patience.moved_s)
            stalls.check(time.monotonic())
            PARTITIONS.labels(state="held").set(len(self._consumer.partitions))
            PARTITIONS.labels(state="paused").set(self._consumer.paused)

    async def _watch_lag(self) -> None:
        """Tell how much lies in the broker; raise Transient when it does not come although there is room for it."""
        alarm = LagAlarm(self._settings.stalled_s)
        while True:
            await asyncio.sleep(_LOOK_S)
            if not self._consumer.ready:
                alarm.room(there_is=False)
                continue
            epoch = self._epoch
            try:
                ends, expected = await self._consumer.ends(), await self._consumer.positions()
            except Transient:
                continue  # the broker is away, which the commits tell
            if epoch != self._epoch:
                continue
            # What Faust fetched and did not hand over yet still lies in the broker, as far as this worker knows.
            for partition, ledger in self._ledgers.items():
                if ledger.next_offset is not None:
                    expected[partition] = ledger.next_offset
            LAG.set(sum(max(0, end - expected.get(partition, end)) for partition, end in ends.items()))
            alarm.room(there_is=not self._inbox.full)
            alarm.check(expected, ends, time.monotonic())


async def _over(task: asyncio.Task[None]) -> None:
    """Wait until the task has ended, or was cancelled by a rebalance. Its error is raised."""
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
