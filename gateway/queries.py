"""The port to the query service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, Self, TypeVar

from google.protobuf.message import Message

from proto.v1 import query_pb2

Reply = TypeVar("Reply", bound=Message)


class OnBehalf(Protocol):
    """A client that is used for one caller after the other."""

    def on_behalf(self, token: str, client: str = "") -> Self:
        """The same for whoever brought this token (empty: none), from this address."""


class Manage(OnBehalf, Protocol):
    """What the gateway asks of the Manage service: `manage.client.ManageClient`."""

    async def ask(self, request: Message, kind: type[Reply]) -> Reply:
        """The reply, of this kind, to the request, whose type names the call."""


class Queries(OnBehalf, Protocol):
    """What the gateway asks of the query service: `query.client.QueryClient`."""

    def watching(self, mark: str) -> Self:
        """The same, as a part of the live watch of this mark: the audit has its beginning and its end."""

    async def search(
        self,
        *,
        text: str | None = None,
        image: bytes | None = None,
        moment_id: str | None = None,
        cameras: Sequence[str] = (),
        start_ms: int = 0,
        end_ms: int = 0,
        limit: int | None = None,
        objects: Sequence[str] = (),
        min_confidence: float = 0.0,
        all_moments: bool = False,
        by_time: bool = False,
        groups: Sequence[str] = (),
    ) -> query_pb2.SearchReply: ...

    async def thumbnail(self, moment_id: str, at_ms: int = 0) -> query_pb2.ThumbnailReply: ...

    def clip(
        self, *, camera: str = "", start_ms: int = 0, end_ms: int = 0, moment_id: str = ""
    ) -> AsyncGenerator[query_pb2.ClipPart, None]: ...

    async def known(self) -> query_pb2.CamerasReply: ...

    async def serving(self, timeout_s: float) -> None: ...
