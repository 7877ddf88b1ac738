"""The Manage service without a network, and sources that show what they are told to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from manage.desk import Surroundings
from manage.looking import Look
from manage.manager import Manager
from proto.access import NOBODY_ASKED, Caller
from proto.errors import Transient, Unauthenticated
from proto.types import Camera
from tests.clips import CLIPS

Reply = TypeVar("Reply", bound=Message)
JPEG = b"\xff\xd8 a test picture \xff\xd9"


async def stored() -> dict[str, Any]:
    """What an index holds."""
    counts = {"moments": 5, "gone": 1, "gone_tomorrow": 2, "free": 10, "total": 20, "missing": {}}
    gate = {"camera": "gate", "oldest_ms": None, "days": None, "bytes": 10**10, "bytes_days": 2.5, "held_below": 3}
    return {**counts, "buckets": [{}], "cameras": [gate]}


def surroundings_in(folder: Path) -> Surroundings:
    """What a desk needs to answer every call."""
    return Surroundings(
        audit=folder / "audit",
        storage=stored,
        receipt=lambda one: f'{{"number": {one.number}}}',
        demo={"bikes": CLIPS["bikes"]},
    )


class InProcess:
    """`gateway.queries.Manage`, on a manager, for callers who are known by their tokens."""

    def __init__(self, manager: Manager, callers: Mapping[str, Caller] | None = None) -> None:
        self._manager = manager
        self._callers = callers
        self._who = NOBODY_ASKED

    def on_behalf(self, token: str, client: str = "") -> Self:
        other = copy.copy(self)
        if token and self._callers is not None:
            if token not in self._callers:
                raise Unauthenticated("the token does not count", todo="get a new one")
            other._who = self._callers[token]
        return other

    def acting(self, who: Caller) -> Self:
        """For this caller, whatever the token."""
        other = copy.copy(self)
        other._who = who
        return other

    async def ask(self, request: Message, kind: type[Reply]) -> Reply:
        reply = await self._manager.answer(request, self._who)
        assert isinstance(reply, kind)
        return reply


class Sources:
    """Looks at cameras: all of them answer, but for those at `away`."""

    def __init__(self, away: str = "away") -> None:
        self.looked: list[Camera] = []
        self._away = away

    async def look(self, camera: Camera) -> Look:
        self.looked.append(camera)
        if self._away in camera.url:
            raise Transient("no camera answers there", todo="is it on?")
        return Look(JPEG, 1280, 720, "h264", 25.0)
