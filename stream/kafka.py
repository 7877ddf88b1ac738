"""The broker, as cameras and the stream worker use it; the only module that knows aiokafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    TopicAlreadyExistsError,
    for_code,
)

from proto.errors import Broken, Invalid, Transient, WatchwordError
from proto.types import now_ms
from proto.v1 import events_pb2
from stream.settings import KafkaSettings

log = logging.getLogger("watchword.stream")

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""The largest record sent; the frames topic is created with this limit."""
_REQUEST_MS = 10_000


async def cluster_answers(brokers: str, timeout_s: float) -> int:
    """Ask for the cluster's metadata; how many brokers there are. Transient when nobody answers in time."""
    async with _admin(brokers, timeout_s) as admin:
        return len((await admin.describe_cluster())["brokers"])


async def ensure_topics(settings: KafkaSettings, timeout_s: float = 15.0) -> None:
    """Create the topics that are missing. Two callers at once are fine."""
    retention_ms = str(settings.retention_minutes * 60_000)
    wanted = {
        settings.frames_topic: NewTopic(
            settings.frames_topic,
            settings.partitions,
            settings.replication,
            topic_configs={"retention.ms": retention_ms, "max.message.bytes": str(MAX_RECORD_BYTES)},
        ),
        # Dead letters are few and are looked at by people, later: they stay a week.
        settings.dead_letters_topic: NewTopic(
            settings.dead_letters_topic,
            1,
            settings.replication,
            topic_configs={"retention.ms": str(7 * 24 * 3_600_000), "max.message.bytes": str(2 * MAX_RECORD_BYTES)},
        ),
    }
    async with _admin(settings.brokers, timeout_s) as admin:
        missing = [wanted[name] for name in wanted.keys() - set(await admin.list_topics())]
        if not missing:
            return
        reply = await admin.create_topics(missing)
        for name, code, *_ in reply.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise Broken(
                    f"the broker does not create the topic {name} ({error.__name__})",
                    todo="create it by hand, or allow this user to",
                )
    log.info("created topics: %s", ", ".join(sorted(topic.name for topic in missing)))


class FrameProducer:
    """Sends frames and dead letters; each call ends when the broker has the record.

    What is under way is bounded by the callers: each waits for its own record, and one camera is one caller, which
    also keeps a camera's frames in order.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Any = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect. Transient when the broker does not answer."""
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
        self._producer = producer

    async def close(self) -> None:
        """Let go of the connections. May be called twice."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def send(self, frame: events_pb2.Frame) -> None:
        """Send one frame, stamped. Invalid when it is too large for the broker."""
        frame.published_ms = now_ms()
        value = frame.SerializeToString()
        if len(value) > MAX_RECORD_BYTES:
            raise Invalid(
                f"a frame of {frame.camera} has {len(value):,} bytes, the broker takes {MAX_RECORD_BYTES:,}",
                todo="lower camera.jpeg_quality",
            )
        await self._send(self._settings.frames_topic, frame.camera.encode(), value)

    async def bury(self, letter: events_pb2.DeadLetter) -> None:
        """Send one dead letter."""
        await self._send(self._settings.dead_letters_topic, letter.key or None, letter.SerializeToString())

    async def _send(self, topic: str, key: bytes | None, value: bytes) -> None:
        if self._producer is None:
            raise Transient("the producer is not connected", todo="try again")
        try:
            # A cancelled wait would not unsend the record, so the wait has no deadline of its own: aiokafka's
            # request timeout ends it.
            await self._producer.send_and_wait(topic, value, key=key)
        except MessageSizeTooLargeError as error:
            raise Invalid(f"the broker refuses a record of {len(value):,} bytes", todo="raise its limit") from error
        except (KafkaError, OSError) as error:
            raise _translated(error, self._settings.brokers) from error


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


def _translated(error: Exception, brokers: str) -> WatchwordError:
    reason = str(error) or type(error).__name__
    return Transient(
        f"no Kafka broker answers at {brokers} ({reason})", todo="is it running? `watchword doctor` checks"
    )
