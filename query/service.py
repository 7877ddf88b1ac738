"""The query service over gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from proto.errors import Broken, Late, WatchwordError
from proto.metrics import SEARCH_SECONDS, SEARCHES
from proto.rpc import SERVER_OPTIONS, answers
from proto.v1 import query_pb2, query_pb2_grpc
from query.reply import reply_of
from query.search import Question, Searcher
from query.settings import QuerySettings

log = logging.getLogger("watchword.query")

_SERVICE = "watchword.v1.Query"

Context = grpc.aio.ServicerContext[Any, Any]
Result = TypeVar("Result")


class QueryServer:
    """A running query service."""

    def __init__(self, server: grpc.aio.Server, checks: health.aio.HealthServicer, address: str) -> None:
        self._server = server
        self._checks = checks
        self.address = address
        """HOST:PORT that it listens on."""

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, finish those inside for at most `grace_s`, then give up the rest."""
        await self._checks.enter_graceful_shutdown()
        await self._server.stop(grace_s)


async def serve_query(searcher: Searcher, settings: QuerySettings, address: str) -> QueryServer:
    """Serve `searcher` at `address` (HOST:PORT; port 0 takes a free one)."""
    server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=settings.max_concurrent)
    query_pb2_grpc.add_QueryServicer_to_server(_QueryService(searcher, settings), server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise Broken(
            f"the query service cannot listen on {address}", todo="is the port taken? choose another"
        ) from error
    await server.start()
    for name in ("", _SERVICE):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    served = f"{address.rpartition(':')[0]}:{port}"
    log.info("query service answers on %s", served)
    return QueryServer(server, checks, served)


class _QueryService(query_pb2_grpc.QueryServicer):
    def __init__(self, searcher: Searcher, settings: QuerySettings) -> None:
        self._searcher = searcher
        self._settings = settings

    @answers
    async def Search(self, request: query_pb2.SearchRequest, context: Context) -> query_pb2.SearchReply:  # noqa: N802
        outcome = "cancelled"
        try:
            left = self._left(context)
            with SEARCH_SECONDS.time():
                found = await self._within(left, self._searcher.search(_question(request), timeout_s=left))
            outcome = "partial" if found.partial else "ok"
            return reply_of(found)
        except WatchwordError as error:
            outcome = type(error).__name__.lower()
            raise
        finally:
            SEARCHES.labels(outcome=outcome).inc()

    @answers
    async def Thumbnail(  # noqa: N802
        self, request: query_pb2.ThumbnailRequest, context: Context
    ) -> query_pb2.ThumbnailReply:
        jpeg = await self._within(self._left(context), self._searcher.thumbnail(request.moment_id))
        return query_pb2.ThumbnailReply(jpeg=jpeg)

    @answers
    async def Cameras(  # noqa: N802
        self,
        request: query_pb2.CamerasRequest,  # noqa: ARG002 - has no fields yet
        context: Context,
    ) -> query_pb2.CamerasReply:
        cameras = await self._within(self._left(context), self._searcher.cameras())
        return query_pb2.CamerasReply(
            cameras=[query_pb2.CameraInfo(name=camera.name, watching=camera.watching) for camera in cameras]
        )

    def _left(self, context: Context) -> float:
        """Seconds until the deadline: the client's or the server's own, whichever is first."""
        client_s = context.time_remaining()
        return self._settings.timeout_s if client_s is None else max(0.0, min(client_s, self._settings.timeout_s))

    async def _within(self, left_s: float, answer: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(left_s):
                return await answer
        except TimeoutError as error:
            raise Late(
                f"the answer was not ready within {left_s:.3g} s", todo="try again, or give the call a longer deadline"
            ) from error


def _question(request: query_pb2.SearchRequest) -> Question:
    kind = request.WhichOneof("question")
    return Question(
        text=request.text if kind == "text" else None,
        image=request.image if kind == "image" else None,
        moment_id=request.moment_id if kind == "moment_id" else None,
        cameras=tuple(request.cameras),
        start_ms=request.start_ms,
        end_ms=request.end_ms,
        limit=request.limit if request.HasField("limit") else 10,
    )
