"""What a support bundle holds, and that no secret is in it, wherever one was planted."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.coverage import Coverage, Gap, Looked, Reason
from proto.types import Camera, now_ms
from watchword.catalogs import open_catalog, open_registry
from watchword.doctor import Finding
from watchword.settings import Settings, read_settings
from watchword.support import LOG_BYTES, Hiding, make_bundle, secrets_of_url

PLANTED = {
    "redis": "r3dis-p@ss/word",
    "milvus": "Milvus-t0ken",
    "catalog": "postgres-pässword",
    "key": "AKIAPLANTEDKEY",
    "s3": "s3cr3t/with+signs==",
    "camera": "kamera'pa55\"wort",
    "odd": "pa:s@s/w?rd",
    "query": "quer1",
    "kafka": "sasl-pa55",
    "env": "env-t0ken-planted",
    "bearer": "eyJhbGciOi.planted.sig",
}
HIDDEN_URL = f"rtsp://me:{PLANTED['camera']}@cam/1"


@pytest.fixture
async def ops() -> AsyncIterator[BaseTestServer]:
    """A process whose metrics say too much."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=f'watchword_up{{url="{HIDDEN_URL}"}} 1\nwatchword_x 2\n')

    app = web.Application()
    app.add_routes([web.get("/metrics", answer), web.get("/ready", answer)])
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


@pytest.fixture
def planted(tmp_path: Path, ops: BaseTestServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data folder and settings with secrets everywhere."""
    monkeypatch.setenv("WATCHWORD_MILVUS__TOKEN", f"root:{PLANTED['milvus']}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED["env"])
    found = read_settings(
        {
            "data_dir": str(tmp_path),
            "redis.url": f"redis://:{quote(PLANTED['redis'], safe='')}@127.0.0.1:1/0",
            "media.key": PLANTED["key"],
            "media.secret": PLANTED["s3"],
        }
    )
    with open_registry(found) as registry:
        registry.add(Camera("gate", HIDDEN_URL))
        registry.add(Camera("dock", f"http://x:{PLANTED['odd']}@cam/2?user=me&pwd={PLANTED['query']}&fps=10"))
    with open_catalog(found) as catalog:
        Coverage(catalog).declare([Gap("gate", Reason.LOST, now_ms() - 5_000, now_ms(), frames=3)])
        Coverage(catalog).looked([Looked("gate", now_ms() - 3_600_000, "log", 0, 7)], {})
    logs = tmp_path / "logs"
    logs.mkdir()
    lines = [
        *(f"opening {value}" for name, value in PLANTED.items() if name not in ("env", "kafka", "bearer", "catalog")),
        *(
            json.dumps({"message": f"{value} fails"})
            for name, value in PLANTED.items()
            if name in ("camera", "odd", "s3")
        ),
        *(f"GET /{quote(PLANTED[name], safe='')} {quote(PLANTED[name])}" for name in ("camera", "odd", "redis", "s3")),
        f"sasl.password={PLANTED['kafka']} KAFKA_PASSWORD: {PLANTED['kafka']}",
        f"export AWS_SECRET_ACCESS_KEY={PLANTED['env']}",
        f"Authorization: Bearer {PLANTED['bearer']}",
        f"postgresql://watch:{PLANTED['catalog']}@db/watchword fails",
        f"{PLANTED['camera']!r} is repr",
        "an ordinary line",
    ]
    (logs / "camera.log").write_text("\n".join(lines) + "\n")
    # The tail begins in the middle of an address: half of it could not be recognised.
    (logs / "stream.log").write_text(f"{HIDDEN_URL}{'x' * (LOG_BYTES - 20)}\nlast\n")
    stack = {
        "pid": os.getpid(),
        "addresses": {
            "broker": "b:1", "milvus": ["http://m:1"], "redis": "redis://h", "encoder": "e:1", "query": "q:1",
            "ops": {"camera": f"{ops.host}:{ops.port}", "stream": "127.0.0.1:1"},
        },
        "note": HIDDEN_URL,
    }  # fmt: skip
    (tmp_path / "stack.json").write_text(json.dumps(stack))
    return found


@pytest.fixture(autouse=True)
def doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor's own tests ask real parts; here it says too much."""

    async def examine(_: Settings) -> list[Finding]:
        return [Finding("camera gate", False, f"{HIDDEN_URL} does not open", f"ask with ?pwd={PLANTED['query']}")]

    monkeypatch.setattr("watchword.doctor.examine", examine)


def read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        members = [(member.name.split("/", 1)[1], archive.extractfile(member)) for member in archive]
        return {name: content.read().decode() for name, content in members if content is not None}


async def test_no_planted_secret_is_in_any_file_of_the_archive(planted: Settings, tmp_path: Path) -> None:
    made = await make_bundle(planted, tmp_path / "bundle.tar.gz")
    files = read(tmp_path / "bundle.tar.gz")
    assert (
        set(files)
        == {*made.files, "missing.txt"}
        >= {"logs/camera.log", "metrics/camera.txt", "doctor.txt", "stack.json"}
    )
    for what, secret in PLANTED.items():
        for form in (secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]):
            assert [name for name, text in files.items() if form in text] == [], what
    assert list(made.missing) == ["metrics/stream.txt"]


