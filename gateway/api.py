"""The calls of the API: parameters in, one call to the query service, its answer as JSON or a picture."""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response

from gateway.calls import Endpoint, body_of, json_of, matches, parameters_of, while_wanted
from gateway.clips import clip_response
from gateway.entrance import Entrance
from gateway.problems import Refused
from gateway.queries import Queries
from gateway.shapes import API, MOMENT_ID, At, CamerasReply, Filters, Health, Nothing, Question, SearchReply, Span
from proto.errors import Invalid, WatchwordError

HEALTH_S = 2.0
PICTURES = ("image/jpeg", "image/png", "image/webp")
AT_HEADER = "x-watchword-at-ms"


class Api:
    """The calls, on a query service."""

    def __init__(self, queries: Queries, version: str, *, needs_token: bool = False) -> None:
        """`needs_token`: whether requests without one are refused."""
        self._queries = queries
        self._entrance = Entrance(queries, needed=needs_token)
        self._version = version
        self.endpoints = (
            Endpoint(
                "GET",
                f"{API}/search",
                "search",
                "The moments most similar to the question.",
                self._search,
                query=Question,
                gives=SearchReply,
            ),
            Endpoint(
                "POST",
                f"{API}/search",
                "searchByBody",
                "The same with the question as JSON, or a picture. Filters in the JSON win over the query string's.",
                self._search_by_body,
                query=Filters,
                body=Question,
                picture=True,
                gives=SearchReply,
            ),
            Endpoint(
                "GET",
                f"{API}/moments/{{id}}/picture",
                "picture",
                "A picture of a moment: that in which a hit was found, or the most representative one.",
                self._picture,
                query=At,
                path_parameters=(("id", "The `moment_id` of a hit.", MOMENT_ID),),
            ),
            Endpoint(
                "GET",
                f"{API}/clip",
                "clip",
                "A part of a recording, with byte ranges. It may begin and end a little outside the time.",
                self._clip,
                query=Span,
                gives="video/mp4",
            ),
            Endpoint(
                "GET",
                f"{API}/cameras",
                "cameras",
                "The cameras that can be searched, and the kinds of objects that can be asked for.",
                self._cameras,
                gives=CamerasReply,
            ),
            Endpoint(
                "GET",
                f"{API}/health",
                "health",
                "Whether questions can be answered now. The status is 200 either way.",
                self._health,
                gives=Health,
            ),
        )

    async def _search(self, request: Request) -> Response:
        return await self._found(request, parameters_of(request, Question), None)

    async def _search_by_body(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return await self._found(request, _question(await request.body(), parameters_of(request, Filters)), None)
        if kind in PICTURES:
            return await self._found(request, parameters_of(request, Filters), await request.body())
        told = f"{kind[:60]!r} is no form of a question" if kind else "the body has no content-type"
        raise Refused(415, "unsupported_media_type", told, todo=f"send application/json or {', '.join(PICTURES)}")

    async def _found(self, request: Request, asked: Filters, image: bytes | None) -> Response:
        text = like = None
        if isinstance(asked, Question):
            text, like = asked.q or None, asked.like or None
        if [text, like, image].count(None) != 2:
            raise Invalid("there is no question", todo="give exactly one of q and like, or a picture as the body")
        search = self._of(request).search(
            text=text,
            image=image,
            moment_id=like,
            cameras=asked.camera,
            start_ms=asked.start_ms,
            end_ms=asked.end_ms,
            limit=asked.limit,
            objects=asked.object,
            min_confidence=asked.min_confidence,
            all_moments=asked.all_moments,
            by_time=asked.order == "time",
            groups=asked.group,
        )
        return json_of(SearchReply.model_validate(await while_wanted(request, search)))

    async def _picture(self, request: Request) -> Response:
        at = parameters_of(request, At)
        reply = await while_wanted(request, self._of(request).thumbnail(request.path_params["id"], at.at_ms))
        tag = f'"{hashlib.sha256(reply.jpeg).hexdigest()[:32]}"'
        # To be asked again each time: what was erased must not be shown from a browser's cache.
        headers = {"etag": tag, "cache-control": "private, no-cache", AT_HEADER: str(reply.at_ms)}
        if matches(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        return Response(reply.jpeg, headers=headers, media_type="image/jpeg")

    async def _clip(self, request: Request) -> Response:
        span = parameters_of(request, Span)
        parts = self._of(request).clip(
            camera=span.camera, start_ms=span.start_ms, end_ms=span.end_ms, moment_id=span.moment_id
        )
        return await clip_response(request, parts)

    async def _cameras(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        return json_of(CamerasReply.model_validate(await while_wanted(request, self._of(request).known())))

    async def _health(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        try:
            await self._queries.serving(HEALTH_S)
        except WatchwordError as error:
            return json_of(Health(ready=False, version=self._version, todo=str(error)))
        return json_of(Health(ready=True, version=self._version))

    def _of(self, request: Request) -> Queries:
        """The query service for whoever makes the request."""
        return self._entrance.of(
            request.headers.getlist("authorization"), request.client.host if request.client else ""
        )


def _question(body: bytes, otherwise: Filters) -> Question:
    """The question in the body, with the filters of the query string where it has none. Raises Invalid."""
    asked = body_of(body, Question)
    more = {name: getattr(otherwise, name) for name in otherwise.model_fields_set - asked.model_fields_set}
    return asked.model_copy(update=more)
