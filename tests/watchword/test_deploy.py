"""The cluster's settings in `deploy/`: every process starts on them, serves where they say, and finds the others."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from query.client import QueryClient
from tests.tools.servers import Server
from watchword.settings import Settings, read_settings
from watchword.stack import ready
from watchword.stack.parts import Launch, Part
from workers.client import EncoderClient

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "watchword.toml"
NAMES = ("worker", "camera", "stream", "query", "gateway")
ANYWHERE = "0.0.0.0"

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="each process gets a loopback address of its own"),
]


class Cluster:
    """The processes, each on a host of its own, with the ports that the file gives them.

    Only hosts are replaced. Of the rest the broker's limits are taken into account: it is one, in memory, it knows no
    idempotent producers, and it lets a worker wait for half of its session.
    """

    def __init__(self, folder: Path, broker: str, milvus: str, redis_url: str) -> None:
        self.settings = read_settings(config=FILE)
        self._folder = folder
        net = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(256)}"
        self.hosts = {name: f"{net}.{number}" for number, name in enumerate(NAMES, 1)}
        self._given = {
            "data_dir": str(folder / "data"),
            "kafka.brokers": broker,
            "kafka.replication": "1",
            "kafka.idempotent": "false",
            "kafka.session_s": "6",
            "kafka.frames_topic": f"frames-{secrets.token_hex(4)}",
            "milvus.endpoints": json.dumps([milvus]),
            "redis.url": redis_url,
            "encoder.address": _moved(self.settings.encoder.address, self.hosts["worker"]),
            "query.address": _moved(self.settings.query.address, self.hosts["query"]),
        }
        self.servers = {name: Server(self._part(name), folder / f"{name}.log") for name in NAMES}

    def command(self, *words: str, **more: str) -> tuple[str, ...]:
        """`watchword` on the file, with these hosts."""
        sets = [word for key, value in {**self._given, **more}.items() for word in ("--set", f"{key}={value}")]
        return sys.executable, "-m", "watchword", "--config", str(FILE), *sets, *words

    def at(self, name: str, listen: str) -> str:
        """Where that process serves what the file lets it bind at `listen`, which must be every interface."""
        host, _, port = listen.rpartition(":")
        assert host == ANYWHERE
        return f"{self.hosts[name]}:{port}"

    def page(self, name: str) -> str:
        return self.at(name, f"{self.settings.ops.host}:{self.settings.ops.port}")

    def _part(self, name: str) -> Part:
        listens = {
            "encoder.listen": self.at("worker", self.settings.encoder.listen),
            "query.listen": self.at("query", self.settings.query.listen),
            "gateway.listen": self.at("gateway", self.settings.gateway.listen),
            "ops.host": self.page(name).rpartition(":")[0],
        }
        launch = Launch(self.command("run", name, **listens), cwd=self._folder, env={"PYTHONPATH": str(ROOT)})
        page = self.page(name)
        return Part(name, lambda: page, lambda: ready.page(page), lambda: launch, deadline_s=180, grace_s=15)


def _moved(address: str, host: str) -> str:
    """The address with another host."""
    return f"{host}:{address.rpartition(':')[2]}"


@pytest.fixture
async def cluster(tmp_path: Path, broker: str, milvus: str, redis_url: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, broker, milvus, redis_url)
    try:
        await cluster.servers["worker"].start()
        for name in NAMES[1:]:
            cluster.servers[name].launch()
        await asyncio.gather(*(cluster.servers[name].serving() for name in NAMES[1:]))
        yield cluster
    finally:
        for server in cluster.servers.values():
            server.end()


async def test_every_process_serves_where_the_file_says_and_is_found_where_the_file_says(cluster: Cluster) -> None:
    settings = cluster.settings
    for name in NAMES:
        await ready.page(cluster.page(name))
    await ready.health(cluster.at("worker", settings.encoder.listen))
    await ready.health(cluster.at("query", settings.query.listen))

    async with EncoderClient(_moved(settings.encoder.address, cluster.hosts["worker"]), timeout_s=20) as encoder:
        assert (await encoder.describe()).bundle == settings.encoder.bundle
    async with QueryClient(_moved(settings.query.address, cluster.hosts["query"]), 20) as query:
        assert list((await query.search(text="a dog")).coverage.shards_missing) == []
    asked = f"http://{cluster.at('gateway', settings.gateway.listen)}/api/v1/search?q=a+dog"
    async with aiohttp.ClientSession() as session, session.get(asked) as answer:
        assert (await answer.json())["coverage"]["shards_missing"] == []
    child = await asyncio.create_subprocess_exec(*cluster.command("search", "a dog", "--json"), cwd=ROOT)
    assert await asyncio.wait_for(child.wait(), 60) == 0


def test_nothing_embedded_would_be_started_on_the_file() -> None:
    settings: Settings = read_settings(config=FILE)
    assert settings.kafka.brokers
    assert settings.milvus.endpoints
    assert settings.redis.url.get_secret_value()
    assert settings.encoder.address
    assert settings.query.address
