"""Faust carries frames from the broker into this process; the only module that knows it.

Faust consumes, keeps the group membership and sends the commits. It decides nothing about offsets: the topic is
declared with `acks=False`, so that Faust's own commit loop has nothing to commit, and the ledger's prefix is
committed through Faust's consumer when the worker asks for it. Why not Faust's acknowledgements (0.15.3):

- an event that is skipped around a rebalance is acknowledged by the stream itself, even with `noack`, and on a
  partition without a commit that offset is then committed although nobody saw the frame;
- what it commits can pass frames that are under way, since its guard is off for the offsets None and 0;
- an acknowledgement needs the whole event kept, with its picture, until its moment closes, minutes later;
- it never tells whether a commit arrived, and the worker must know.

And Faust does about ten things with every message before an agent sees it, which costs more than reading it from the
broker. Here one of its messages carries all records that one fetch brought of one partition, so that each of those
things is done once for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from broker.kafka import topic_id
from broker.settings import KafkaSettings
from proto import tracing
from proto.errors import Transient, WatchwordError
from proto.tracing import Trail
from stream.consumer import Held, Record, Taker
from stream.fence import Lease
from stream.settings import StreamSettings

log = logging.getLogger("watchword.stream")

_START_S = 60.0
_STOP_S = 15.0
_FETCH_WAIT_MS = 100
_HEARTBEATS = 0.2
"""The share of a session after which the group hears from its members."""
_FETCH_RECORDS = 200
_SIGNS_OF_LIFE = ("HeartbeatRequest", "SyncGroupRequest")
"""Requests to the group whose success shows that this worker is a member."""
_ASKED_AS_MEMBER = (*_SIGNS_OF_LIFE, "OffsetCommitRequest")
_NOT_A_MEMBER = {22, 25, 82}
"""ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID: the group counts somebody else in this worker's place."""
_POLL_S = 24 * 3600.0
"""max.poll.interval: a worker that is blocked since encoder or index are away is not evicted."""
_ASK_AGAIN_S = 0.5


class _App(faust.App):
    """An application without a data folder: it has no tables."""

    lease: Lease

    async def on_first_start(self) -> None:
        """Make no folders."""


