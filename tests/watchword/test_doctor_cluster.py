"""`watchword doctor` on a cluster: several encoders, clocks, and a query service that answers from half of it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aiokafka import AIOKafkaProducer

from broker.kafka import ensure_topics
from proto.serving import Door, GrpcServer, answers
from proto.v1 import query_pb2, query_pb2_grpc
from tests.tools.s3 import S3
from tests.watchword.test_doctor import findings
from tests.watchword.test_processes import NEW, OLD, encoding
from watchword.doctor import examine
from watchword.settings import read_settings
from watchword.stack.ports import Port

Context = grpc.aio.ServicerContext[Any, Any]


class Query(query_pb2_grpc.QueryServicer):
    """Answers every question with the same reply."""

    def __init__(self, door: Door, reply: query_pb2.SearchReply) -> None:
        self.door = door
        self._reply = reply

    @answers
    async def Search(  # noqa: N802 - the name that gRPC gives
        self, request: query_pb2.SearchRequest, context: Context
    ) -> query_pb2.SearchReply:
        return self._reply

    async def Thumbnail(  # noqa: N802
        self, request: query_pb2.ThumbnailRequest, context: Context
    ) -> query_pb2.ThumbnailReply:
        raise AssertionError("nobody asks for this here")

    async def Cameras(  # noqa: N802
        self, request: query_pb2.CamerasRequest, context: Context
    ) -> query_pb2.CamerasReply:
        raise AssertionError("nobody asks for this here")


@asynccontextmanager
async def querying(space: str, *missing: str) -> AsyncIterator[str]:
    """A query service that searches this space without these shards; its address."""
    server = GrpcServer("the query service", "watchword.v1.Query", most_calls=8)
    coverage = query_pb2.Coverage(shards_missing=missing, shards_searched=2 - len(missing))
    query_pb2_grpc.add_QueryServicer_to_server(
        Query(server.door, query_pb2.SearchReply(space=space, coverage=coverage)),  # type: ignore[abstract]
        server.methods,
    )
    await server.start("127.0.0.1:0")
    server.set_ready(True)
    try:
        yield server.address
    finally:
        await server.stop(0)


async def test_every_encoder_is_told_and_one_that_is_away_as_well(tmp_path: Path) -> None:
    away = Port()
    away.settle()
    async with encoding() as (_, first), encoding() as (_, second):
        given = {"data_dir": str(tmp_path), "encoder.address": f"{first},{second},{away.address}"}
        found = [one for one in await examine(read_settings(given)) if one.part == "encoder"]
    assert {one.seen.split(": ")[0]: one.ok for one in found} == {first: True, second: True, away.address: False}
    assert all(one.todo for one in found if not one.ok)


async def test_encoders_of_two_spaces_are_told(tmp_path: Path) -> None:
    async with encoding() as (_, first), encoding() as (other, second):
        other.space = NEW
        found = await findings(read_settings({"data_dir": str(tmp_path), "encoder.address": f"{first},{second}"}))
    assert not found["space"].ok
    assert OLD in found["space"].seen
    assert NEW in found["space"].seen


async def test_a_query_service_is_asked_a_question(tmp_path: Path) -> None:
    async with querying(OLD) as query, encoding() as (_, encoder):
        given = {"data_dir": str(tmp_path), "query.address": query, "encoder.address": encoder}
        assert (await findings(read_settings(given)))["query"].seen.endswith(f"searched 2 shards in space {OLD}")


async def test_a_query_service_that_misses_a_shard_is_told(tmp_path: Path) -> None:
    async with querying(OLD, "http://milvus-2:19530") as query:
        found = (await findings(read_settings({"data_dir": str(tmp_path), "query.address": query})))["query"]
    assert not found.ok
    assert "milvus-2" in found.seen


async def test_a_query_service_of_another_space_than_the_encoders_is_told(tmp_path: Path) -> None:
    async with querying(NEW) as query, encoding() as (_, encoder):
        given = {"data_dir": str(tmp_path), "query.address": query, "encoder.address": encoder}
        found = (await findings(read_settings(given)))["query"]
    assert not found.ok
    assert "restart" in found.todo


async def test_a_bucket_of_pictures_that_is_there_and_one_that_is_not_are_told(tmp_path: Path, s3: S3) -> None:
    for bucket, there in ((s3.new_bucket(), True), ("no-such-bucket", False)):
        settings = read_settings({"data_dir": str(tmp_path)}).model_copy(update={"media": s3.settings(bucket)})
        found = next(one for one in await examine(settings) if one.part == "pictures")
        assert found.ok is there
        assert bucket in found.seen
        assert there or found.todo


async def test_a_clock_that_is_apart_is_told(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchword.doctor_cluster.CLOCK_S", -1.0)
    found = (await findings(read_settings({"data_dir": str(tmp_path), "redis.url": redis_url})))["redis"]
    assert not found.ok
    assert "this machine's" in found.seen
    assert "NTP" in found.todo


async def test_a_broker_whose_clock_is_ahead_is_told(
    tmp_path: Path, apache_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = secrets.token_hex(4)
    given = {
        "data_dir": str(tmp_path),
        "kafka.brokers": apache_kafka,
        "kafka.frames_topic": f"frames-{named}",
        "kafka.dead_letters_topic": f"letters-{named}",
    }
    settings = read_settings(given)
    await ensure_topics(settings.kafka)
    async with AIOKafkaProducer(bootstrap_servers=apache_kafka) as producer:
        await producer.send_and_wait(settings.kafka.frames_topic, b"frame")
    assert (await findings(settings))["clocks"].ok
    # As if this machine's clock were an hour behind.
    monkeypatch.setattr("watchword.doctor_cluster.CLOCK_S", -3600.0)
    found = (await findings(settings))["clocks"]
    assert not found.ok
    assert "in 1 partitions" in found.seen
