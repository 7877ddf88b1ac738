"""The broker as cameras, the stream worker and the command line use it: topics, producer, dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    UnsupportedVersionError,
    for_code,
)

from broker.identity import ask_topic_id
from broker.settings import KafkaSettings
from broker.topics import MAX_RECORD_BYTES, ExistingTopic, TopicChange, Wanted, wanted_topics
from proto import tracing
from proto.errors import Broken, Invalid, Transient, WatchwordError
from proto.types import now_ms
from proto.v1.events_pb2 import DeadLetter, Frame

log = logging.getLogger("watchword.broker")

_REQUEST_MS = 10_000
_CLOSE_S = 5.0
"""Bounds closing: an idempotent producer never gives up records that it was handed, not even on close."""
_SET_FOR_TOPIC = 1
"""The broker's code for a config value that was set for this topic."""


async def cluster_answers(brokers: str, timeout_s: float) -> int:
    """The number of brokers, from the cluster's metadata. Transient when nobody answers in time."""
    async with _admin(brokers, timeout_s) as admin:
        return len((await admin.describe_cluster())["brokers"])


async def topic_id(brokers: str, topic: str, timeout_s: float = 10.0) -> str:
    """The topic's id as 32 hex digits. It changes when the topic is deleted and created again."""
    async with _admin(brokers, timeout_s) as admin:
        return await ask_topic_id(admin._client, topic)


async def ensure_topics(settings: KafkaSettings, timeout_s: float = 15.0) -> None:
    """Create missing topics. Safe to call concurrently."""
    async with _admin(settings.brokers, timeout_s) as admin:
        there = set(await admin.list_topics())
        await _create(admin, [topic for topic in wanted_topics(settings) if topic.name not in there])


async def find_topics(settings: KafkaSettings, timeout_s: float = 15.0) -> dict[str, ExistingTopic]:
    """Watchword's existing topics, by name."""
    async with _admin(settings.brokers, timeout_s) as admin:
        there = set(await admin.list_topics())
        names = [topic.name for topic in wanted_topics(settings) if topic.name in there]
        if not names:
            return {}
        described = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics(names)}
        found = {}
        for name in names:
            config, own = await _config_of(admin, name)
            copies = min(len(partition["replicas"]) for partition in described[name])
            found[name] = ExistingTopic(name, len(described[name]), copies, config, own)
        return found


async def stamps_beyond(settings: KafkaSettings, time_ms: int, timeout_s: float = 10.0) -> int:
    """In how many partitions of the frames topic the broker stamped a record with this time, or a later one."""
    async with _admin(settings.brokers, timeout_s) as admin:
        if settings.frames_topic not in await admin.list_topics():  # asking for it might make it
            return 0
    consumer = AIOKafkaConsumer(
        settings.frames_topic, bootstrap_servers=settings.brokers, enable_auto_commit=False, client_id="watchword"
    )
    try:
        async with asyncio.timeout(timeout_s):
            await consumer.start()
            found = await consumer.offsets_for_times(dict.fromkeys(consumer.assignment(), time_ms))
            # The embedded broker also answers where there is no such record.
            return sum(bool(place and place.timestamp and place.timestamp >= time_ms) for place in found.values())
    except (KafkaError, OSError, TimeoutError) as error:
        raise _translated(error, settings.brokers) from error
    finally:
        await consumer.stop()


async def apply_changes(settings: KafkaSettings, changes: Sequence[TopicChange], timeout_s: float = 30.0) -> None:
    """Make the changes of a plan. Broken when the broker refuses one."""
    async with _admin(settings.brokers, timeout_s) as admin:
        for change in changes:
            topic = change.topic
            match change.kind:
                case "create":
                    await _create(admin, [topic])
                case "grow":
                    await admin.create_partitions({topic.name: NewPartitions(topic.partitions)})
                case "configure":
                    # The call replaces all config set for the topic, so values set by others are sent along.
                    _, own = await _config_of(admin, topic.name)
                    wanted = ConfigResource(ConfigResourceType.TOPIC, topic.name, {**own, **topic.config})
                    for reply in await admin.alter_configs([wanted]):
                        for code, message, *_ in reply.resources:
                            _check(code, f"the broker does not change the topic {topic.name}", message)


async def _create(admin: Any, topics: Sequence[Wanted]) -> None:
    if not topics:
        return
    wanted = [
        NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=dict(topic.config)) for topic in topics
    ]
    for name, code, *_ in (await admin.create_topics(wanted)).topic_errors:
        if for_code(code) is not TopicAlreadyExistsError:
            _check(code, f"the broker does not create the topic {name}", "")
    log.info("created topics: %s", ", ".join(sorted(topic.name for topic in topics)))


async def _config_of(admin: Any, topic: str) -> tuple[dict[str, str], dict[str, str]]:
    """The topic's effective config, and the part of it that was set for this topic."""
    config, own = {}, {}
    for reply in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]):
        for code, message, _, _, entries in reply.resources:
            _check(code, f"the broker does not describe the topic {topic}", message)
            for name, value, read_only, source, sensitive, *_ in entries:
                config[name] = value or ""
                if source == _SET_FOR_TOPIC and not (read_only or sensitive):
                    own[name] = value or ""
    return config, own


