"""The Manage service over gRPC, beside the query service: its server, its callers, its audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import grpc.aio
from google.protobuf.message import Message

from cameras.address import shown
from manage.looking import MOST_LOOKS
from manage.manager import Manager
from proto.access import Caller
from proto.admission import Admission
from proto.serving import Door, answers, caller
from proto.v1 import manage_pb2, manage_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Noted = Callable[[Caller, str, Any, Mapping[str, Any]], AbstractContextManager[dict[str, Any]]]
"""Notes a call in the audit: who calls, what, its context, what is asked."""
Reply = TypeVar("Reply", bound=Message)


class ManageService:
    """What a server of the query service serves beside it."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        looks = Admission("look", most=MOST_LOOKS)
        self.admissions: Mapping[str, Admission] = {"TestPicture": looks}
        """Of methods by name."""

    def add_to(self, methods: Any, door: Door, noted: Noted) -> None:
        """Add the methods to a server that has this door."""
        manage_pb2_grpc.add_ManageServicer_to_server(_Servicer(self._manager, door, noted), methods)


class _Servicer(manage_pb2_grpc.ManageServicer):
    def __init__(self, manager: Manager, door: Door, noted: Noted) -> None:
        self._manager = manager
        self.door = door
        self._noted = noted

    @answers
    async def WhoAmI(self, request: manage_pb2.WhoAmIRequest, context: Context) -> manage_pb2.Who:  # noqa: N802, ARG002
        # Not in the audit: every page asks it, and it tells nothing of any camera.
        return cast(manage_pb2.Who, await self._manager.answer(request, caller()))

    @answers
    async def GetCamera(  # noqa: N802
        self, request: manage_pb2.GetCameraRequest, context: Context
    ) -> manage_pb2.CameraSettings:
        return await self._answer("camera", request, context, manage_pb2.CameraSettings)

    @answers
    async def AddCamera(  # noqa: N802
        self, request: manage_pb2.AddCameraRequest, context: Context
    ) -> manage_pb2.CameraSettings:
        return await self._answer("add camera", request, context, manage_pb2.CameraSettings)

    @answers
    async def ChangeCamera(  # noqa: N802
        self, request: manage_pb2.ChangeCameraRequest, context: Context
    ) -> manage_pb2.CameraSettings:
        return await self._answer("change camera", request, context, manage_pb2.CameraSettings)

    @answers
    async def RemoveCamera(  # noqa: N802
        self, request: manage_pb2.RemoveCameraRequest, context: Context
    ) -> manage_pb2.Done:
        return await self._answer("remove camera", request, context, manage_pb2.Done)

    @answers
    async def TestPicture(  # noqa: N802
        self, request: manage_pb2.TestPictureRequest, context: Context
    ) -> manage_pb2.TestPictureReply:
        return await self._answer("test picture", request, context, manage_pb2.TestPictureReply)

    @answers
    async def Storage(self, request: manage_pb2.StorageRequest, context: Context) -> manage_pb2.StorageReply:  # noqa: N802
        return await self._answer("storage", request, context, manage_pb2.StorageReply)

    @answers
    async def Tokens(self, request: manage_pb2.TokensRequest, context: Context) -> manage_pb2.TokensReply:  # noqa: N802
        return await self._answer("tokens", request, context, manage_pb2.TokensReply)

    @answers
    async def CreateToken(self, request: manage_pb2.CreateTokenRequest, context: Context) -> manage_pb2.CreatedToken:  # noqa: N802
        return await self._answer("create token", request, context, manage_pb2.CreatedToken)

    @answers
    async def RevokeToken(self, request: manage_pb2.RevokeTokenRequest, context: Context) -> manage_pb2.TokenInfo:  # noqa: N802
        return await self._answer("revoke token", request, context, manage_pb2.TokenInfo)

    @answers
    async def Audit(self, request: manage_pb2.AuditRequest, context: Context) -> manage_pb2.AuditReply:  # noqa: N802
        return await self._answer("audit", request, context, manage_pb2.AuditReply)

    @answers
    async def AddDemo(self, request: manage_pb2.AddDemoRequest, context: Context) -> manage_pb2.Done:  # noqa: N802
        return await self._answer("add demo", request, context, manage_pb2.Done)

    @answers
    async def Erase(self, request: manage_pb2.EraseRequest, context: Context) -> manage_pb2.ErasureInfo:  # noqa: N802
        return await self._answer("erase", request, context, manage_pb2.ErasureInfo)

    @answers
    async def Erasures(self, request: manage_pb2.ErasuresRequest, context: Context) -> manage_pb2.ErasuresReply:  # noqa: N802
        return await self._answer("erasures", request, context, manage_pb2.ErasuresReply)

    @answers
    async def Receipt(self, request: manage_pb2.ReceiptRequest, context: Context) -> manage_pb2.ReceiptReply:  # noqa: N802
        return await self._answer("receipt", request, context, manage_pb2.ReceiptReply)

    async def _answer(self, what: str, request: Message, context: Context, _: type[Reply]) -> Reply:
        who = caller()
        with self._noted(who, what, context, _asked(request)):
            return cast(Reply, await self._manager.answer(request, who))


def _asked(request: Any) -> dict[str, Any]:
    """What the audit says of a request: names and places, nothing secret."""
    fields = {field.name for field in request.DESCRIPTOR.fields}
    found: dict[str, Any] = {}
    name = request.settings.name if "settings" in fields else request.name if "name" in fields else ""
    if name:
        found["token_named" if "role" in fields else "camera"] = name[:80]
    if "camera" in fields:
        found["camera"] = request.camera[:80]
    for field in ("id", "role", "number", "start_ms", "end_ms", "reason"):
        if field in fields and getattr(request, field):
            value = getattr(request, field)
            found[field] = value[:200] if isinstance(value, str) else value
    if "url" in fields and request.url:
        found["address"] = shown(request.url)[:200]
    if "given" in fields:
        found["changes"] = [one[:40] for one in request.given[:20]]
    return found
