"""What the small HTTP endpoint answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from cameras.worst import CameraFacts, worst
from watchword.ops import Worst, ops_endpoint
from watchword.processes import no_cameras
from watchword.settings import OpsSettings

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
