"""Houses for the drills; each is started once a module."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.house import House, apache_house, embedded_house


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
