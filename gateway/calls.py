"""What a call of the API is, and how its parameters and body are read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gateway.problems import Refused
from gateway.shapes import Health, Nothing
from proto.errors import Invalid

SECRET = frozenset({"url"})
"""Fields whose values are never said again."""

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
    """Its body as JSON."""
    picture: bool = False
    """Whether a picture may be the body instead."""
    gives: type[BaseModel] | str | None = "image/jpeg"
    """The answer: JSON of this model, this media type, or nothing."""
    status: int = 200
    tagged: bool = False
    """Whether it needs an If-Match header."""
    path_parameters: tuple[tuple[str, str, str], ...] = ()
    """Names, meanings, and patterns of those that there can be."""


async def while_wanted(request: Request, call: Coroutine[Any, Any, Reply]) -> Reply:
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


def json_of(answer: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The answer as JSON."""
    text = answer.model_dump_json(exclude_none=isinstance(answer, Health))
    return Response(text, status, headers, "application/json")


def matches(given: str, tag: str) -> bool:
    """Whether an If-None-Match header names this tag."""
    return given.strip() == "*" or tag in {one.strip().removeprefix("W/") for one in given.split(",")}


def parameters_of(request: Request, model: type[Model], todo: str = "") -> Model:
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
        raise _invalid(error, model, "the query string", todo) from None


def body_of(body: bytes, model: type[Model]) -> Model:
    """The body as the model. Raises Invalid."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _invalid(error, model, "the body", "") from None


def _invalid(error: ValidationError, model: type[BaseModel], where: str, todo: str) -> Invalid:
    """The first thing that is wrong, in a sentence. What was given is shown cut, for it may be long."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])[:60]
    known = ", ".join(sorted(model.model_fields)) or "none"
    if first["type"] == "extra_forbidden":
        return Invalid(f"{where} has {name!r}, which is no parameter here", todo=todo or f"known are: {known}")
    reason = first["msg"][:1].lower() + first["msg"][1:200]
    if not name:
        return Invalid(f"{where} cannot be read ({reason})", todo="see /api/v1/openapi.json")
    # An address may hold a password.
    shown = "" if str(first["loc"][0]) in SECRET else f" = {str(first['input'])[:60]!r}"
    return Invalid(f"{name}{shown} in {where}: {reason}", todo="see /api/v1/openapi.json")
