"""The brokers on which this room is tested: the embedded one, and an Apache Kafka where Java and Maven are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.tools.apache_kafka import NoKafkaHere, apache_kafka_part, jars
from tests.tools.servers import Server
from watchword.stack.ports import Port


@pytest.fixture(scope="session")
def apache_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of an Apache Kafka."""
    folder = tmp_path_factory.mktemp("apache-kafka")
    try:
        server = Server(apache_kafka_part(Port(), folder / "data", jars()), folder / "log")
    except NoKafkaHere as reason:
        pytest.skip(f"no Apache Kafka here: {reason}")
    try:
        asyncio.run(server.start())
        yield server.address
    finally:
        server.end()


@pytest.fixture(params=["embedded", "apache"])
def any_broker(request: pytest.FixtureRequest) -> str:
    """HOST:PORT of the embedded broker and of an Apache Kafka, one after the other."""
    address: str = request.getfixturevalue("broker" if request.param == "embedded" else "apache_broker")
    return address
