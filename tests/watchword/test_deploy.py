"""The cluster's settings in `deploy/`: every process starts on them, serves where they say, and finds the others."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from proto.errors import Unknown
from proto.v1 import query_pb2
from query.client import QueryClient
from tests.clips import CLIPS
from tests.tools.postgres import Postgres
from tests.tools.s3 import KEY, S3, SECRET
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
    """The processes, each on a host and a disk of its own, with the ports that the file gives them.

    Only hosts, and the parts that are not ours, are replaced. Of the rest the broker's limits are taken into account:
    it is one, in memory, it knows no idempotent producers, and it lets a worker wait for half of its session.
    """

    def __init__(self, folder: Path, broker: str, milvus: str, redis_url: str, postgres: Postgres, s3: S3) -> None:
        self.settings = read_settings(config=FILE)
        self.folder = folder
        net = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(256)}"
        self.hosts = {name: f"{net}.{number}" for number, name in enumerate(NAMES, 1)}
        self._given = {
            "catalog.url": postgres.new_database(),
            "media.url": f"s3://{s3.new_bucket()}/pictures",
            "media.endpoint": s3.endpoint,
            "media.key": KEY,
            "media.secret": SECRET,
            "media.allow_http": "true",
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
        given = {"data_dir": str(self.folder / "somebody"), **self._given, **more}
        sets = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
        return sys.executable, "-m", "watchword", "--config", str(FILE), *sets, *words

    async def token(self, name: str, *words: str) -> str:
        """A new token, made as people make one."""
        child = await asyncio.create_subprocess_exec(
            *self.command("token", "create", name, "--json", *words), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(child.communicate(), 60)
        made: str = json.loads(said)["token"]
        return made

    def at(self, name: str, listen: str) -> str:
        """Where that process serves what the file lets it bind at `listen`, which must be every interface."""
        host, _, port = listen.rpartition(":")
        assert host == ANYWHERE
        return f"{self.hosts[name]}:{port}"

    def page(self, name: str) -> str:
        return self.at(name, f"{self.settings.ops.host}:{self.settings.ops.port}")

    def _part(self, name: str) -> Part:
        listens = {
            "data_dir": str(self.folder / name),
            "encoder.listen": self.at("worker", self.settings.encoder.listen),
            "query.listen": self.at("query", self.settings.query.listen),
            "gateway.listen": self.at("gateway", self.settings.gateway.listen),
            "ops.host": self.page(name).rpartition(":")[0],
        }
        launch = Launch(self.command("run", name, **listens), cwd=self.folder, env={"PYTHONPATH": str(ROOT)})
        page = self.page(name)
        return Part(name, lambda: page, lambda: ready.page(page), lambda: launch, deadline_s=180, grace_s=15)


def _moved(address: str, host: str) -> str:
    """The address with another host."""
    return f"{host}:{address.rpartition(':')[2]}"


@pytest.fixture
async def cluster(
    tmp_path: Path, broker: str, milvus: str, redis_url: str, postgres: Postgres, s3: S3
) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, broker, milvus, redis_url, postgres, s3)
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
    token = await cluster.token("tests")
    async with QueryClient(_moved(settings.query.address, cluster.hosts["query"]), 20, token=token) as query:
        assert list((await query.search(text="a dog")).coverage.shards_missing) == []
    asked = f"http://{cluster.at('gateway', settings.gateway.listen)}/api/v1/search?q=a+dog"
    async with aiohttp.ClientSession() as session:
        async with session.get(asked) as refused:
            assert refused.status == 401
        async with session.get(asked, headers={"authorization": f"Bearer {token}"}) as answer:
            assert (await answer.json())["coverage"]["shards_missing"] == []
    assert await ran(cluster.command("search", "a dog", "--json")) == 10
    assert await ran(cluster.command("search", "a dog", "--json", **{"access.token": token})) == 0


async def test_what_one_process_knows_reaches_the_others_though_each_has_a_disk_of_its_own(cluster: Cluster) -> None:
    assert await ran(cluster.command("camera", "add", "bikes", str(CLIPS["bikes"]), "--loop")) == 0
    assert await ran(cluster.command("camera", "add", "yard", str(CLIPS["bigbuckbunny"]), "--loop", "--unchecked")) == 0
    address = _moved(cluster.settings.query.address, cluster.hosts["query"])
    bikes, yard = await cluster.token("rider", "--camera", "bikes"), await cluster.token("guard", "--camera", "yard")
    async with QueryClient(address, 20, token=bikes) as query, asyncio.timeout(120):
        hits: list[query_pb2.Hit] = []
        while not hits:
            reply = await query.search(text="a person riding a bicycle", cameras=("bikes",))
            hits = list(reply.hits)
        picture: bytes | None = None
        while picture is None:
            with suppress(Unknown):  # it comes beside the row
                picture = (await query.thumbnail(hits[0].moment_id)).jpeg
        assert {hit.camera for hit in (await query.search(text="a meadow", limit=100)).hits} == {"bikes"}
        with pytest.raises(Unknown, match="no camera is named 'yard'"):
            await query.search(text="a meadow", cameras=("yard",))
        other = query.on_behalf(yard)
        assert "bikes" not in {hit.camera for hit in (await other.search(text="a bicycle", limit=100)).hits}
        for refused in (other.thumbnail(hits[0].moment_id), other.search(moment_id=hits[0].moment_id)):
            with pytest.raises(Unknown):
                await refused
    assert picture.startswith(b"\xff\xd8")
    assert not any((cluster.folder / name).exists() for name in ("stream", "query", "somebody"))
    left = [path.name for path in (cluster.folder / "camera").iterdir()]
    assert left == ["crashes"]  # which tells the next process of this host what crashed the last one


async def ran(command: Sequence[str]) -> int:
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    return await asyncio.wait_for(child.wait(), 60)


def test_nothing_embedded_would_be_started_on_the_file() -> None:
    settings: Settings = read_settings(config=FILE)
    assert settings.kafka.brokers
    assert settings.milvus.endpoints
    assert settings.redis.url.get_secret_value()
    assert settings.encoder.address
    assert settings.query.address
