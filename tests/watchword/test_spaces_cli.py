"""Moving to another bundle from the command line: a real bundle, a real index in a file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.milvus import MilvusStore, milvus_removal
from index.settings import MilvusSettings
from index.store import Ask
from proto.types import now_ms
from tests.contracts.moments import HOUR, MINUTE, SPACE, moment, until_found
from tests.models.parts import jpeg, picture
from tests.models.small import CONFIGS, export
from tests.watchword.terminal import Cli, refused

pytestmark = pytest.mark.long


async def test_history_goes_to_another_bundle_and_the_old_space_can_be_dropped(cli: Cli, tmp_path: Path) -> None:
    bundle = export(tmp_path / "small", CONFIGS["clip"])
    file = str(tmp_path / "moments.db")
    began = now_ms() - 5 * HOUR
    moments = [moment("gate", began + number * MINUTE) for number in range(4)]
    store = MilvusStore(SPACE, MilvusSettings(endpoints=(file,), timeout_s=60))
    await store.open()
    assert not await store.upsert(moments)
    await store.close()
    pictures = Thumbnails(FolderObjects(tmp_path / "data" / "thumbnails"))
    for number, one in enumerate(moments[:3]):
        pictures.put(one.id, jpeg(picture(320, 180, seed=number)))
    words = (
        "--set",
        f'milvus.endpoints=["{file}"]',
        "--set",
        "milvus.timeout_s=60",
        "index",
        "migrate",
        "--share",
        "1",
    )
    to = ("--to", str(tmp_path / "small" / "bundle"))
    told = json.loads((await asyncio.to_thread(cli, *words, *to, "--json")).out)
    assert (told["moments"], told["unreadable"], told["total"]) == (3, 1, 4)
    again = await asyncio.to_thread(cli, *words, *to)
    assert "0 moments were embedded in the other space; 3 were there" in again.out
    dropped = await asyncio.to_thread(cli, *words, *to, "--drop-old", "--yes")
    assert "1 moments of the space" in refused(dropped)

    new = MilvusStore(bundle.space, MilvusSettings(endpoints=(file,), timeout_s=60))
    (moved,) = await new.fetch([moments[1].id])
    answer = await until_found(new, Ask(moved.vector, 3), 3)
    assert answer.hits[0].span.id == moved.id
    assert answer.spaces == [SPACE.id]
    await new.close()
    pictures.put(moments[3].id, jpeg(picture(320, 180, seed=3)))
    assert (await asyncio.to_thread(cli, *words, *to, "--drop-old", "--yes")).code == 0
    rows = milvus_removal(MilvusSettings(endpoints=(file,), timeout_s=60))
    assert {one.space for one in (await rows.holdings()).known} == {bundle.space.id}
    await rows.close()


def test_where_to_go_must_be_clear(cli: Cli) -> None:
    assert "it is not clear where to go" in refused(cli("index", "migrate"))
    assert "a share of 2 cannot be worked" in refused(cli("index", "migrate", "--to", "builtin", "--share", "2"))
