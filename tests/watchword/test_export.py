"""An export from the command line, checked again, and shown to somebody else; on a real Milvus."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from pathlib import Path

import numpy as np
import simplejpeg

from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.audit import verify
from catalog.life import Life
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.milvus import MilvusStore
from index.settings import MilvusSettings
from proto.types import Recording, SpaceInfo, now_ms
from tests.cameras.filming import film, numbers, tapped
from tests.contracts.moments import moment
from tests.watchword.terminal import Cli, Ended, refused
from watchword.catalogs import open_catalog
from watchword.settings import Settings

WHITE: bytes = simplejpeg.encode_jpeg(np.full((96, 128, 3), 255, np.uint8), 90, "RGB", "420")


async def test_an_export_is_signed_noted_held_and_masked_and_every_change_shows(
    cli: Cli, milvus: str, tmp_path: Path
) -> None:
    async def run(*words: str) -> Ended:
        return await asyncio.to_thread(cli, "--set", f'milvus.endpoints=["{milvus}"]', *words)

    data, gate = tmp_path / "data", f"gate-{secrets.token_hex(4)}"
    cli("camera", "add", gate, "rtsp://user:hunter2@127.0.0.1:9/live", "--unchecked")
    space, began = SpaceInfo(secrets.token_hex(8), 16), now_ms() - 600_000
    store = MilvusStore(space, MilvusSettings(endpoints=(milvus,)))
    await store.open()
    moments = [moment(gate, began + n * 3000, space=space) for n in range(3)]
    await store.upsert(moments)
    await store.close()
    for one in moments:
        Thumbnails(FolderObjects(data / "thumbnails")).put(one.id, WHITE)
    writer = Segments(data / "recordings", RecordingSettings(segment_s=3, keep_free_bytes=0))
    writer.limits = {gate: Recording(30, 10**9)}
    for fragment in tapped([film(tmp_path / "a.ts", 10)], camera=gate, start_ms=began):
        writer.write(fragment, began)
    writer.close()

    out = tmp_path / "case 12"
    said = await run("export", gate, "--from", "11m", "-o", str(out), "--hold", "case 12", "--reason", "theft")
    assert said.code == 0, said.err
    assert "hold 1: " in said.out and "1 clips, 3 moments, 3 pictures" in said.out
    key = cli("export", "--show-key").out.strip()
    assert f"signed by {key}" in said.out
    (clip,) = (out / "clips").iterdir()
    assert numbers(clip)[:3] == [0, 1, 2]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["hold"], manifest["reason"]) == ({"hold": 1, "name": "case 12"}, "theft")
    assert not any(b"hunter2" in path.read_bytes() for path in out.rglob("*") if path.is_file())
    with open_catalog(Settings(data_dir=data)) as catalog:
        assert [one.reason for one in Life(catalog).rules().holds] == ["case 12"]
    assert [one.trouble for one in verify(data / "audit")] == [""]
    lines = [json.loads(line) for path in (data / "audit").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [one["outcome"] for one in lines if one["what"] == "export"] == ["begun", "ok"]

    elsewhere = ("--data-dir", str(tmp_path / "elsewhere"))
    assert "compare it with the key" in (await run(*elsewhere, "export", "--verify", str(out))).out
    assert "as expected" in cli(*elsewhere, "export", "--verify", str(out), "--key", key).out
    assert "this installation" in cli("export", "--verify", str(out)).out
    clip.write_bytes(clip.read_bytes()[:-1])
    changed = cli("export", "--verify", str(out))
    assert changed.code != 0 and f"clips/{clip.name}: it was changed" in changed.err
    other = base64.b64encode(b"k" * 32).decode()
    assert "signed by another key" in refused(cli("export", "--verify", str(out), "--key", other))

    cli("camera", "mask", "add", gate, "0,0 0.5,0 0.5,1 0,1")
    packed = await run("export", "--moment", moments[1].id, "-o", str(tmp_path / "masked"))
    assert "0 clips, 1 moments, 1 pictures" in packed.out
    shown = simplejpeg.decode_jpeg((tmp_path / f"masked/pictures/{moments[1].id}.jpg").read_bytes(), "RGB")
    assert shown[:, :64].max() < 24 and shown[:, 80:].min() > 230
