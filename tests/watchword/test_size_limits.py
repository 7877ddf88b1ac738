"""A limit in bytes from the command line to answers without the oldest, on a real index and a folder of pictures."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest

from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage
from catalog.known_life import KnownLife
from catalog.life import Life
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from catalog.store import Catalog
from index.opening import new_store
from index.store import Ask
from proto.access import EVERYTHING
from proto.errors import Unknown
from proto.types import Moment, now_ms
from query.asking import Question
from tests.contracts.moments import HOUR, MINUTE, SPACE, moment, of, unit, until_found
from tests.query.fakes import searcher
from tests.watchword.terminal import Cli
from watchword.catalogs import open_catalog
from watchword.settings import Settings
from watchword.sweeping import new_sweeper

HOURS = 16
JPEG = b"x" * 1_000_000


@pytest.fixture(params=["folder", pytest.param("milvus", marks=pytest.mark.stack)])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("milvus")) if request.param == "milvus" else f"faiss:{tmp_path / 'index'}"


@pytest.fixture
def settings(tmp_path: Path, endpoint: str) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": tmp_path / "data",
            "milvus": {"endpoints": [endpoint], "timeout_s": 60},
            "retention": {"moments_per_s": 1e6},
        }
    )


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    with open_catalog(settings) as catalog:
        yield catalog


async def test_the_oldest_of_a_camera_that_is_too_large_is_hidden_at_once_and_then_removed(
    cli: Cli, settings: Settings, catalog: Catalog, endpoint: str
) -> None:
    async def run(*words: str) -> str:
        return (await asyncio.to_thread(cli, "--set", f'milvus.endpoints=["{endpoint}"]', *words)).out

    # Other tests have moments on the same Milvus.
    small, other = (f"{name}-{secrets.token_hex(4)}" for name in ("gate", "dock"))
    for camera in (small, other):
        cli("camera", "add", camera, f"rtsp://127.0.0.1:9/{camera}", "--unchecked")
    began = now_ms() // HOUR * HOUR + MINUTE

    def moments(camera: str) -> list[Moment]:
        return [moment(camera, began - n * HOUR, space=SPACE) for n in range(1, HOURS + 1)]

    gate, dock = moments(small), moments(other)
    store = new_store(SPACE, settings.milvus)
    await store.open()
    await store.upsert([*gate, *dock])
    pictures = Thumbnails(FolderObjects(settings.data_dir / "thumbnails"))
    for one in (*gate, *dock):
        pictures.put(one.id, JPEG)
    life = KnownLife(Life(catalog), 0.0)
    registry, coverage = CameraRegistry(catalog), Coverage(catalog)
    asker = searcher(store, settings.data_dir, life=life, cameras=registry, coverage=coverage)

    async def found() -> set[str]:
        question = Question(text="truck", cameras=(small, other), all_moments=True, limit=100)
        return {hit.best.scored.span.id for hit in (await asker.search(question, timeout_s=30)).hits}

    await until_found(store, Ask(unit(1), 100, cameras=frozenset({small, other})), 2 * HOURS)
    assert await found() == {one.id for one in (*gate, *dock)}
    held = gate[13]
    day = ("--from", str(_local(held.start_ms)), "--to", str(_local(held.start_ms + MINUTE)))
    await run("hold", "add", small, *day, "--reason", "case 12")
    await run("retention", "set", small, "--bytes", "10MB")
    left = {one.id for one in (*gate[:9], held, *dock)}

    running = new_sweeper(settings, catalog)
    sweeper = running._sweeper
    with mock.patch.object(sweeper, "_expire"):
        await sweeper.round()
    assert Life(catalog).rules().floors == {small: gate[8].start_ms - MINUTE}
    assert await found() == left
    with pytest.raises(Unknown):
        await asker.thumbnail(gate[9].id, None, EVERYTHING)
    assert await store.count(of(small)) == HOURS

    sweeper._expired_ms = 0
    await sweeper.round()
    assert await found() == left
    assert (await store.count(of(small)), await store.count(of(other))) == (10, HOURS)
    assert {name for name, _ in pictures.moments(0, 2**50)} == left

    told = {one["camera"]: one for one in json.loads(await run("index", "status", "--json"))["cameras"]}
    assert (told[small]["bytes"], told[small]["held_below"]) == (10_000_000, 1)
    assert (told[other]["bytes"], told[other]["oldest_ms"]) == (None, dock[-1].start_ms)
    # A megabyte an hour.
    assert told[small]["bytes_days"] == pytest.approx(10 / 24, rel=0.2)
    words = await run("index", "status")
    assert "; at most 10 MB: 0.4" in words
    assert "beyond its bytes, and held: 1 moments" in words
    await running.close()
    await store.close()


def _local(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
