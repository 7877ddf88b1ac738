from __future__ import annotations

from pathlib import Path

import pytest

from broker.kafka import cluster_answers, ensure_topics
from broker.settings import KafkaSettings
from tests.tools import apache_kafka as tool
from tests.tools.apache_kafka import NoKafkaHere, apache_kafka_part, jars
from tests.tools.servers import Server
from watchword.stack.ports import Port


@pytest.mark.stack
async def test_both_brokers_answer_and_take_topics(any_broker: str) -> None:
    assert await cluster_answers(any_broker, 5) == 1
    await ensure_topics(KafkaSettings(brokers=any_broker, frames_topic="both", dead_letters_topic="both-dead"))


@pytest.mark.stack
async def test_a_killed_kafka_starts_again_on_the_same_data_and_port(kafka_jars: Path, tmp_path: Path) -> None:
    server = Server(apache_kafka_part(Port(), tmp_path / "data", kafka_jars), tmp_path / "log")
    try:
        await server.start()
        address = server.address
        settings = KafkaSettings(brokers=address)
        await ensure_topics(settings)
        await server.kill()
        assert not server.alive
        await server.start()
        assert server.address == address
        await ensure_topics(settings)
        await server.stop()
        assert not server.alive
    finally:
        server.end()


def test_a_machine_without_java_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoKafkaHere, match="java is not installed"):
        tool.java()


def test_a_machine_without_maven_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoKafkaHere, match="mvn is not installed"):
        jars(tmp_path / "kafka")


def test_a_fetch_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:/usr/bin:/bin")
    with pytest.raises(NoKafkaHere, match="Maven cannot fetch it"):
        jars(tmp_path / "cache" / "kafka")
    assert list((tmp_path / "cache").iterdir()) == []