class _Thread(driver.AIOKafkaConsumerThread):
    """The thread that talks to the broker."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust fixes this at 1.5 s. The embedded broker looks for new records four times per wait only, so that
        # frames would lie there for 0.4 s.
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        app: Any = self.consumer.app
        coordinator: Any = self._consumer._coordinator  # type: ignore[union-attr]
        coordinator._send_req = _renewing(coordinator._send_req, app.lease)

    async def seek_to_committed(self) -> Any:
        committed = await super().seek_to_committed()
        # Faust goes back to the committed offsets when a rebalance overtakes a fetch. A partition that has none
        # would stay behind the records of that fetch, which nobody saw, and the next commit would seal their loss.
        if fresh := [partition for partition, offset in committed.items() if not offset or offset < 0]:
            await self.seek_to_beginning(*fresh)
        return committed

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        fetched = await super()._fetch_records(*args, **kwargs)
        return {place: [_Bundle(records, self._end(place))] for place, records in fetched.items() if records}

    def _end(self, place: Any) -> int | None:
        consumer: Any = self._consumer
        return consumer.highwater(place) if place in consumer.assignment() else None

    async def committed(self, *partitions: Any) -> dict[Any, int | None]:
        """The committed offset of each; None where there is none."""
        consumer: Any = self._consumer
        return {place: await self.call_thread(consumer.committed, place) for place in partitions}


def _renewing(send: Callable[[Any], Awaitable[Any]], lease: Lease) -> Callable[[Any], Awaitable[Any]]:
    """As `send`; the lease is renewed by every sign of life that the group accepts, and ends when it is refused."""

    async def sent(request: Any) -> Any:
        asked_s = time.monotonic()
        reply = await send(request)
        kind = _kind(request)
        if kind in _ASKED_AS_MEMBER and _NOT_A_MEMBER & set(_codes(reply)):
            lease.revoked()
        elif kind in _SIGNS_OF_LIFE and not any(_codes(reply)):
            lease.renewed(asked_s)
        return reply

    return sent


def _kind(request: Any) -> str:
    return type(request).__name__.split("_v")[0]


def _codes(reply: Any) -> Iterator[int]:
    """The error codes in a reply; a commit has one for each partition."""
    if hasattr(reply, "error_code"):
        yield reply.error_code
    else:
        yield from (code for _, partitions in reply.topics for _, code in partitions)


class _Bundle:
    """Records of one partition that travel through Faust as one message, which stands for the last of them."""

    __slots__ = ("last", "records")

    def __init__(self, records: Sequence[Any], end: int | None) -> None:
        self.records = [
            Record(
                one.partition,
                one.offset,
                one.key or b"",
                one.value or b"",
                one.timestamp,
                one.offset + 1 == end,
                _trail(one) if one.headers else None,
            )
            for one in records
        ]
        self.last = records[-1]


def _trail(record: Any) -> Trail | None:
    """The trail of a frame that came with one: its first step here was the broker."""
    came = tuple((key, value.decode("ascii", "replace")) for key, value in record.headers if value)
    trail = tracing.goes_on(came, record.timestamp)
    tracing.step(trail, "broker")
    return trail


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: Any, record: _Bundle) -> Any:
        message: Any = super()._to_message(tp, record.last)
        message.key, message.value = None, record.records
        return message


class _Transport(driver.Transport):
    Consumer = _Consumer


class FrameConsumer:
    """One member of the group of stream workers: the Consumer of `stream/consumer.py`, by Faust."""

    def __init__(self, kafka: KafkaSettings, stream: StreamSettings) -> None:
        self._kafka = kafka
        self._topic = kafka.frames_topic
        self.lease = Lease(kafka.session_s)
        self._app = _new_app(kafka, stream)
        self._app.lease = self.lease
        # The group does not hear of a member that gives its partitions back until it has.
        self._give_back_s = kafka.session_s / 3
        # A worker that takes a static member's place is given its partitions at once, and the one before learns of it
        # with its next heartbeat.
        self._hold_off_s = 1.2 * kafka.session_s * _HEARTBEATS if stream.instance else 0.0
        self._resumed = False
        self._failed: WatchwordError | None = None

    @property
    def ready(self) -> bool:
        return self._resumed

    @property
    def paused(self) -> int:
        return len(self._app.consumer._buffered_partitions)

    async def start(self, taker: Taker) -> None:
        self._wire(taker)
        with _translating():
            await asyncio.wait_for(self._app.start(), _START_S)

    async def stop(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._app.stop(), _STOP_S)

    def check(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._app.crashed or self._app.should_stop:
            raise Transient(f"Faust stopped by itself ({self._app.crash_reason!r})", todo="the worker starts again")

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        wanted = {TP(self._topic, partition): offset for partition, offset in offsets.items()}
        with _translating():
            return bool(await self._app.consumer._commit_offsets(wanted))

    async def begins(self, partition: int) -> int:
        with _translating():
            found = await self._app.consumer.earliest_offsets(TP(self._topic, partition))
        return int(max(found.values()))

    async def ends(self) -> dict[int, int]:
        consumer = self._app.consumer
        with _translating():
            return {tp.partition: end for tp, end in (await consumer.highwaters(*consumer.assignment())).items()}

    async def _held(self) -> list[Held]:
        """The partitions as they are now. Nothing is fetched from them yet."""
        consumer: Any = self._app.consumer
        places = list(consumer.assignment())
        if not places:
            return []
        with _translating():
            ends = await consumer.highwaters(*places)
            begins = await consumer.earliest_offsets(*places)
            committed = await consumer._thread.committed(*places)
        return [
            Held(place.partition, committed[place] or begins[place], bool(committed[place]), ends[place])
            for place in places
        ]

    async def _give(self, taker: Taker) -> None:
        """Tell the taker what it has; asks the broker until it answers, or the group takes everything back."""
        hold_off_s, self._hold_off_s = self._hold_off_s, 0.0
        await asyncio.sleep(hold_off_s)
        deadline_s = time.monotonic() + _START_S
        while True:
            try:
                log_id = await topic_id(self._kafka.brokers, self._topic)
                held = await self._held()
                break
            except Transient as error:
                if time.monotonic() > deadline_s:
                    self._failed = error
                    return
                await asyncio.sleep(_ASK_AGAIN_S)
        await taker.given(log_id, held)
        self._resumed = True
        log.info("the group gave this worker its partitions of %s", self._topic)

    def _wire(self, taker: Taker) -> None:
        topic = self._app.topic(
            self._topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
        )

        async def hand_over(stream: Any) -> None:
            async for event in stream.noack().events():
                await taker.take(event.message.value)

        async def revoked(*_: Any, **__: Any) -> None:
            self._resumed = False
            # Whoever has the partitions next writes the same moments: what was begun here must not come after.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(taker.taken_away(), self._give_back_s)

        async def resumed(*_: Any, **__: Any) -> None:
            try:
                await self._give(taker)
            except WatchwordError as error:
                self._failed = error

        self._app.agent(topic, name="watchword.frames", concurrency=1)(hand_over)
        self._app.on_partitions_revoked.connect(revoked, weak=False)
        self._app.on_rebalance_complete.connect(resumed, weak=False)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Faust lets every error of its driver through, and adds its own
        raise Transient(
            f"the broker does not serve the stream worker ({error!r})", todo="is it up? `watchword doctor` checks"
        ) from error


def _new_app(kafka: KafkaSettings, stream: StreamSettings) -> Any:
    app = _App(
        kafka.group,
        broker=[f"kafka://{address.strip()}" for address in kafka.brokers.split(",")],
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        stream_buffer_maxsize=1,
        broker_commit_interval=1.0,
        broker_max_poll_records=_FETCH_RECORDS,
        broker_max_poll_interval=_POLL_S,
        broker_session_timeout=kafka.session_s,
        broker_heartbeat_interval=kafka.session_s * _HEARTBEATS,
        broker_request_timeout=60.0,
        broker_rebalance_timeout=60.0,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=stream.instance or None,
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    return app
