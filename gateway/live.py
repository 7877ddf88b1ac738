"""What is live as a stream of server-sent events."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.calls import Endpoint, parameters_of
from gateway.entrance import Entrance
from gateway.queries import Queries
from gateway.shapes import API, Nothing
from gateway.watching import Watches

STREAM = "text/event-stream"
_MOST_ID = 64


class Live:
    """The stream, on a query service."""

    def __init__(self, queries: Queries, watches: Watches, *, needs_token: bool = False) -> None:
        """`needs_token`: whether requests without one are refused."""
        self._entrance = Entrance(queries, needed=needs_token)
        self._watches = watches
        self.endpoints = (
            Endpoint(
                "GET",
                f"{API}/live/events",
                "liveEvents",
                "What is live, as server-sent events: `all` before a whole account, then `camera`, `gone`, `looked`, "
                "`moment` and `problem`. Send `last-event-id` to go on where a connection broke.",
                self._events,
                gives=STREAM,
            ),
        )

    async def _events(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        authorization = request.headers.getlist("authorization")
        address = request.client.host if request.client else ""
        queries = self._entrance.of(authorization, address)
        if request.method == "HEAD":
            return Response(media_type=STREAM)
        # Whoever may not ask learns it as a status, before anything is streamed.
        await queries.known()
        caller = hashlib.sha256("\n".join(authorization).encode("utf-8", "replace")).hexdigest()
        after = request.headers.get("last-event-id", "")[:_MOST_ID]
        events = await self._watches.listen(caller, lambda: queries, after, address="" if authorization else address)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return _Stream(events, headers)


class _Stream(StreamingResponse):
    """Ends the events with the answer, also with one that was given up before the first of them."""

    def __init__(self, events: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(events, headers=headers, media_type=STREAM)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)
