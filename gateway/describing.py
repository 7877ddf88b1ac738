"""The API's description (OpenAPI 3.1), made from the typed models and the table of calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway.api import AT_HEADER, PICTURES
from gateway.calls import Endpoint
from gateway.live import STREAM
from gateway.problems import MEDIA_TYPE
from gateway.shapes import ProblemBody

Json = dict[str, Any]
Places = Mapping[tuple[type[BaseModel], JsonSchemaMode], Json]
"""Where in the document the schema of a model is."""

_AT = {
    "description": "The `at_ms` that was asked for if this is its picture, 0 for the representative one.",
    "schema": {"type": "integer"},
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The ETag of what is changed, or * for whatever is there.",
    "schema": {"type": "string"},
}
_PLACES = "#/components/schemas/{model}"
_PROBLEMS = {
    "400": "The request is wrong; `detail` and `todo` say how.",
    "401": "A token is needed, or the given one does not count.",
    "403": "Not allowed.",
    "404": "A camera or a moment that is not known here.",
    "408": "The body did not arrive in time.",
    "412": "Somebody else changed it meanwhile.",
    "413": "The body is too large.",
    "415": "The body is of no kind that is taken here.",
    "421": "The gateway is not asked by a name of its own.",
    "428": "The If-Match header is missing.",
    "429": "Busy: wait as long as `retry-after` says.",
    "431": "The request's line and headers are too long.",
    "500": "The installation is wrong.",
    "503": "A part is away: try again.",
    "504": "The answer did not come in time.",
}


def description(endpoints: Sequence[Endpoint], version: str) -> Json:
    """The whole document."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemBody, "serialization")]
    for one in endpoints:
        if one.body is not None:
            models.append((one.body, "validation"))
        if one.gives is not None and not isinstance(one.gives, str):
            models.append((one.gives, "serialization"))
    places, defined = _schemas(tuple(sorted(set(models), key=str)))
    paths: dict[str, Json] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _call(one, places)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Watchword",
            "version": version,
            "summary": "Ask what cameras saw, in words.",
            "description": "Times are milliseconds since the Unix epoch, UTC. Errors are problem+json with `todo`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        # A token where one is needed: whoever runs the gateway decides.
        "security": [{}, {"token": []}],
        "components": {
            "schemas": defined,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


@cache
def _schemas(models: tuple[tuple[type[BaseModel], JsonSchemaMode], ...]) -> tuple[Places, Json]:
    """Where each model is, and all of them. Made once: the models do not change."""
    found, defined = models_json_schema(models, ref_template=_PLACES)
    places: Places = {key: schema for key, schema in found.items() if isinstance(key[0], type)}  # type: ignore[misc]
    return places, defined["$defs"]


def _call(one: Endpoint, places: Places) -> Json:
    told: Json = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "description": meaning,
               "schema": {"type": "string", "pattern": pattern}}
              for name, meaning, pattern in one.path_parameters),
            *_query_parameters(one.query),
            *([_IF_MATCH] if one.tagged else []),
        ],
        "responses": {str(one.status): _answer(one, places), **_problems(one, places)},
    }  # fmt: skip
    if one.method == "GET" and isinstance(one.gives, str) and one.gives != STREAM:
        told["responses"]["304"] = {"description": "The same as that of the given ETag."}
    if one.gives == "video/mp4":
        clip = {one.gives: {"schema": {"type": "string", "format": "binary"}}}
        told["responses"]["206"] = {"description": "The asked range of it.", "content": clip}
        told["responses"]["416"] = {"description": "The range is outside of it.", "content": _problem(places)}
    if one.body is not None:
        content: Json = {"application/json": {"schema": places[one.body, "validation"]}}
        if one.picture:
            content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURES}
        told["requestBody"] = {"required": True, "content": content}
    return told


@cache
def _query_parameters(model: type[BaseModel]) -> list[Json]:
    found = []
    for name, schema in model.model_json_schema(mode="validation").get("properties", {}).items():
        text = schema.pop("description", "")
        schema.pop("title", None)
        # A parameter that is left out is none; in a query string nothing is null.
        kinds = [kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]
        found.append({"name": name, "in": "query", "description": text, "schema": kinds[0]})
    return found


def _answer(one: Endpoint, places: Places) -> Json:
    if one.gives is None:
        return {"description": "Done."}
    if not isinstance(one.gives, str):
        return {"description": "Done.", "content": {"application/json": {"schema": places[one.gives, "serialization"]}}}
    if one.gives == STREAM:
        return {"description": "Events, without an end.", "content": {one.gives: {"schema": {"type": "string"}}}}
    return {
        "description": "The picture or the clip.",
        "headers": {
            "ETag": {"schema": {"type": "string"}},
            **({AT_HEADER: _AT} if one.gives == "image/jpeg" else {}),
        },
        "content": {one.gives: {"schema": {"type": "string", "format": "binary"}}},
    }


def _problem(places: Places) -> Json:
    return {MEDIA_TYPE: {"schema": places[ProblemBody, "serialization"]}}


def _problems(one: Endpoint, places: Places) -> Json:
    content = _problem(places)
    left_out = set() if one.body is not None else {"408", "413", "415"}
    left_out |= set() if one.tagged else {"412", "428"}
    return {
        status: {"description": text, "content": content}
        for status, text in _PROBLEMS.items()
        if status not in left_out
    }
