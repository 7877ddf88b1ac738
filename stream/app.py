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
from dataclasses import dataclass
from typing import Any, Protocol

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from broker.settings import KafkaSettings
from proto.errors import Transient
from stream.fence import Lease
from stream.settings import StreamSettings

log = logging.getLogger("watchword.stream")

_START_S = 60.0
_STOP_S = 15.0
_FETCH_WAIT_MS = 100
_FETCH_RECORDS = 200
_SIGNS_OF_LIFE = ("HeartbeatRequest", "SyncGroupRequest")
"""Requests to the group that count as heard of; its driver sends them, and knows their answers alone."""
_POLL_S = 24 * 3600.0
"""The group waits so long for a member that holds its partitions and takes nothing, since encoder or index are away."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the frames topic, as it came."""

    partition: int
    offset: int
    key: bytes
    value: bytes


class Taker(Protocol):
    """Whoever takes the records. The methods are called in the event loop that started the consumer."""

    async def take(self, records: Sequence[Record]) -> None:
        """Take records of one partition, in order; waiting here slows the consumer down. It must not raise."""

    def reset(self) -> None:
        """Forget every record taken: the group rebalances. Records come again from the committed offsets."""

    async def written(self) -> None:
        """Wait until what the records led to is written, or given up."""


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
        return {partition: [_Bundle(records)] for partition, records in fetched.items() if records}


def _renewing(send: Callable[[Any], Awaitable[Any]], lease: Lease) -> Callable[[Any], Awaitable[Any]]:
    """As `send`, and the lease is renewed by every sign of life that the group accepts."""

    async def sent(request: Any) -> Any:
        asked_s = time.monotonic()
        reply = await send(request)
        if type(request).__name__ in _SIGNS_OF_LIFE and not reply.error_code:
            lease.renewed(asked_s)
        return reply

    return sent


class _Bundle:
    """Records of one partition that travel through Faust as one message, which stands for the last of them."""

    __slots__ = ("last", "records")

    def __init__(self, records: Sequence[Any]) -> None:
        self.records = [Record(one.partition, one.offset, one.key or b"", one.value or b"") for one in records]
        self.last = records[-1]


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
    """One member of the group of stream workers."""

    def __init__(self, kafka: KafkaSettings, stream: StreamSettings, taker: Taker) -> None:
        self._topic = kafka.frames_topic
        self._taker = taker
        self.lease = Lease(kafka.session_s)
        """Until when this member's partitions are certainly its own."""
        self._app = _new_app(kafka, stream)
        self._app.lease = self.lease
        # The group does not hear of a member that gives its partitions back until it has.
        self._give_back_s = kafka.session_s / 3
        self._resumed = False
        self._wire()

    @property
    def ready(self) -> bool:
        """Whether the group gave this member its share and records may flow."""
        return self._resumed

    async def start(self) -> None:
        """Join the group, and come back once it gave this member its share."""
        with _translating():
            await asyncio.wait_for(self._app.start(), _START_S)

    async def stop(self) -> None:
        """Leave the group. Nothing is committed here."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._app.stop(), _STOP_S)

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that this member holds."""
        return frozenset(tp.partition for tp in self._app.consumer.assignment()) if self._resumed else frozenset()

    @property
    def paused(self) -> int:
        """How many of them are not fetched from, since what was fetched still waits to be taken."""
        return len(self._app.consumer._buffered_partitions)

    def check(self) -> None:
        """Raise Transient when Faust crashed or stopped by itself."""
        if self._app.crashed or self._app.should_stop:
            raise Transient(f"Faust stopped by itself ({self._app.crash_reason!r})", todo="the worker starts again")

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit the next offset to read of each partition. False when the group moved on meanwhile."""
        wanted = {TP(self._topic, partition): offset for partition, offset in offsets.items()}
        with _translating():
            return bool(await self._app.consumer._commit_offsets(wanted))

    async def ends(self) -> dict[int, int]:
        """Where each of this member's partitions ends now, as the broker says."""
        consumer = self._app.consumer
        with _translating():
            return {tp.partition: end for tp, end in (await consumer.highwaters(*consumer.assignment())).items()}

    async def positions(self) -> dict[int, int]:
        """The next offset that is read of each of this member's partitions."""
        consumer = self._app.consumer
        with _translating():
            at = {tp.partition: await consumer.position(tp) for tp in consumer.assignment()}
        return {partition: offset for partition, offset in at.items() if offset is not None}

    def _wire(self) -> None:
        topic = self._app.topic(
            self._topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
        )

        async def hand_over(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._taker.take(event.message.value)

        async def revoked(*_: Any, **__: Any) -> None:
            self._resumed = False
            self._taker.reset()
            # Whoever has the partitions next writes the same moments: what was begun here must not come after.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._taker.written(), self._give_back_s)

        async def resumed(*_: Any, **__: Any) -> None:
            self._taker.reset()
            self._resumed = True
            log.info("the group gave this worker its partitions of %s", self._topic)

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
        broker_heartbeat_interval=kafka.session_s / 5,
        broker_request_timeout=60.0,
        broker_rebalance_timeout=60.0,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=stream.instance or None,
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    return app
