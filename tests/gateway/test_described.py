"""The gateway does what its description says: schemathesis asks whatever that allows, and what it forbids."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.cameras import CameraRegistry
from catalog.known_tokens import KnownTokens
from catalog.tokens import TokenRegistry
from gateway.app import application
from gateway.serving import serve_gateway
from gateway.settings import GatewaySettings
from manage.cameras import CameraKeeper
from manage.client import ManageClient
from manage.desk import Desk
from manage.manager import Manager
from manage.service import ManageService
from proto.types import Camera
from query.callers import TokenCallers
from query.client import QueryClient
from tests.clients.house import a_house
from tests.manage.fakes import Sources, surroundings_in
from tests.query.fakes import catalog_in

CONFIGURED = Path(__file__).with_name("schemathesis.toml")
# Not the live stream: it never ends.
ASKED = (
    *("search", "searchByBody", "picture", "clip", "cameras", "health", "whoAmI", "storage", "tokens", "audit"),
    *("camera", "addCamera", "changeCamera", "removeCamera", "testPicture", "createToken", "revokeToken", "addDemo"),
    *("erasures", "erase", "receipt"),
)


@pytest.mark.long
async def test_every_answer_is_one_that_the_description_has(tmp_path: Path) -> None:
    catalog = catalog_in(tmp_path)
    callers = TokenCallers(KnownTokens(TokenRegistry(catalog), 600), needed=False)
    await callers.start()
    CameraRegistry(catalog).add_missing([Camera("gate", "rtsp://10.0.0.7/")])
    manager = Manager(CameraKeeper(catalog), Sources().look, Desk(catalog, surroundings_in(tmp_path)))
    async with (
        a_house(tmp_path, callers=callers, beside=(ManageService(manager),)) as house,
        QueryClient(house.address, 10.0) as queries,
        ManageClient(house.address, 10.0) as manage,
    ):
        given = GatewaySettings(listen="127.0.0.1:0")
        gateway = await serve_gateway(application(queries, given, "1.2.3", manage=manage), given, grace_s=1)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIGURED, "run"),
            f"http://{gateway.address}/api/v1/openapi.json",
            *("--checks", "all", "--phases", "fuzzing", "--max-examples", "8", "--generation-deterministic"),
            *(part for name in ASKED for part in ("--include-operation-id", name)),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await child.communicate()
        await gateway.stop()
    await callers.stop()
    assert child.returncode == 0, said.decode()
    assert f"{len(ASKED)} selected" in said.decode()