def _check(code: int, what: str, message: str | None) -> None:
    if code:
        raise Broken(
            f"{what} ({for_code(code).__name__}{': ' + message if message else ''})",
            todo="do it by hand, or allow this user to",
        )


async def read_letters(settings: KafkaSettings) -> AsyncIterator[tuple[int, str, DeadLetter | None]]:
    """The records of the dead-letters topic, in order: place, key, and the letter, or None for a tombstone."""
    consumer = AIOKafkaConsumer(
        settings.dead_letters_topic,
        bootstrap_servers=settings.brokers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=2 * MAX_RECORD_BYTES,
        client_id="watchword",
    )
    try:
        await consumer.start()
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    letter = DeadLetter.FromString(record.value) if record.value else None
                    yield record.offset, (record.key or b"").decode(errors="replace"), letter
    except (KafkaError, OSError) as error:
        raise _translated(error, settings.brokers) from error
    finally:
        await consumer.stop()


class FrameProducer:
    """Sends frames and dead letters; each call returns when the broker has acknowledged the record.

    The callers bound the records in flight: each camera is one caller and waits for its record before the next, which
    also keeps its frames in order.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._spoiled = False
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect. Transient when the broker does not answer."""
        self._producer = await self._connected()

    async def close(self) -> None:
        """Close the connections. Records that the broker does not accept soon stay unsent. May be called twice."""
        async with self._changing:
            producer, self._producer = self._producer, None
            if producer is not None:
                self._retire(producer)
        await asyncio.gather(*self._retiring)

    async def send(self, frame: Frame) -> None:
        """Stamp one frame and send it. Invalid when it is too large for the broker."""
        frame.published_ms = now_ms()
        value = frame.SerializeToString()
        if len(value) > MAX_RECORD_BYTES:
            raise Invalid(
                f"a frame of {frame.camera} has {len(value):,} bytes, the broker takes {MAX_RECORD_BYTES:,}",
                todo="lower camera.jpeg_quality",
            )
        headers = [(key, text.encode()) for key, text in tracing.carried()]
        await self._send(self._settings.frames_topic, frame.camera.encode(), value, headers)

    async def bury(self, letter: DeadLetter) -> None:
        """Send one dead letter. It replaces an earlier one of the same origin."""
        await self._send(self._settings.dead_letters_topic, letter_key(letter).encode(), letter.SerializeToString())

    async def take_away(self, key: str) -> None:
        """Delete a dead letter, by sending a tombstone."""
        await self._send(self._settings.dead_letters_topic, key.encode(), None)

    async def send_again(self, letter: DeadLetter) -> None:
        """Send the record of a dead letter to the topic it came from, with its key and value."""
        await self._send(letter.topic, letter.key or None, letter.value)

    async def _send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        producer = await self._working()
        try:
            # Cancelling the wait would not unsend the record, so it has no deadline here: aiokafka's request timeout
            # ends it.
            await producer.send_and_wait(topic, value, key=key, headers=list(headers))
        except MessageSizeTooLargeError as error:
            raise Invalid(
                f"the broker refuses a record of {len(value or b''):,} bytes", todo="raise its limit"
            ) from error
        except (KafkaError, OSError) as error:
            # An idempotent producer has numbered the lost batch; the broker refuses every later sequence number.
            self._spoiled = self._spoiled or (self._settings.idempotent and producer is self._producer)
            raise _translated(error, self._settings.brokers) from error

    async def _working(self) -> Any:
        """The producer; a spoiled one is replaced first."""
        async with self._changing:
            if self._producer is None:
                raise Transient("the producer is not connected", todo="try again")
            if self._spoiled:
                fresh = await self._connected()
                spoiled, self._producer, self._spoiled = self._producer, fresh, False
                # Other callers may still wait for its records in flight.
                self._retire(spoiled)
            return self._producer

    async def _connected(self) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.brokers,
            acks="all",
            enable_idempotence=self._settings.idempotent,
            max_request_size=2 * MAX_RECORD_BYTES,
            request_timeout_ms=_REQUEST_MS,
            client_id="watchword",
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise _translated(error, self._settings.brokers) from error
        return producer

    def _retire(self, producer: Any) -> None:
        """Close it in the background."""
        task = asyncio.create_task(_stopped(producer))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def _stopped(producer: Any) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await producer.stop()
    except TimeoutError:
        log.warning("a producer was closed with records that the broker did not accept")


@asynccontextmanager
async def _admin(brokers: str, timeout_s: float) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=brokers, request_timeout_ms=max(1, int(timeout_s * 1000)), client_id="watchword"
    )
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        raise _translated(error, brokers) from error
    finally:
        await admin.close()


def letter_key(letter: DeadLetter) -> str:
    """The key of the letter: the origin of its record."""
    return f"{letter.topic}/{letter.partition}@{letter.offset}"


def _translated(error: Exception, brokers: str) -> WatchwordError:
    reason = str(error) or type(error).__name__
    if isinstance(error, IncompatibleBrokerVersion | UnsupportedVersionError):
        return Broken(f"the broker at {brokers} cannot do this ({reason})", todo="use an Apache Kafka")
    return Transient(
        f"no Kafka broker answers at {brokers} ({reason})", todo="is it running? `watchword doctor` checks"
    )
