from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from broker.kafka import FrameProducer, cluster_answers, ensure_topics
from broker.settings import KafkaSettings
from broker.topics import MAX_RECORD_BYTES
from proto.errors import Invalid, Transient, WatchwordError
from proto.types import now_ms
from proto.v1.events_pb2 import Frame
from tests.stream.rig import broker_settings, until
from tests.tools.apache_kafka import apache_kafka_part
from tests.tools.servers import Server
from watchword.stack.ports import Port

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


async def test_a_frames_time_is_the_brokers_whatever_the_sender_says(apache_kafka: str) -> None:
    settings = broker_settings(apache_kafka)
    await ensure_topics(settings)
    async with AIOKafkaProducer(bootstrap_servers=apache_kafka) as producer:
        sent_at = now_ms()
        await producer.send_and_wait(settings.frames_topic, b"", timestamp_ms=sent_at - 3_600_000)
    async with AIOKafkaConsumer(
        settings.frames_topic, bootstrap_servers=apache_kafka, auto_offset_reset="earliest"
    ) as consumer:
        record = await consumer.getone()
    assert record.timestamp >= sent_at


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


@pytest.fixture
async def own_kafka(kafka_jars: Path, tmp_path: Path) -> AsyncIterator[Server]:
    """An Apache Kafka that this test may stop."""
    server = Server(apache_kafka_part(Port(), tmp_path / "kafka", kafka_jars), tmp_path / "kafka.log")
    server.launch()
    try:
        await server.serving()
        yield server
    finally:
        server.end()


class Filming:
    """Cameras that send one frame after the other, and a frame again until the broker has it."""

    def __init__(self, producer: FrameProducer, cameras: int) -> None:
        self.sent = dict.fromkeys([f"cam-{number}" for number in range(cameras)], 0)
        self._producer = producer

    async def film(self, camera: str) -> None:
        while True:
            with suppress(WatchwordError):
                await self._producer.send(Frame(camera=camera, sequence=self.sent[camera]))
                self.sent[camera] += 1
            await asyncio.sleep(0.01)


async def test_idempotent_cameras_go_on_after_their_broker_was_restarted(own_kafka: Server) -> None:
    settings = broker_settings(own_kafka.address).model_copy(update={"idempotent": True})
    await ensure_topics(settings)
    async with FrameProducer(settings) as producer:
        filming = Filming(producer, 8)
        tasks = [asyncio.create_task(filming.film(camera)) for camera in filming.sent]
        try:
            await until(lambda: min(filming.sent.values()) >= 10, "all cameras are heard")
            await own_kafka.stop()
            await asyncio.sleep(0.5)  # its last answers may still be on their way
            before = dict(filming.sent)
            await asyncio.sleep(1)
            assert filming.sent == before, "nothing is heard while the broker is away"
            await own_kafka.start()
            await until(
                lambda: all(filming.sent[camera] >= before[camera] + 10 for camera in before), "heard again", 60
            )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_producer_closes_although_the_broker_never_took_what_it_was_handed(own_kafka: Server) -> None:
    settings = broker_settings(own_kafka.address).model_copy(update={"idempotent": True})
    await ensure_topics(settings)
    async with asyncio.timeout(60), FrameProducer(settings) as producer:
        await producer.send(Frame(camera="gate"))
        await own_kafka.kill()
        sending = asyncio.create_task(producer.send(Frame(camera="gate")))
        await asyncio.sleep(0)
        sending.cancel()
