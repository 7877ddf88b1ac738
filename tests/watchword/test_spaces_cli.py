"""Moving to another bundle from the command line: a real bundle, a real index."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

import pytest

from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.milvus import MilvusStore
from index.opening import new_removal
from index.settings import MilvusSettings
from index.store import Ask
from proto.errors import Broken, WatchwordError
from proto.types import SpaceInfo, now_ms
from spaces.moving import Moved
from tests.contracts.moments import HOUR, MINUTE, moment, until_found
from tests.models.parts import jpeg, picture
from tests.models.small import CONFIGS, export
from tests.watchword.terminal import Cli, Ended, refused
from watchword.backup_cli import served_space
from watchword.settings import Settings
from watchword.spaces_cli import _drop

pytestmark = pytest.mark.long


async def test_history_goes_to_another_bundle_and_the_old_space_can_be_dropped(
    cli: Cli, milvus: str, tmp_path: Path
) -> None:
    bundle, old = export(tmp_path / "small", CONFIGS["clip"]), SpaceInfo(secrets.token_hex(8), 16)
    milvus_settings = MilvusSettings(endpoints=(milvus,))
    began = now_ms() - 5 * HOUR
    moments = [moment("gate", began + number * MINUTE, space=old) for number in range(4)]
    store = MilvusStore(old, milvus_settings)
    assert not await store.upsert(moments)
    await store.close()
    pictures = Thumbnails(FolderObjects(tmp_path / "data" / "thumbnails"))
    for number, one in enumerate(moments[:3]):
        pictures.put(one.id, jpeg(picture(320, 180, seed=number)))

    async def migrate(*more: str) -> Ended:
        words = ("index", "migrate", "--from", old.id, "--share", "1", "--to", str(tmp_path / "small" / "bundle"))
        return await asyncio.to_thread(cli, "--set", f'milvus.endpoints=["{milvus}"]', *words, *more)

    told = json.loads((await migrate("--json")).out)
    assert (told["moments"], told["unreadable"], told["total"]) == (3, 1, 4)
    assert "1 moments of the space" in refused(await migrate("--drop-old", "--yes"))
    new = MilvusStore(bundle.space, milvus_settings)
    (moved,) = await new.fetch([moments[1].id])
    answer = await until_found(new, Ask(moved.vector, 3, start_ms=began), 3)
    assert answer.hits[0].span.id == moved.id
    assert old.id in answer.spaces
    await new.close()

    pictures.put(moments[3].id, jpeg(picture(320, 180, seed=3)))
    dropped = await migrate("--drop-old", "--yes")
    assert "1 moments were embedded in the other space; 3 were there" in dropped.out
    rows = new_removal(milvus_settings)
    spaces = {one.space for one in (await rows.holdings()).known}
    await rows.close()
    assert bundle.space.id in spaces
    assert old.id not in spaces


def test_where_to_go_must_be_clear(cli: Cli) -> None:
    assert "it is not clear where to go" in refused(cli("index", "migrate"))
    assert "a share of 2 cannot be worked" in refused(cli("index", "migrate", "--to", "builtin", "--share", "2"))


async def test_what_was_not_seen_or_may_be_served_is_not_dropped() -> None:
    rows = new_removal(MilvusSettings(endpoints=("http://127.0.0.1:1",)))
    with pytest.raises(Broken, match="1 moments of the space old"):
        await _drop(rows, "old", Moved(moments=2, there=1, total=4), yes=True)
    away = Settings.model_validate({"encoder": {"address": "127.0.0.1:1", "timeout_s": 0.2}})
    assert await served_space(away) is None
    with pytest.raises(WatchwordError):
        await served_space(away, must=True)
