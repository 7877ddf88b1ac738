"""The gRPC client of the query service."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proto.calling import CLIENT_KEY, WATCH_KEY, Client, answer_of, open_channel
from proto.errors import Invalid, Late, Transient
from proto.tls import ClientTls
from proto.v1 import query_pb2, query_pb2_grpc

Reply = TypeVar("Reply")


class QueryClient(Client):
    """Calls a query service. Each call ends within `timeout_s`, with its answer or a WatchwordError.

    A call that is refused for overload is repeated a few times, unless most calls are.
    """

    def __init__(
        self, address: str, timeout_s: float, *, spread: bool = False, token: str = "", tls: ClientTls | None = None
    ) -> None:
        """With `spread`, calls go in turn to all services that the address resolves to."""
        self._metadata = _metadata(token)
        self._address = address
        self._timeout_s = timeout_s
        self._channel = open_channel(address, repeats_refused=True, spread=spread, begins_traces=True, tls=tls)
        self._stub: Any = query_pb2_grpc.QueryStub(self._channel)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    def on_behalf(self, token: str, client: str = "") -> Self:
        """The client, over the same connection, of whoever brought this token (empty: none) from this address."""
        other = copy.copy(self)
        other._metadata = _metadata(token, client)
        return other

    def watching(self, mark: str) -> Self:
        """The client, as a part of the live watch of this mark (WATCH_KEY)."""
        other = copy.copy(self)
        other._metadata = (*self._metadata, (WATCH_KEY, mark))
        return other

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
    ) -> query_pb2.SearchReply:
        """The moments most similar to the text, image or moment. Give exactly one of the three."""
        if [text, image, moment_id].count(None) != 2:
            raise Invalid("there is no question", todo="give exactly one of text, image and moment_id")
        with _sendable():
            request = query_pb2.SearchRequest(
                # Protobuf leaves out fields that are None; its stubs do not say so.
                text=text,  # type: ignore[arg-type]
                image=image,  # type: ignore[arg-type]
                moment_id=moment_id,  # type: ignore[arg-type]
                cameras=cameras,
                start_ms=start_ms,
                end_ms=end_ms,
                limit=limit,
                objects=objects,
                min_confidence=min_confidence,
                all_moments=all_moments,
                order=query_pb2.ORDER_TIME if by_time else query_pb2.ORDER_RELEVANCE,
                groups=groups,
            )
        return await self._answer(self._stub.Search(request, timeout=self._timeout_s, metadata=self._metadata))

    async def thumbnail(self, moment_id: str, at_ms: int = 0) -> query_pb2.ThumbnailReply:
        """The moment's picture, a JPEG: of this time, `at_ms` of a hit, or the most representative one."""
        with _sendable():
            request = query_pb2.ThumbnailRequest(moment_id=moment_id, at_ms=at_ms)
        reply: query_pb2.ThumbnailReply = await self._answer(
            self._stub.Thumbnail(request, timeout=self._timeout_s, metadata=self._metadata)
        )
        return reply

    async def clip(
        self, *, camera: str = "", start_ms: int = 0, end_ms: int = 0, moment_id: str = ""
    ) -> AsyncGenerator[query_pb2.ClipPart, None]:
        """A part of a recording: first its head, then its bytes. Give a camera and a time, or a moment.

        Each part comes within `timeout_s`, however long the clip is.
        """
        with _sendable():
            request = query_pb2.ClipRequest(camera=camera, start_ms=start_ms, end_ms=end_ms, moment_id=moment_id)
        call = self._stub.Clip(request, metadata=self._metadata)
        try:
            while True:
                async with asyncio.timeout(self._timeout_s):
                    part = await self._answer(call.read())
                if part is grpc.aio.EOF:
                    return
                yield part
        except TimeoutError:
            raise Late("the clip stopped coming", todo="try again; does the disk of recordings answer?") from None
        finally:
            call.cancel()

    async def cameras(self) -> list[query_pb2.CameraInfo]:
        """Every camera that can be searched."""
        return list((await self.known()).cameras)

    async def kinds(self) -> list[str]:
        """The kinds of objects that can be asked for."""
        return list((await self.known()).kinds)

    async def serving(self, timeout_s: float) -> None:
        """Return when the service says that it serves. However busy it is, it answers this."""
        call = self._health.Check(health_pb2.HealthCheckRequest(service="watchword.v1.Query"), timeout=timeout_s)
        reply: health_pb2.HealthCheckResponse = await self._answer(call)
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            raise Transient(
                f"the query service at {self._address} does not serve now", todo="try again in some seconds"
            )

    async def known(self) -> query_pb2.CamerasReply:
        """Every camera that can be searched, and the kinds of objects that can be asked for."""
        request = query_pb2.CamerasRequest()
        reply: query_pb2.CamerasReply = await self._answer(
            self._stub.Cameras(request, timeout=self._timeout_s, metadata=self._metadata)
        )
        return reply

    async def ask(self, request: query_pb2.SearchRequest) -> tuple[query_pb2.SearchReply, dict[str, str]]:
        """The answer to a request as it stands, and the trailing metadata, which an older service does not send."""
        call = self._stub.Search(request, timeout=self._timeout_s, metadata=self._metadata)
        reply: query_pb2.SearchReply = await self._answer(call)
        trailing = await call.trailing_metadata()
        return reply, {key: value for key, value in trailing or () if isinstance(value, str)}

    async def _answer(self, call: Awaitable[Reply]) -> Reply:
        return await answer_of(call, f"the query service at {self._address}")


def _metadata(token: str, client: str = "") -> tuple[tuple[str, str], ...]:
    found = [("authorization", f"Bearer {token}")] if token else []
    return (*found, (CLIENT_KEY, client)) if client else (*found,)


@contextmanager
def _sendable() -> Iterator[None]:
    """The block makes a request. Invalid when a value of it has no place on the wire."""
    try:
        yield
    except ValueError as error:
        todo = "see query.proto for what is allowed"
        raise Invalid(f"the question cannot be sent ({error})", todo=todo) from None
