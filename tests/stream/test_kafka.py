from __future__ import annotations

import asyncio
import socket

import pytest
from aiokafka import AIOKafkaConsumer

from proto.errors import Invalid, Transient
from proto.v1.events_pb2 import Frame
from stream.kafka import MAX_RECORD_BYTES, FrameProducer, cluster_answers, ensure_topics
from stream.settings import KafkaSettings
from tests.stream.rig import broker_settings

pytestmark = pytest.mark.stack


async def test_a_cluster_that_is_there_answers(broker: str) -> None:
    assert await cluster_answers(broker, 5) == 1


async def test_a_cluster_that_is_not_there_is_transient() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Transient, match="no Kafka broker answers at 127"):
            await cluster_answers(f"127.0.0.1:{unused.getsockname()[1]}", 2)


async def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with asyncio.timeout(5):
            with pytest.raises(Transient):
                await cluster_answers(f"127.0.0.1:{silent.getsockname()[1]}", 1)


async def test_topics_are_made_once_however_many_ask(broker: str) -> None:
    settings = broker_settings(broker, partitions=3)
    await asyncio.gather(*(ensure_topics(settings) for _ in range(3)))
    await ensure_topics(settings)
    consumer = AIOKafkaConsumer(settings.frames_topic, bootstrap_servers=broker)
    await consumer.start()
    assert consumer.partitions_for_topic(settings.frames_topic) == {0, 1, 2}
    await consumer.stop()


async def test_one_cameras_frames_stay_in_order_in_one_partition(broker: str) -> None:
    settings = broker_settings(broker, partitions=3)
    await ensure_topics(settings)
    async with FrameProducer(settings) as producer:
        for number in range(20):
            await producer.send(Frame(camera="gate", sequence=number))
    consumer = AIOKafkaConsumer(settings.frames_topic, bootstrap_servers=broker, auto_offset_reset="earliest")
    await consumer.start()
    async with asyncio.timeout(10):
        records = [await consumer.getone() for _ in range(20)]
    await consumer.stop()
    assert len({record.partition for record in records}) == 1
    frames = [Frame.FromString(record.value) for record in records]
    assert [frame.sequence for frame in frames] == list(range(20))
    assert all(frame.published_ms > 0 for frame in frames)


async def test_a_frame_over_the_limit_is_invalid_and_the_next_one_goes(broker: str) -> None:
    settings = broker_settings(broker)
    await ensure_topics(settings)
    async with FrameProducer(settings) as producer:
        with pytest.raises(Invalid, match="bytes"):
            await producer.send(Frame(camera="gate", jpeg=bytes(MAX_RECORD_BYTES)))
        await producer.send(Frame(camera="gate", jpeg=b"small"))


async def test_a_producer_without_a_broker_is_transient() -> None:
    with pytest.raises(Transient):
        await FrameProducer(KafkaSettings(brokers="127.0.0.1:1")).start()
    with pytest.raises(Transient):
        await FrameProducer(KafkaSettings(brokers="127.0.0.1:1")).send(Frame(camera="gate"))
