"""The recipes of docs/api.md, each run by curl as it stands there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.known_tokens import KnownTokens
from catalog.tokens import TokenRegistry
from gateway.app import application
from gateway.serving import serve_gateway
from gateway.settings import GatewaySettings
from proto.access import Role
from proto.types import now_ms
from query.callers import TokenCallers
from query.client import QueryClient
from tests.cameras.filming import numbers
from tests.clients.house import PICTURE, a_house
from tests.contracts.moments import NOON
from tests.query.fakes import MOMENTS, catalog_in

CURL = shutil.which("curl")
PAGE = Path(__file__).parents[2] / "docs/api.md"
RECIPES = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)

pytestmark = [pytest.mark.long, pytest.mark.skipif(CURL is None, reason="curl is not installed")]


@pytest.fixture
async def given(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The variables that the recipes use, of a gateway where a token is needed."""
    tokens = TokenRegistry(catalog_in(tmp_path))
    _, token = tokens.create("curl", Role.VIEWER, None, now_ms())
    callers = TokenCallers(KnownTokens(tokens, 600), needed=True)
    await callers.start()
    async with (
        a_house(tmp_path, callers=callers, kinds=["person"]) as house,
        QueryClient(house.address, 10.0) as queries,
    ):
        settings = GatewaySettings(listen="127.0.0.1:0")
        app = application(queries, settings, "1.2.3", needs_token=True)
        gateway = await serve_gateway(app, settings, grace_s=1)
        yield {
            "WATCHWORD": f"http://{gateway.address}/api/v1",
            "AUTH": f"authorization: Bearer {token}",
            "MOMENT": MOMENTS[0].id,
            "AT_MS": str(MOMENTS[0].peak_ms),
            "START_MS": str(NOON),
            "END_MS": str(NOON + 1000),
        }
        await gateway.stop()
    await callers.stop()


async def run(recipe: str, given: dict[str, str], folder: Path) -> str:
    child = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", recipe),
        cwd=folder,
        env={**os.environ, "no_proxy": "127.0.0.1", **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    assert child.returncode == 0, f"{recipe}\n{said.decode()}"
    return said.decode()


async def test_each_recipe_gets_its_answer(given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bike.jpg").write_bytes(b"jpeg:bicycle")
    said = [await run(recipe, given, tmp_path) for recipe in RECIPES]
    narrowed, worded, pictured, like, _, _, _, _, cameras, coverage, health = said
    assert json.loads(narrowed)["hits"] == []  # nobody was seen there
    assert json.loads(worded)["hits"][0]["moment_id"] == MOMENTS[0].id
    assert json.loads(pictured)["hits"][0]["moment_id"] == MOMENTS[3].id
    assert MOMENTS[0].id not in like
    assert (tmp_path / "hit.jpg").read_bytes() == PICTURE
    assert not (tmp_path / "again.jpg").exists() or not (tmp_path / "again.jpg").stat().st_size
    assert [bool(numbers((tmp_path / name).read_bytes())) for name in ("moment.mp4", "gate.mp4")] == [True, True]
    assert (tmp_path / "part.mp4").read_bytes() == (tmp_path / "moment.mp4").read_bytes()
    assert {"name", "status"} <= json.loads(cameras)["cameras"][0].keys()
    assert "watermarks" in coverage
    assert json.loads(health)["ready"]


async def test_without_its_token_a_recipe_says_what_to_do(given: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="watchword token create"):
        await run('curl -sS --fail-with-body "$WATCHWORD/cameras"', given, tmp_path)
