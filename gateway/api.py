"""The calls of the API: parameters in, one call to the query service, its answer as JSON or a picture."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gateway.clips import clip_response
from gateway.entrance import Entrance
from gateway.problems import Refused
from gateway.queries import Queries
from gateway.shapes import API, At, CamerasReply, Filters, Health, Nothing, Question, SearchReply, Span
from proto.errors import Invalid, WatchwordError

HEALTH_S = 2.0
PICTURES = ("image/jpeg", "image/png", "image/webp")
AT_HEADER = "x-watchword-at-ms"

Model = TypeVar("Model", bound=BaseModel)
Reply = TypeVar("Reply")


@dataclass(frozen=True)
class Endpoint:
    """One call of the API. Routes and the API's description are made from it."""

    method: str
    path: str
    name: str
    summary: str
    answer: Callable[[Request], Awaitable[Response]]
    query: type[BaseModel] = Nothing
    """Its parameters in the query string."""
    body: type[BaseModel] | None = None
    """Its body as JSON; then a picture may be given instead."""
    gives: type[BaseModel] | str = "image/jpeg"
    """The answer: JSON of this model, or this media type."""
    path_parameters: tuple[tuple[str, str], ...] = ()
    """Names and meanings."""


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
                gives=SearchReply,
            ),
            Endpoint(
                "GET",
                f"{API}/moments/{{id}}/picture",
                "picture",
                "A picture of a moment: that in which a hit was found, or the most representative one.",
                self._picture,
                query=At,
                path_parameters=(("id", "The `moment_id` of a hit."),),
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
        return await self._found(request, _parameters(request, Question), None)

    async def _search_by_body(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return await self._found(request, _body(await request.body(), _parameters(request, Filters)), None)
        if kind in PICTURES:
            return await self._found(request, _parameters(request, Filters), await request.body())
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
        return _json(SearchReply.model_validate(await _while_wanted(request, search)))

    async def _picture(self, request: Request) -> Response:
        at = _parameters(request, At)
        reply = await _while_wanted(request, self._of(request).thumbnail(request.path_params["id"], at.at_ms))
        tag = f'"{hashlib.sha256(reply.jpeg).hexdigest()[:32]}"'
        # To be asked again each time: what was erased must not be shown from a browser's cache.
        headers = {"etag": tag, "cache-control": "private, no-cache", AT_HEADER: str(reply.at_ms)}
        if _matches(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        return Response(reply.jpeg, headers=headers, media_type="image/jpeg")

    async def _clip(self, request: Request) -> Response:
        span = _parameters(request, Span)
        parts = self._of(request).clip(
            camera=span.camera, start_ms=span.start_ms, end_ms=span.end_ms, moment_id=span.moment_id
        )
        return await clip_response(request, parts)

    async def _cameras(self, request: Request) -> Response:
        _parameters(request, Nothing)
        return _json(CamerasReply.model_validate(await _while_wanted(request, self._of(request).known())))

    async def _health(self, request: Request) -> Response:
        _parameters(request, Nothing)
        try:
            await self._queries.serving(HEALTH_S)
        except WatchwordError as error:
            return _json(Health(ready=False, version=self._version, todo=str(error)))
        return _json(Health(ready=True, version=self._version))

    def _of(self, request: Request) -> Queries:
        """The query service for whoever makes the request."""
        return self._entrance.of(
            request.headers.getlist("authorization"), request.client.host if request.client else ""
        )


async def _while_wanted(request: Request, call: Coroutine[Any, Any, Reply]) -> Reply:
    """The reply to the call. When the client goes away the call is given up, so that it takes nobody's place."""
    asking, leaving = asyncio.create_task(call), asyncio.create_task(_left(request))
    try:
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            leaving.result()
            raise Refused(499, "client_gone", "the client went away")
        return asking.result()
    finally:
        asking.cancel()
        leaving.cancel()
        await asyncio.wait({asking, leaving})


async def _left(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(answer: BaseModel) -> Response:
    text = answer.model_dump_json(exclude_none=isinstance(answer, Health))
    return Response(text, media_type="application/json")


def _matches(given: str, tag: str) -> bool:
    """Whether an If-None-Match header names this tag."""
    return given.strip() == "*" or tag in {one.strip().removeprefix("W/") for one in given.split(",")}


def _parameters(request: Request, model: type[Model]) -> Model:
    """The query string as the model. Raises Invalid."""
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        field = model.model_fields.get(name)
        if field is not None and field.annotation == list[str]:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Invalid(f"{name[:40]!r} is given twice", todo="give it once")
        else:
            given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _invalid(error, model, "the query string") from None


def _body(body: bytes, otherwise: Filters) -> Question:
    """The question in the body, with the filters of the query string where it has none. Raises Invalid."""
    try:
        asked = Question.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _invalid(error, Question, "the body") from None
    more = {name: getattr(otherwise, name) for name in otherwise.model_fields_set - asked.model_fields_set}
    return asked.model_copy(update=more)


def _invalid(error: ValidationError, model: type[BaseModel], where: str) -> Invalid:
    """The first thing that is wrong, in a sentence. What was given is shown cut, for it may be long."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])[:60]
    known = ", ".join(sorted(model.model_fields)) or "none"
    if first["type"] == "extra_forbidden":
        return Invalid(f"{where} has {name!r}, which is no parameter here", todo=f"known are: {known}")
    reason = first["msg"][:1].lower() + first["msg"][1:200]
    if not name:
        return Invalid(f"{where} cannot be read ({reason})", todo="see /api/v1/openapi.json")
    return Invalid(f"{name} = {str(first['input'])[:60]!r} in {where}: {reason}", todo="see /api/v1/openapi.json")
