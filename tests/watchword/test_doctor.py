from __future__ import annotations

import secrets
import sqlite3
import sys
from pathlib import Path

import pytest

from broker.kafka import ensure_topics
from catalog.cameras import CameraRegistry
from catalog.fleet import Fleet, Member
from proto.types import Camera, now_ms
from tests.catalog.test_migrating import VERSION_1
from tests.clips import CLIPS
from watchword.catalogs import open_catalog, open_registry
from watchword.doctor import Finding, examine
from watchword.settings import Settings, read_settings
from watchword.stack.ports import Port


async def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.part: finding for finding in await examine(settings)}


async def test_nothing_is_wrong_where_nothing_runs_yet(tmp_path: Path) -> None:
    found = await findings(Settings(data_dir=tmp_path / "new"))
    assert [finding for finding in found.values() if not finding.ok] == []
    assert found["broker"].seen == "not running; `watchword up` starts it"
    assert found["milvus program"].seen.endswith("milvus.lzma")
    assert not (tmp_path / "new").exists()


async def test_missing_wheels_are_told_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    found = await findings(Settings(data_dir=tmp_path))
    for part in ("broker program", "milvus program", "redis program"):
        assert not found[part].ok
        assert "watchword[embedded]" in found[part].todo


async def test_a_program_is_not_missed_where_the_part_runs_elsewhere(tmp_path: Path) -> None:
    found = await findings(read_settings({"data_dir": str(tmp_path), "kafka.brokers": "127.0.0.1:1"}))
    assert "broker program" not in found


async def test_a_given_address_where_nobody_answers_is_told(tmp_path: Path) -> None:
    port = Port()
    port.settle()
    given = {
        "data_dir": str(tmp_path),
        "kafka.brokers": port.address,
        "milvus.endpoints": f'["http://{port.address}"]',
        "redis.url": f"redis://:secret@{port.address}/0",
        "encoder.address": port.address,
        "query.address": port.address,
        "catalog.url": f"postgresql://me:secret@{port.address}/db",
    }
    found = await findings(read_settings(given))
    for part in ("broker", "milvus", "redis", "encoder", "query", "catalog"):
        assert not found[part].ok, part
        assert port.address in found[part].seen
        assert found[part].todo
    assert "secret" not in str(found)


@pytest.mark.stack
async def test_servers_that_answer_are_fine(tmp_path: Path, broker: str, milvus: str, redis_url: str) -> None:
    given = {
        "data_dir": str(tmp_path),
        "kafka.brokers": broker,
        "milvus.endpoints": f'["{milvus}"]',
        "redis.url": redis_url,
    }
    found = await findings(read_settings(given))
    assert found["broker"].seen == f"{broker}: metadata fetched, 1 broker"
    assert found["milvus"].seen.startswith(f"{milvus}: Milvus 2.3, collections listed: ")
    assert found["redis"].seen.startswith(f"{redis_url}: Redis ")
    assert found["redis"].seen.endswith("its clock agrees")
    assert all(found[part].ok for part in ("broker", "milvus", "redis"))


@pytest.mark.stack
async def test_missing_topics_are_told_and_those_that_are_there_are_fine(tmp_path: Path, broker: str) -> None:
    named = secrets.token_hex(4)
    settings = read_settings(
        {
            "data_dir": str(tmp_path),
            "kafka.brokers": broker,
            "kafka.frames_topic": f"frames-{named}",
            "kafka.dead_letters_topic": f"letters-{named}",
        }
    )
    missing = (await findings(settings))["topics"]
    assert not missing.ok
    assert f"frames-{named}: create it" in missing.seen
    assert "watchword topics apply" in missing.todo
    await ensure_topics(settings.kafka)
    assert (await findings(settings))["topics"].ok


async def test_a_data_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = await findings(Settings(data_dir=tmp_path / "file"))
    assert not found["data folder"].ok
    assert "--data-dir" in found["data folder"].todo


async def test_every_camera_is_opened_and_a_broken_one_is_told(tmp_path: Path) -> None:
    with open_registry(Settings(data_dir=tmp_path)) as registry:
        registry.add(Camera(name="bikes", url=str(CLIPS["bikes"])))
        registry.add(Camera(name="gone", url=str(tmp_path / "gone.mp4")))
        registry.add(Camera(name="removed", url=str(tmp_path / "removed.mp4")))
        registry.remove("removed")
    found = await findings(Settings(data_dir=tmp_path))
    assert found["camera bikes"].ok
    assert not found["camera gone"].ok
    assert "camera removed" not in found
    assert found["catalog"].seen == str(tmp_path / "catalog.db")


async def test_a_camera_that_no_process_reaches_is_told(tmp_path: Path) -> None:
    with open_catalog(Settings(data_dir=tmp_path)) as catalog:
        CameraRegistry(catalog).add(Camera("bikes", str(CLIPS["bikes"]), site="north"))
        assert (await findings(Settings(data_dir=tmp_path)))["fleet"].ok
        Fleet(catalog).tell(Member("one", "quay/7", "south"), now_ms(), 60_000)
        found = (await findings(Settings(data_dir=tmp_path)))["fleet"]
        assert (found.ok, found.seen) == (False, "no camera process reaches bikes: none is at north")
        Fleet(catalog).tell(Member("two", "pier/9", "north"), now_ms(), 60_000)
        assert (await findings(Settings(data_dir=tmp_path)))["fleet"].seen == "2 camera processes: quay/7, pier/9"


async def test_the_doctor_leaves_a_catalog_of_an_earlier_version_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "catalog.db") as earlier:
        earlier.executescript(VERSION_1.read_text())
    earlier.close()
    (tmp_path / "cameras.json").write_text('{"version": 1, "cameras": []}')
    before = (tmp_path / "catalog.db").read_bytes()
    found = await findings(Settings(data_dir=tmp_path))
    assert found["catalog"].ok
    assert "first process that starts" in found["catalog"].seen
    assert (tmp_path / "catalog.db").read_bytes() == before
    assert (tmp_path / "cameras.json").exists()


async def test_the_doctor_makes_no_catalog(tmp_path: Path) -> None:
    assert (await findings(Settings(data_dir=tmp_path)))["catalog"].ok
    assert not (tmp_path / "catalog.db").exists()
