"""An erasure from the command line to a verified receipt, on a real Milvus."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.coverage import Coverage, Gap, Reason
from catalog.life import Life
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from catalog.store import Catalog
from index.milvus import MilvusStore
from index.settings import MilvusSettings
from proto.life import Stretch
from proto.types import SpaceInfo, now_ms
from tests.contracts.moments import HOUR, MINUTE, moment, of, region
from tests.watchword.terminal import Cli, Ended, refused
from watchword.catalogs import open_catalog
from watchword.settings import Settings
from watchword.sweeping import new_sweeper


@pytest.fixture
def settings(tmp_path: Path, milvus: str) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": tmp_path / "data",
            "milvus": {"endpoints": [milvus]},
            "retention": {"settle_s": 1, "moments_per_s": 1e6},
        }
    )


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    with open_catalog(settings) as catalog:
        yield catalog


async def test_what_is_erased_is_absent_everywhere_and_the_receipt_proves_it(
    cli: Cli, settings: Settings, catalog: Catalog, milvus: str, tmp_path: Path
) -> None:
    async def run(*words: str) -> Ended:
        at = (f'milvus.endpoints=["{milvus}"]', "retention.settle_s=1")
        return await asyncio.to_thread(cli, *(word for one in at for word in ("--set", one)), *words)

    gate, now = f"gate-{secrets.token_hex(4)}", now_ms()
    cli("camera", "add", gate, "rtsp://127.0.0.1:9/live", "--unchecked")
    spaces = [SpaceInfo(secrets.token_hex(8), 16) for _ in range(2)]
    began = now - 3 * HOUR
    stores = [MilvusStore(space, MilvusSettings(endpoints=(milvus,))) for space in spaces]
    pictures = Thumbnails(FolderObjects(settings.data_dir / "thumbnails"))
    moments = [
        moment(gate, began + n * MINUTE, space=space, regions=[region(n, at_ms=began + n * MINUTE)])
        for space in spaces
        for n in range(5)
    ]
    for store, space in zip(stores, spaces, strict=True):
        await store.open()
        await store.upsert([one for one in moments if one.space == space.id])
    for one in moments[:5]:
        pictures.put(one.id, b"jpeg")
        pictures.put_instants(one.id, [(one.start_ms, b"jpeg")])
    orphan = moment(gate, began + 90_000)
    pictures.put(orphan.id, b"left by a kill")
    os.utime(settings.data_dir / "thumbnails" / orphan.id[-2:] / f"{orphan.id}.jpg", (1e9, 1e9))
    Coverage(catalog).declare([Gap(gate, Reason.AWAY, began, began + MINUTE)])
    life = Life(catalog)

    counted = await run("erase", "--moment", moments[4].id, "--dry-run")
    assert "2 moments in the index" in counted.out
    assert life.rules().erasures == ()
    erasure = life.erase(Stretch(gate, began, began + 4 * MINUTE), now - HOUR, reason="asked")
    sweeper = new_sweeper(settings, catalog)
    await sweeper._sweeper.round()
    for store in stores:
        assert await store.count(of(gate)) == 1
    file = tmp_path / "receipt.json"
    await run("erase", "--receipt", str(erasure.number), "-o", str(file))
    receipt = json.loads(file.read_text())
    assert receipt["carried_out"]
    removed = {one["store"]: one["count"] for one in receipt["removed"]}
    assert removed == {"index": 8, "pictures": 9, "coverage": 1, "backgrounds": 0}
    assert [name for name, _ in pictures.moments(0, 2**50)] == [moments[4].id]

    # The topic was read again by a worker that did not know: it is found, and removed by the next look.
    await stores[0].upsert(moments[:1])
    assert "there are 1 moments in the index" in refused(await run("erase", "--verify", str(file)))
    sweeper._sweeper._looked_ms = 0
    await sweeper._sweeper.round()
    verified = await run("erase", "--verify", str(file))
    assert "nothing of it is left in any store" in verified.out
    await sweeper.close()
    for store in stores:
        await store.close()
