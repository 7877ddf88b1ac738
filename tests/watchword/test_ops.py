"""What the small HTTP endpoint answers."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr, ValidationError

from cameras.worst import CameraFacts, worst
from watchword.ops import Worst, _may_see, ops_endpoint
from watchword.settings import OpsSettings
from watchword.stage import no_cameras

CAMERAS = [
    CameraFacts("gate", "open", "clear", 0.4, 0, 0, 900, ""),
    CameraFacts("yard", "failed", "clear", 75.0, 9, 2, 12, "no camera answers"),
]


def of_two(asked: Mapping[str, str]) -> Mapping[str, Any]:
    return worst(CAMERAS, asked)


async def answer(path: str, worst_cameras: Worst) -> tuple[int, str]:
    async with (
        ops_endpoint(OpsSettings(), lambda: None, worst_cameras) as address,
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}") as reply,
    ):
        return reply.status, await reply.text()


async def test_the_worst_cameras_are_told_as_json() -> None:
    status, text = await answer("/cameras/worst?by=failures&n=1", of_two)
    assert status == 200
    assert text == (
        '{"by": "failures", "watched": 2, "cameras": [{"camera": "yard", "now": "failed", "view": "clear", '
        '"silent_s": 75.0, "failures": 9, "lost": 2, "sent": 12, "error": "no camera answers"}]}'
    )


TOKEN = SecretStr("open sesame")


@pytest.mark.parametrize(
    ("settings", "bearer", "status"),
    [
        (OpsSettings(), "", 200),
        (OpsSettings(open_to="holders of its token", token=TOKEN), "", 401),
        (OpsSettings(open_to="holders of its token", token=TOKEN), "open", 401),
        (OpsSettings(open_to="holders of its token", token=TOKEN), "open sesame", 200),
        (OpsSettings(open_to="anyone who reaches it"), "", 200),
    ],
)
async def test_metrics_and_cameras_are_for_those_whom_the_setting_names(
    settings: OpsSettings, bearer: str, status: int
) -> None:
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    async with (
        ops_endpoint(settings, lambda: None, of_two) as address,
        aiohttp.ClientSession(f"http://{address}", headers=headers) as session,
    ):
        found = {}
        for path in ("/ready", "/metrics", "/cameras/worst"):
            async with session.get(path) as answer:
                found[path] = answer.status
    assert found == {"/ready": 200, "/metrics": status, "/cameras/worst": status}


@pytest.mark.parametrize(("remote", "seen"), [("127.0.0.1", True), ("::1", True), ("10.0.0.7", False), (None, False)])
def test_by_default_they_are_for_this_machine(remote: str | None, seen: bool) -> None:
    request: Any = SimpleNamespace(headers={}, remote=remote)
    assert _may_see(OpsSettings(), request) is seen


def test_a_token_that_is_not_there_opens_nothing() -> None:
    with pytest.raises(ValidationError, match=r"give ops\.token"):
        OpsSettings(open_to="holders of its token")
    request: Any = SimpleNamespace(headers={"authorization": "Bearer "}, remote="10.0.0.7")
    assert not _may_see(OpsSettings(), request)


@pytest.mark.parametrize(
    ("path", "worst_cameras", "status", "says"),
    [
        ("/cameras/worst?by=colour", of_two, 400, "give by=silent|failures|lost|sent"),
        ("/cameras/worst?n=100000", of_two, 400, "give 1 to 100"),
        ("/cameras/worst", no_cameras, 404, "ask a camera process"),
    ],
)
async def test_what_cannot_be_told_is_answered_with_what_to_do(
    path: str, worst_cameras: Worst, status: int, says: str
) -> None:
    told, text = await answer(path, worst_cameras)
    assert told == status
    assert says in text
