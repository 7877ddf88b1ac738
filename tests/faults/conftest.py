"""Brokers and houses for the drills; each is started once a session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.house import House, apache_house, embedded_house
from tests.tools.apache_kafka import NoKafkaHere, apache_kafka_part, jars
from tests.tools.servers import Server
from watchword.stack.ports import Port


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """Apache Kafka's jars, fetched if need be."""
    try:
        return jars()
    except NoKafkaHere as reason:
        pytest.skip(f"no Apache Kafka here: {reason}")


@pytest.fixture(scope="session")
def apache_kafka(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of an Apache Kafka."""
    folder = tmp_path_factory.mktemp("apache-kafka")
    server = Server(apache_kafka_part(Port(), folder / "data", kafka_jars), folder / "log")
    try:
        asyncio.run(server.start())
        yield server.address
    finally:
        server.end()


@pytest.fixture(params=["embedded", "apache"])
def any_broker(request: pytest.FixtureRequest) -> str:
    """HOST:PORT of the embedded broker and of an Apache Kafka, one after the other."""
    address: str = request.getfixturevalue("broker" if request.param == "embedded" else "apache_kafka")
    return address


@pytest.fixture(scope="module")
def house(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Apache Kafka and Milvus."""
    with _up(apache_house(tmp_path_factory.mktemp("house"))) as house:
        yield house


@pytest.fixture(scope="module")
def small_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The embedded broker and Milvus."""
    with _up(embedded_house(tmp_path_factory.mktemp("house"))) as house:
        yield house


@contextlib.contextmanager
def _up(house: House) -> Iterator[House]:
    # It tells every connection that fails; in the drills they are meant to.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        asyncio.run(house.start())
        yield house
    finally:
        house.end()
