"""Backup and restore from the command line."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.milvus import MilvusStore
from index.settings import MilvusSettings
from index.store import Ask
from proto.types import SpaceInfo, now_ms
from tests.contracts.moments import HOUR, MINUTE, moment, region, until_found
from tests.tools.s3 import KEY, S3, SECRET
from tests.watchword.terminal import Cli, Ended, refused


def lite(tmp_path: Path) -> tuple[str, ...]:
    return "--set", f'milvus.endpoints=["{tmp_path / "moments.db"}"]', "--set", "milvus.timeout_s=60"


async def test_a_small_index_comes_back_on_another_server_out_of_a_bucket(
    cli: Cli, milvus: str, s3: S3, tmp_path: Path
) -> None:
    async def run(*words: str) -> Ended:
        server = ("endpoint", s3.endpoint), ("key", KEY), ("secret", SECRET), ("allow_http", "true")
        sets = [word for name, value in server for word in ("--set", f"backup.{name}={value}")]
        return await asyncio.to_thread(cli, *sets, *words)

    gate, space = f"gate-{secrets.token_hex(4)}", SpaceInfo(secrets.token_hex(8), 16)
    began = now_ms() - 30 * HOUR
    moments = [
        moment(
            gate, began + n * MINUTE, space=space, regions=[region(n, at_ms=began + n * MINUTE, kind="cat", score=1)]
        )
        for n in range(30)
    ]
    place = f"s3://{s3.new_bucket()}/here"
    cli("camera", "add", gate, "rtsp://127.0.0.1:9/live", "--unchecked", "--group", "doors")
    source = MilvusStore(space, MilvusSettings(endpoints=(str(tmp_path / "moments.db"),), timeout_s=60))
    await source.open()
    assert not await source.upsert(moments)
    await source.close()
    pictures = Thumbnails(FolderObjects(tmp_path / "data" / "thumbnails"))
    pictures.put(moments[0].id, b"jpeg")
    told = json.loads((await run(*lite(tmp_path), "backup", place, "--json")).out)
    assert (told["moments"], told["pictures"], told["spaces"]) == (30, 1, [space.id])
    again = await run(*lite(tmp_path), "backup", place)
    assert "30 moments, 1 pictures" in again.out
    assert "of which 0 bytes were written now" in again.out

    other = ("--data-dir", str(tmp_path / "other"), "--set", f'milvus.endpoints=["{milvus}"]')
    assert "30 moments in 1 spaces, 1 pictures; all" in (await run(*other, "restore", place, "--dry-run")).out
    shown = await run(*other, "restore", place, "--verify", "--disable-cameras")
    assert shown.code == 0, shown.err
    assert "restored 30 moments (0 were there), 1 pictures, 1 cameras" in shown.out
    assert "30 moments, 0 missing, 0 different; 100 of 100 searches as exact ones" in shown.out
    assert "restored 0 moments (30 were there), 0 pictures, 0 cameras" in (await run(*other, "restore", place)).out
    target = MilvusStore(space, MilvusSettings(endpoints=(milvus,)))
    answer = await until_found(target, Ask(moments[3].regions[0].vector, 1), 1)
    assert answer.hits[0].span.id == moments[3].id
    (back,) = await target.fetch([moments[3].id])
    assert (back.regions[0].kind, back.regions[0].box) == ("cat", moments[3].regions[0].box)
    await target.close()
    assert Thumbnails(FolderObjects(tmp_path / "other" / "thumbnails")).get(moments[0].id) == b"jpeg"

    wrong = await asyncio.to_thread(
        cli,
        *other,
        "--set",
        f"backup.endpoint={s3.endpoint}",
        "--set",
        "backup.allow_http=true",
        *("--set", f"backup.key={KEY}", "--set", "backup.secret=wrong", "restore", place),
    )
    assert "refuses the credentials" in refused(wrong)
    assert "backup.key" in wrong.err


def test_what_cannot_be_a_place_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for words, says in [
        (("backup", "ftp://somewhere"), "a backup cannot lie at 'ftp://somewhere'"),
        (("restore", str(tmp_path / "nothing")), "there is no backup in"),
        (("restore", str(tmp_path / "nothing"), "--dry-run"), "there is no backup in"),
        (("restore", "s3://user:secret@bucket"), "a backup cannot lie at 'bucket'"),
        (("backup", str(tmp_path / "file" / "below")), "cannot write"),
    ]:
        ended = cli(*lite(tmp_path), *words)
        assert says in refused(ended)
        assert "secret" not in ended.err
