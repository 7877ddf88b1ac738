"""A client in another language, made from the .proto file alone, gets the same answers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from index.memory import MemoryStore
from query.service import QueryServer, serve_query
from query.settings import QuerySettings
from tests.contracts.moments import SPACE
from tests.query.fakes import MOMENTS, searcher

HERE = Path(__file__).parents[2] / "clients" / "node"
PROTO = Path(__file__).parents[2] / "proto" / "v1" / "query.proto"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watchword-tests"

NODE, NPM = shutil.which("node"), shutil.which("npm")
pytestmark = pytest.mark.skipif(not (NODE and NPM), reason="node and npm are not installed")


async def run(*command: str | Path, cwd: Path | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=pipe, stderr=pipe)
    try:
        out, err = await asyncio.wait_for(child.communicate(), 120)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


@pytest.fixture
async def client(tmp_path: Path) -> Path:
    """The script beside its packages and below its .proto file, as in the tree. Installed once per package.json."""
    wanted = (HERE / "package.json").read_bytes()
    installed = CACHE / f"node-{hashlib.blake2b(wanted, digest_size=8).hexdigest()}"
    if not (installed / "node_modules").is_dir():
        fresh = tmp_path / "install"
        fresh.mkdir()
        (fresh / "package.json").write_bytes(wanted)
        assert NPM
        code, _, err = await run(
            NPM, "install", "--prefer-offline", "--no-audit", "--no-fund", "--no-package-lock", "--silent", cwd=fresh
        )
        assert code == 0, err
        installed.parent.mkdir(parents=True, exist_ok=True)
        if not installed.exists():
            shutil.move(fresh, installed)
    folder = tmp_path / "a checkout" / "clients" / "node"
    folder.mkdir(parents=True)
    shutil.copy(HERE / "search.mjs", folder)
    (folder / "package.json").write_bytes(wanted)
    (folder / "node_modules").symlink_to(installed / "node_modules")
    proto = tmp_path / "a checkout" / "proto" / "v1"
    proto.mkdir(parents=True)
    shutil.copy(PROTO, proto)
    return folder / "search.mjs"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[QueryServer]:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    server = await serve_query(searcher(store, tmp_path), QuerySettings(), "127.0.0.1:0")
    yield server
    await server.stop(0)


async def test_words_give_one_line_per_hit_best_first(client: Path, server: QueryServer) -> None:
    assert NODE
    code, out, err = await run(NODE, client, server.address, "red truck at the gate")
    assert (code, err.strip()) == (0, "nothing matches with confidence; these are the nearest")
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == len(MOMENTS)
    assert rows[0][1:] == ["gate", "2026-01-01T12:00:00.000Z", "2026-01-01T12:00:02.000Z", MOMENTS[0].id, "-"]
    assert all(0 < float(row[0].removesuffix(" %")) < 50 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["127.0.0.1:1", "dog"], "UNAVAILABLE: "), (["127.0.0.1:1"], "usage: ")],
    ids=["nobody there", "no words"],
)
async def test_an_error_is_one_clear_line(client: Path, arguments: list[str], says: str) -> None:
    assert NODE
    code, out, err = await run(NODE, client, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(says)
    assert len(err.splitlines()) == 1


async def test_a_refused_question_is_told_in_the_servers_words(client: Path, server: QueryServer) -> None:
    assert NODE
    code, _, err = await run(NODE, client, server.address, " ")
    assert code == 1
    assert err.strip() == "INVALID_ARGUMENT: the question is empty: say in words what to look for"
