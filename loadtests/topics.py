"""Reads the topics of a drill or a load test, and its group's progress."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError
from google.protobuf.message import DecodeError

from broker.settings import KafkaSettings
from loadtests.ledger import Sent
from proto.v1.events_pb2 import DeadLetter, Frame


async def lag(kafka: KafkaSettings, sent: Iterable[Sent]) -> int:
    """How many offsets, up to the last sent frame, the group has not committed yet."""
    # Not the broker's end offsets: the embedded broker reports the start of its last batch.
    ends: dict[int, int] = defaultdict(int)
    for frame in sent:
        partition, offset = frame.place
        ends[partition] = max(ends[partition], offset + 1)
    done = await committed(kafka)
    return sum(max(0, end - done.get(number, 0)) for number, end in ends.items())


async def committed(kafka: KafkaSettings) -> dict[int, int]:
    """The group's committed offset of each partition; 0 if there is none."""
    async with _looking(kafka.brokers, group=kafka.group) as consumer:
        places = await _partitions(consumer, kafka.frames_topic)
        return {place.partition: max(0, await consumer.committed(place) or 0) for place in places}


async def until_drained(kafka: KafkaSettings, sent: Iterable[Sent], within_s: float) -> int:
    """Wait until everything sent is committed; returns the lag left at the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            left = await lag(kafka, sent)
        except (KafkaError, OSError):
            left = -1
        if left == 0 or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.5)


async def rewind(kafka: KafkaSettings) -> None:
    """Reset the group to the first record. The group must have no members."""
    async with _looking(kafka.brokers, group=kafka.group) as consumer:
        places = await _partitions(consumer, kafka.frames_topic)
        consumer.assign(places)
        await consumer.commit(await consumer.beginning_offsets(places))


async def drop_records(kafka: KafkaSettings, before: Mapping[int, int]) -> None:
    """Make the broker drop the frames before these offsets, by partition, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.brokers)
    await admin.start()
    try:
        places = {TopicPartition(kafka.frames_topic, number): offset for number, offset in before.items()}
        await admin.delete_records({place: RecordsToDelete(offset) for place, offset in places.items()})
    finally:
        await admin.close()


async def dead_letters(kafka: KafkaSettings) -> list[DeadLetter]:
    """Every dead letter, in order."""
    return [DeadLetter.FromString(record.value) async for record in _records(kafka.brokers, kafka.dead_letters_topic)]


async def unanswered(kafka: KafkaSettings, sent: Iterable[Sent]) -> list[Sent]:
    """Frames that are in the topic although their acknowledgement never arrived."""
    known = {frame.place for frame in sent}
    return [
        _found(record)
        async for record in _records(kafka.brokers, kafka.frames_topic)
        if (record.partition, record.offset) not in known
    ]


@dataclass(frozen=True, slots=True)
class Taken:
    """One frame that is in the topic."""

    sent: Sent
    run: int
    recorded: bool
    """Whether its camera is a file."""
    taken_ms: int = 0
    """When the broker took it, by its clock."""


async def taken_frames(kafka: KafkaSettings) -> list[Taken]:
    """Every frame in the topic, each partition in order. All must be valid."""
    found = []
    async for record in _records(kafka.brokers, kafka.frames_topic):
        frame = Frame.FromString(record.value)
        found.append(Taken(_found(record), frame.run, frame.recorded, record.timestamp))
    return found


def _found(record: Any) -> Sent:
    place, camera = (record.partition, record.offset), (record.key or b"").decode()
    try:
        frame = Frame.FromString(record.value)
    except DecodeError:
        return Sent(place, camera, 0, 0, poison=True)
    return Sent(place, camera, frame.captured_ms, frame.sequence, opens=frame.novelty == 1)


async def _records(brokers: str, topic: str) -> AsyncIterator[Any]:
    """Every record in the topic now, each partition in order."""
    async with _looking(brokers) as consumer:
        places = await _partitions(consumer, topic)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    yield record


@asynccontextmanager
async def _looking(brokers: str, *, group: str | None = None) -> AsyncIterator[Any]:
    """A consumer that joins no group; with `group`, it can ask for and set that group's offsets."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        group_id=group,
        enable_auto_commit=False,
        max_partition_fetch_bytes=16 * 1024 * 1024,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    # The consumer fetches metadata only of topics added to its client.
    consumer._client.add_topic(topic)
    await consumer._client.force_metadata_update()
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
