"""The calls of the API that change the house: each to one call of the Manage service."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from gateway.calls import Endpoint, Model, body_of, json_of, matches, parameters_of, while_wanted
from gateway.entrance import Entrance
from gateway.manage_shapes import (
    CameraChange,
    CameraSettings,
    NewCamera,
    TestSource,
    Who,
    camera_of,
    message_of,
)
from gateway.problems import Refused
from gateway.queries import Manage
from gateway.shapes import API, Nothing
from proto.errors import Denied, Invalid
from proto.types import CAMERA_NAME
from proto.v1 import manage_pb2

SEEN_HEADER = "x-watchword-source"
"""What a source sends, with its test picture: codec, width, height, pictures a second."""

_CAMERA = (("name", "The camera's name.", f"^{CAMERA_NAME.pattern}$"),)
Reply = TypeVar("Reply", bound=Message)


class Managing:
    """The calls, on a Manage service."""

    def __init__(self, manage: Manage, *, needs_token: bool = False) -> None:
        """`needs_token`: whether requests without one are refused."""
        self._entrance = Entrance(manage, needed=needs_token)
        camera = f"{API}/cameras/{{name}}"
        self.endpoints = (
            Endpoint("GET", f"{API}/me", "whoAmI", "What the caller may do.", self._me, gives=Who),
            Endpoint(
                *("GET", camera, "camera", "A camera with all its settings. For operators.", self._camera),
                gives=CameraSettings,
                path_parameters=_CAMERA,
            ),
            Endpoint(
                *("PUT", camera, "addCamera", "Watch a camera. For operators.", self._add),
                body=NewCamera,
                gives=CameraSettings,
                status=201,
                path_parameters=_CAMERA,
            ),
            Endpoint(
                *("PATCH", camera, "changeCamera", "Change a camera; it stays the same one. For operators."),
                self._change,
                body=CameraChange,
                gives=CameraSettings,
                tagged=True,
                path_parameters=_CAMERA,
            ),
            Endpoint(
                *("DELETE", camera, "removeCamera", "Stop watching; what it saw stays. For operators.", self._remove),
                gives=None,
                status=204,
                tagged=True,
                path_parameters=_CAMERA,
            ),
            Endpoint(
                *("POST", f"{camera}/test-picture", "testPicture"),
                "One picture of a source, before it is added or changed. For operators.",
                self._picture,
                body=TestSource,
                path_parameters=_CAMERA,
            ),
        )

    async def _me(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        return json_of(Who.model_validate(await self.ask(request, manage_pb2.WhoAmIRequest(), manage_pb2.Who)))

    async def _camera(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        wanted = manage_pb2.GetCameraRequest(name=_name(request))
        return _tagged(request, await self.ask(request, wanted, manage_pb2.CameraSettings))

    async def _add(self, request: Request) -> Response:
        new = await said_in(request, NewCamera)
        settings, given = message_of(_name(request), new)
        with_url = manage_pb2.AddCameraRequest(settings=settings, given=given, unchecked=new.unchecked)
        with_url.url = text_of(new.url, "url")
        return _tagged(request, await self.ask(request, with_url, manage_pb2.CameraSettings), 201)

    async def _change(self, request: Request) -> Response:
        change = await said_in(request, CameraChange)
        settings, given = message_of(_name(request), change)
        wanted = manage_pb2.ChangeCameraRequest(settings=settings, given=given, unchecked=change.unchecked)
        wanted.url, wanted.tag = text_of(change.url, "url"), _tag(request)
        return _tagged(request, await self.ask(request, wanted, manage_pb2.CameraSettings))

    async def _remove(self, request: Request) -> Response:
        parameters_of(request, Nothing)
        wanted = manage_pb2.RemoveCameraRequest(name=_name(request), tag=_tag(request))
        await self.ask(request, wanted, manage_pb2.Done)
        return Response(status_code=204)

    async def _picture(self, request: Request) -> Response:
        source = await said_in(request, TestSource)
        wanted = manage_pb2.TestPictureRequest(name=_name(request), url=text_of(source.url, "url"))
        seen = await self.ask(request, wanted, manage_pb2.TestPictureReply)
        told = f"{seen.codec} {seen.width} {seen.height} {seen.fps:.3g}".encode("ascii", "replace").decode()
        return Response(seen.jpeg, headers={SEEN_HEADER: told}, media_type="image/jpeg")

    async def ask(self, request: Request, wanted: Message, kind: type[Reply]) -> Reply:
        """The service's reply to whoever makes the request."""
        authorization = request.headers.getlist("authorization")
        if not authorization:
            _check_own_page(request)
        manage = self._entrance.of(authorization, request.client.host if request.client else "")
        return await while_wanted(request, manage.ask(wanted, kind))


def _check_own_page(request: Request) -> None:
    """A page of another origin brings a token: without one, whoever is on this machine could be made to change things
    by a page that they only look at."""
    origin = request.headers.get("origin", "")
    if request.headers.get("sec-fetch-site", "none") in ("none", "same-origin") and (
        not origin or origin.partition("://")[2].lower() == request.headers.get("host", "").lower()
    ):
        return
    raise Denied("a page of another origin changes nothing without a token", todo="send one: authorization: Bearer …")


def _name(request: Request) -> str:
    return text_of(request.path_params["name"], "name")[:200]


def text_of(value: str, name: str) -> str:
    """The text, if it has a place on the wire."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{name} is no text", todo="send Unicode as UTF-8") from None
    return value


async def said_in(request: Request, model: type[Model]) -> Model:
    """The body as the model."""
    parameters_of(request, Nothing, "what is to be changed is in the body")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        told = f"{kind[:60]!r} is no form of it" if kind else "the body has no content-type"
        raise Refused(415, "unsupported_media_type", told, todo="send application/json")
    return body_of(await request.body(), model)


def _tag(request: Request) -> str:
    """The tag that the caller saw; empty for any."""
    given = request.headers.get("if-match", "").strip()
    if not given:
        todo = "GET the camera, and send its ETag as If-Match; * changes whatever is there"
        raise Refused(428, "precondition_required", "it is not said which state is to be changed", todo=todo)
    if given == "*":
        return ""
    # What is no tag of ours matches nothing.
    return given.removeprefix("W/").strip('"')[:64].encode("ascii", "replace").decode() or "none"


def _tagged(request: Request, told: manage_pb2.CameraSettings, status: int = 200) -> Response:
    headers = {"etag": f'"{told.tag}"', "cache-control": "private, no-cache"}
    if request.method == "GET" and matches(request.headers.get("if-none-match", ""), headers["etag"]):
        return Response(status_code=304, headers=headers)
    return json_of(camera_of(told), status, headers)