async def test_what_helps_is_in_it(planted: Settings, tmp_path: Path) -> None:
    await make_bundle(planted, tmp_path / "bundle.tar.gz")
    files = read(tmp_path / "bundle.tar.gz")
    assert "an ordinary line" in files["logs/camera.log"]
    assert files["logs/stream.log"] == "last\n"
    assert "watchword_x 2" in files["metrics/camera.txt"]
    assert files["cameras.txt"].splitlines() == [
        "dock http://cam/2 watching=True",
        "gate rtsp://cam/1 watching=True",
    ]
    assert "lost: 1 gaps, 3 frames, 5 s, in the last day" in files["coverage.txt"]
    assert re.search(r"^gate looked at until 36\d\d s ago$", files["coverage.txt"], re.MULTILINE)
    assert files["doctor.txt"].startswith("!!  camera gate: rtsp://***@cam/1 does not open")
    assert "watchword 0" in files["version.txt"] and "pydantic==" in files["version.txt"]
    assert 'url = "**********"' in files["config.toml"]
    assert (tmp_path / "bundle.tar.gz").stat().st_mode & 0o077 == 0


async def test_where_nothing_runs_and_nothing_was_made_it_says_what_is_missing(tmp_path: Path) -> None:
    made = await make_bundle(Settings(data_dir=tmp_path / "none"), tmp_path / "bundle.tar.gz")
    assert {"metrics", "stack.json"} <= set(made.missing)
    assert not (tmp_path / "none").exists()
    assert "stack.json: FileNotFoundError" in read(tmp_path / "bundle.tar.gz")["missing.txt"]


async def test_a_catalog_that_is_broken_keeps_nothing_else_out(planted: Settings, tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"rubbish" * 1000)
    made = await make_bundle(planted, tmp_path / "bundle.tar.gz")
    files = read(tmp_path / "bundle.tar.gz")
    assert {"cameras.txt", "coverage.txt"} <= set(made.missing)
    assert "an ordinary line" in files["logs/camera.log"]
    assert HIDDEN_URL not in str(files)


SIGNS = st.text(st.characters(codec="utf-8", exclude_categories=["Zs", "Zl", "Zp", "Cc"]), min_size=4)


@settings(deadline=None)
@given(SIGNS)
def test_a_known_secret_is_hidden_in_every_form(secret: str) -> None:
    hide = Hiding(secrets_of_url(f"rtsp://me:{secret}@cam/1"))
    for form in (secret, quote(secret), quote(secret, safe=""), json.dumps(secret), f"{secret!r}"):
        text = hide(f"before {form} after")
        assert secret not in text or secret in "before *** after"


def test_parts_of_addresses_that_are_not_secret_stay() -> None:
    assert set(secrets_of_url("http://cam/2?channel=10&fps=2")) == set()
    assert set(secrets_of_url("rtsp://cam/1")) == set(secrets_of_url("/dev/video0")) == set()
