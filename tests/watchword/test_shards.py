"""Shards on two real Milvus servers: from one to two and back, with a mover that is killed half-way."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import delete

from catalog.shards import Shards
from catalog.store import Catalog
from catalog.tables import LEASES
from index.milvus import MilvusStore
from index.settings import MilvusSettings
from index.store import Ask
from proto.types import Moment, SpaceInfo
from tests.conftest import CACHE, serving
from tests.contracts.moments import NOON, ids, moment, ranked, region, unit
from tests.watchword.terminal import Cli, refused
from watchword.catalogs import open_catalog
from watchword.settings import Settings
from watchword.sharding import known_shards
from watchword.stack.parts import milvus_part
from watchword.stack.ports import Port

ROOT = Path(__file__).resolve().parents[2]
SPACE = SpaceInfo(secrets.token_hex(8), 16)
CAMERAS = [f"camera-{n}" for n in range(12)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two servers of their own: what others store on a shared one would be moved too."""
    folder = tmp_path_factory.mktemp("two")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        parts = [
            serving(milvus_part(Port(), folder / name, CACHE, print), folder / f"{name}.log") for name in ("a", "b")
        ]
        first, second = pool.map(stack.enter_context, parts)
        yield first, second


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(Settings(data_dir=tmp_path / "data")) as catalog:
        yield catalog


@contextlib.asynccontextmanager
async def a_process(settings: MilvusSettings, catalog: Catalog) -> AsyncIterator[MilvusStore]:
    """A store that follows the map, as stream and query processes have it."""
    known = await known_shards(settings, catalog)
    following = asyncio.create_task(known.follow())
    store = MilvusStore(SPACE, settings, known=known)
    try:
        await store.open()
        yield store
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await store.close()


class Load:
    """Writes moments, tells them again, and asks for all of them."""

    def __init__(self, store: MilvusStore) -> None:
        self.store = store
        self.told: dict[str, Moment] = {}
        self.number = 0

    async def write(self, count: int) -> None:
        new = []
        for _ in range(count):
            self.number += 1
            at_ms = NOON + self.number * 500
            new.append(
                moment(
                    CAMERAS[self.number % 12],
                    at_ms,
                    vector=unit(self.number),
                    regions=[region(1, at_ms=at_ms, vector=unit(self.number))],
                    space=SPACE,
                )
            )
        assert await self.store.upsert(new) == {}
        self.told |= {one.id: one for one in new}

    async def run(self) -> None:
        while True:
            await self.write(5)
            # Some of all times: what was written first moves first.
            wanted = list(self.told)[:: max(1, len(self.told) // 50)]
            found = {one.id for one in await self.store.fetch(wanted)}
            assert found == set(wanted)
            await asyncio.sleep(0.2)

    async def check(self) -> None:
        best = ranked(list(self.told.values()), unit(7))[:50]
        # A search may not see yet what was written just now.
        for _ in range(100):
            answer = await self.store.search(Ask(unit(7), 50))
            if ids(answer.hits) == best:
                break
            await asyncio.sleep(0.05)
        assert (answer.unsearched, ids(answer.hits)) == ([], best)
        camera = frozenset(CAMERAS[:1])
        mine = [one for one in self.told.values() if one.camera in camera]
        assert len(await self.store.between(camera, NOON, NOON + 10_000_000)) == len(mine)


@pytest.mark.stack
@pytest.mark.timeout(240)
async def test_one_shard_becomes_two_and_one_again_under_load_although_the_mover_is_killed(
    two: tuple[str, str], catalog: Catalog, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.moving.SETTLE_S", 1.5)
    first, second = two
    at = ("--set", f'milvus.endpoints=["{first}"]')

    async def run(*words: str) -> str:
        ended = await asyncio.to_thread(cli, *at, "index", *words)
        assert ended.code == 0, ended.err
        return ended.out

    async def refusal(*words: str) -> str:
        return refused(await asyncio.to_thread(cli, *at, "index", *words))

    async with a_process(MilvusSettings(endpoints=(first,)), catalog) as store:
        load = Load(store)
        await load.write(200)
        await run("shards", "add", "b", second)
        assert f"the Milvus at {first} is shard shard-1, not c" in await refusal("shards", "add", "c", first)
        assert f"the Milvus at {second} is shard b, not shard-1" in await refusal(
            "shards", "address", "shard-1", second
        )
        assert "holds moments" in await refusal("shards", "remove", "shard-1")
        working = asyncio.create_task(load.run())
        mover = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "watchword", "--data-dir", str(tmp_path / "data"), *at),
            *("index", "rebalance", "--rate", "30"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert mover.stdout is not None
        while b"moments copied" not in (line := await mover.stdout.readline()):
            assert line, "the mover ended by itself"
        mover.send_signal(signal.SIGKILL)
        await mover.communicate()
        assert any(slot.coming == "b" for slot in Shards(catalog).map().slots)
        with catalog.writing() as connection:
            connection.execute(delete(LEASES))
        assert "moved 128 slots" in await run("rebalance", "--rate", "5000")
        of = Shards(catalog).map()
        assert of.places(None) == {"shard-1", "b"}
        assert not [slot for slot in of.slots if slot.also]
        assert "50% of cameras; answers" in await run("shards", "list")

        await run("shards", "drain", "shard-1")
        await run("rebalance", "--rate", "5000")
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert working.cancelled(), working.exception()
        await load.check()
        await run("shards", "remove", "shard-1")
        await load.write(5)
        await load.check()
        assert await store.count() == len(load.told)
        with pytest.raises(Exception, match="was removed"):
            Shards(catalog).take_over([f"shard-1={first}"])
