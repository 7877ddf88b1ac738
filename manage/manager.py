"""What each call does, for whom. The role is looked at first: who may not change a thing learns nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from cameras.address import kind_of
from manage.cameras import DAYS, SIZE, CameraKeeper, Kept, changed, checked
from manage.desk import Desk
from manage.looking import MOST_LOOKS, Look
from manage.wire import checked_url, given_of, settings_of
from proto.access import Caller, Role
from proto.errors import Denied, Invalid, Overloaded, Unknown
from proto.types import Camera, camera_name
from proto.v1 import manage_pb2

Looking = Callable[[Camera], Awaitable[Look]]
Answer = Callable[[Any, Caller], Awaitable[Message]]


class Manager:
    """Answers the requests of the Manage service. The catalog is asked in threads."""

    def __init__(self, keeper: CameraKeeper, looking: Looking, desk: Desk) -> None:
        self._desk = desk
        self._keeper = keeper
        self._looking = looking
        self._checking = 0
        self._answers: Mapping[type[Message], Answer] = {
            manage_pb2.WhoAmIRequest: self._who,
            manage_pb2.GetCameraRequest: self._get,
            manage_pb2.AddCameraRequest: self._add,
            manage_pb2.ChangeCameraRequest: self._change,
            manage_pb2.RemoveCameraRequest: self._remove,
            manage_pb2.TestPictureRequest: self._picture,
            manage_pb2.StorageRequest: desk.storage,
            manage_pb2.TokensRequest: desk.tokens,
            manage_pb2.CreateTokenRequest: desk.create,
            manage_pb2.RevokeTokenRequest: desk.revoke,
            manage_pb2.AuditRequest: desk.audit,
            manage_pb2.AddDemoRequest: desk.add_demo,
            manage_pb2.EraseRequest: desk.erase,
            manage_pb2.ErasuresRequest: desk.erasures,
            manage_pb2.ReceiptRequest: desk.receipt,
        }

    async def answer(self, request: Message, who: Caller) -> Message:
        """The reply to the request. Raises WatchwordErrors."""
        return await self._answers[type(request)](request, who)

    async def _who(self, _: manage_pb2.WhoAmIRequest, who: Caller) -> manage_pb2.Who:
        who.check(Role.VIEWER)
        return manage_pb2.Who(name=who.name, role=who.role, every_camera=who.scope.whole, demo=self._desk.demo(who))

    async def _get(self, request: manage_pb2.GetCameraRequest, who: Caller) -> manage_pb2.CameraSettings:
        who.check(Role.OPERATOR)
        return settings_of(await self._kept(request.name, who))

    async def _add(self, request: manage_pb2.AddCameraRequest, who: Caller) -> manage_pb2.CameraSettings:
        who.check(Role.OPERATOR)
        name = _own(request.settings.name, who)
        given = given_of(request.settings, request.given)
        _check_groups(given, who)
        days, size = given.pop(DAYS, None), given.pop(SIZE, None)
        wanted = checked(changed(Camera(name, checked_url(request.url, local=_local(who))), given))
        if not request.unchecked:
            await self._check_source(wanted)
        return settings_of(await asyncio.to_thread(self._keeper.add, wanted, days, size))

    async def _change(self, request: manage_pb2.ChangeCameraRequest, who: Caller) -> manage_pb2.CameraSettings:
        who.check(Role.OPERATOR)
        name = request.settings.name
        before = await self._kept(name, who)
        given = given_of(request.settings, request.given, before.camera.record)
        _check_groups(given, who)
        if request.url:
            given["url"] = checked_url(request.url, local=_local(who))
            if not request.unchecked:
                wanted = changed(before.camera, given)
                await self._check_source(wanted)
        if not given:
            raise Invalid("nothing is to be changed", todo="give what is to be another")
        return settings_of(
            await asyncio.to_thread(self._keeper.change, name, given, tag=request.tag or None, scope=who.scope)
        )

    async def _remove(self, request: manage_pb2.RemoveCameraRequest, who: Caller) -> manage_pb2.Done:
        who.check(Role.OPERATOR)
        await asyncio.to_thread(self._keeper.remove, request.name, tag=request.tag or None, scope=who.scope)
        return manage_pb2.Done()

    async def _picture(self, request: manage_pb2.TestPictureRequest, who: Caller) -> manage_pb2.TestPictureReply:
        who.check(Role.OPERATOR)
        try:
            camera = (await self._kept(request.name, who)).camera
        except Unknown:
            if not request.url:
                raise
            camera = Camera(_own(request.name, who), "")
        if request.url:
            camera = replace(camera, url=checked_url(request.url, local=_local(who)))
        kind_of(camera.url)
        seen = await self._looking(camera)
        return manage_pb2.TestPictureReply(
            jpeg=seen.jpeg, width=seen.width, height=seen.height, codec=seen.codec, fps=seen.fps
        )

    async def _check_source(self, camera: Camera) -> None:
        """Raise unless its source answers, with what its settings allow."""
        if self._checking >= MOST_LOOKS:
            todo = "wait a moment and try again, or take the address unchecked"
            raise Overloaded("the addresses of other cameras are being checked", todo=todo)
        self._checking += 1
        try:
            checked(camera, (await self._looking(camera)).codec)
        finally:
            self._checking -= 1

    async def _kept(self, name: str, who: Caller) -> Kept:
        return await asyncio.to_thread(self._keeper.kept, name, who.scope)


def _local(who: Caller) -> bool:
    """Whether they may have files and devices of this machine opened, and so learn which there are."""
    try:
        who.check(Role.ADMIN)
    except Denied:
        return False
    return who.scope.whole


def _own(name: str, who: Caller) -> str:
    """A new camera's name. Who may see some cameras may name no others, whether they are there or not."""
    if not who.scope.allows(camera_name(name)):
        raise Denied("this token is for some cameras, and this is none of them", todo="ask for a token for all cameras")
    return name


def _check_groups(given: Mapping[str, Any], who: Caller) -> None:
    """Groups reach beyond one camera: who may see some cameras must not move them into the sight of others."""
    if "groups" in given and not who.scope.whole:
        raise Denied("this token is for some cameras, and groups are of all", todo="leave the groups as they are")
