from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from index.milvus import MilvusStore
from index.settings import MilvusSettings
from proto.errors import Denied, Transient, WatchwordError
from proto.types import Moment, SpaceInfo
from tests.conftest import CACHE
from tests.contracts.moments import moment
from tests.tools.servers import Server
from watchword.stack import ready
from watchword.stack.parts import broker_part, milvus_part, redis_part
from watchword.stack.ports import Port

pytestmark = pytest.mark.stack
SPACE = SpaceInfo(id="5" * 16, dimension=4)


async def test_the_embedded_broker_answers(broker: str) -> None:
    await ready.broker(broker)


async def test_the_embedded_milvus_answers(milvus: str) -> None:
    await ready.milvus(milvus)


async def test_the_embedded_redis_answers(redis_url: str) -> None:
    await ready.redis(redis_url)


async def test_a_redis_that_refuses_a_user_is_told_apart_from_one_that_is_away(redis_url: str) -> None:
    with pytest.raises(Denied, match="invalid username-password"):
        await ready.redis(redis_url.replace("redis://", "redis://stranger:wrong@"))


@pytest.mark.parametrize(
    ("ask", "url"),
    [
        (ready.broker, "{}"),
        (ready.milvus, "http://{}"),
        (ready.redis, "redis://{}/0"),
        (ready.health, "{}"),
        (ready.page, "{}"),
    ],
    ids=["broker", "milvus", "redis", "health", "page"],
)
async def test_a_part_that_is_away_is_told_in_our_words(ask: ready.Ask, url: str) -> None:
    port = Port()
    port.settle()
    with pytest.raises(Transient, match=port.address):
        await ask(url.format(port.address))


@pytest.fixture
async def own_milvus(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(milvus_part(Port(), tmp_path / "milvus", CACHE, print), tmp_path / "log")
    await server.start()
    yield server
    await server.kill()


def moments(count: int) -> list[Moment]:
    vector = np.array([1, 0, 0, 0], dtype=np.float32)
    return [moment("gate", start, length_ms=1, vector=vector, space=SPACE) for start in range(count)]


async def test_what_milvus_acknowledged_survives_a_kill_and_is_soon_found_again(own_milvus: Server) -> None:
    store = MilvusStore(SPACE, MilvusSettings(endpoints=(own_milvus.address,)))
    assert await store.upsert(moments(50)) == {}
    await store.close()
    await own_milvus.kill()
    await own_milvus.start()
    store = MilvusStore(SPACE, MilvusSettings(endpoints=(own_milvus.address,)))
    async with asyncio.timeout(30):
        while (found := await counted(store)) is None:  # noqa: ASYNC110  # Milvus tells nobody when it has loaded
            await asyncio.sleep(0.2)
    await store.close()
    assert found == 50


async def counted(store: MilvusStore) -> int | None:
    try:
        return await store.count()
    except WatchwordError:
        return None


@pytest.mark.skipif(sys.platform != "linux", reason="kept on loopback by seccomp")
def test_the_embedded_parts_listen_on_this_machine_only(broker: str, milvus: str, redis_url: str) -> None:
    own = psutil.Process().children(recursive=True)
    listening = {
        connection.laddr.ip
        for child in own
        for connection in child.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert len(listening) == 2


def test_the_embedded_parts_keep_everything_in_the_data_folder(tmp_path: Path) -> None:
    for part in (
        broker_part(Port(), tmp_path / "broker"),
        redis_part(Port(), tmp_path / "redis"),
        milvus_part(Port(), tmp_path / "milvus", CACHE, print),
    ):
        assert part.plan is not None
        assert part.plan().cwd == tmp_path / part.name
