"""Tokens, the audit, what is stored, erasures: what commands do on the catalog, for callers over the network."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from catalog.audit import verify
from catalog.audit_tail import MOST, latest
from catalog.cameras import CameraRegistry, unknown_camera, unknown_group
from catalog.life import Life
from catalog.store import Catalog
from catalog.tokens import Token, TokenRegistry
from proto.access import Caller, Role
from proto.errors import Denied, Invalid, Unknown
from proto.life import DAY_MS, Erasure, Stretch
from proto.types import Camera, now_ms
from proto.v1 import manage_pb2

_USUAL_LINES = 100
_MOST_DAYS = 36_500
_COUNTED_FOR_S = 10.0


@dataclass(frozen=True)
class Surroundings:
    """What the front door knows and the catalog does not."""

    audit: Path | None = None
    """The audit's folder; None where it goes elsewhere."""
    storage: Callable[[], Awaitable[Mapping[str, Any]]] | None = None
    """What the index holds, as `life.status.status_of` tells it, and the disk's `free` and `total` bytes."""
    receipt: Callable[[Erasure], str] | None = None
    """The signed receipt of an erasure. Blocks."""
    demo: Mapping[str, Path] = field(default_factory=dict)
    """The demo's clips by name; empty where they are not installed."""


class Desk:
    """Answers for admins, and for operators what is stored. The catalog is asked in threads."""

    def __init__(self, catalog: Catalog, around: Surroundings) -> None:
        self._registry = CameraRegistry(catalog)
        self._tokens = TokenRegistry(catalog)
        self._life = Life(catalog)
        self._around = around
        self._verifying, self._counting = asyncio.Lock(), asyncio.Lock()
        self._stored: tuple[float, manage_pb2.StorageReply] | None = None

    def demo(self, who: Caller) -> list[str]:
        """The clips that this caller could add."""
        return sorted(self._around.demo) if who.role == Role.ADMIN and who.scope.whole else []

    async def storage(self, _: manage_pb2.StorageRequest, who: Caller) -> manage_pb2.StorageReply:
        _whole(who, Role.OPERATOR)
        if self._around.storage is None:
            raise Unknown("what is stored is not known here", todo="`watchword index status` shows it")
        async with self._counting:  # it asks every bucket
            if self._stored is None or time.monotonic() - self._stored[0] > _COUNTED_FOR_S:
                self._stored = time.monotonic(), _storage(await self._around.storage())
            return self._stored[1]

    async def tokens(self, _: manage_pb2.TokensRequest, who: Caller) -> manage_pb2.TokensReply:
        _whole(who, Role.ADMIN)
        return manage_pb2.TokensReply(tokens=map(_token, await asyncio.to_thread(self._tokens.all)))

    async def create(self, request: manage_pb2.CreateTokenRequest, who: Caller) -> manage_pb2.CreatedToken:
        _whole(who, Role.ADMIN)
        if request.role not in list(Role):
            raise Invalid(f"there is no role {request.role[:40]!r}", todo=f"give one of {', '.join(Role)}")
        if not 0 <= request.days <= _MOST_DAYS:  # also refuses NaN
            raise Invalid(f"a token cannot last {request.days:g} days", todo="give 0 for no end, or how many")
        known = await asyncio.to_thread(self._registry.all)
        names, groups = frozenset(one.name for one in known), {group for one in known for group in one.groups}
        for camera in request.cameras:
            if camera not in names:
                raise unknown_camera(camera, names)
        for group in request.groups:
            if group not in groups:
                raise unknown_group(group, groups)
        now = now_ms()
        ends = now + round(request.days * DAY_MS) if request.days else None
        cameras = tuple(dict.fromkeys(request.cameras)) or None
        token, secret = await asyncio.to_thread(
            partial(self._tokens.create, groups=tuple(sorted(set(request.groups)))),
            *(request.name, Role(request.role), cameras, now, ends),
        )
        return manage_pb2.CreatedToken(token=_token(token), secret=secret)

    async def revoke(self, request: manage_pb2.RevokeTokenRequest, who: Caller) -> manage_pb2.TokenInfo:
        _whole(who, Role.ADMIN)
        if request.id and request.id == who.token:
            raise Invalid("this is the token that you call with", todo="revoke it with another one")
        return _token(await asyncio.to_thread(self._tokens.revoke, request.id, now_ms()))

    async def audit(self, request: manage_pb2.AuditRequest, who: Caller) -> manage_pb2.AuditReply:
        _whole(who, Role.ADMIN)
        folder = self._around.audit
        if folder is None:
            raise Unknown("the audit is not kept here", todo="access.audit says where it goes: the log, or nowhere")
        lines = await asyncio.to_thread(latest, folder, min(request.count or _USUAL_LINES, MOST))
        reply = manage_pb2.AuditReply(lines=[json.dumps(one, ensure_ascii=False) for one in lines])
        if request.verify:
            async with self._verifying:  # it reads all files
                for one in await asyncio.to_thread(verify, folder):
                    reply.chains.add(name=one.name, lines=one.lines, head=one.head, trouble=one.trouble)
        return reply

    async def add_demo(self, _: manage_pb2.AddDemoRequest, who: Caller) -> manage_pb2.Done:
        _whole(who, Role.ADMIN)
        if not self._around.demo:
            raise Unknown("the demo's clips are not installed here", todo="pip install 'watchword[demo]'")
        clips = [Camera(name=name, url=str(path), loop=True) for name, path in self._around.demo.items()]
        await asyncio.to_thread(self._registry.add_missing, clips)
        return manage_pb2.Done()

    async def erase(self, request: manage_pb2.EraseRequest, who: Caller) -> manage_pb2.ErasureInfo:
        who.check(Role.ADMIN)
        visible = who.scope.of(await asyncio.to_thread(self._registry.names))
        if request.camera not in visible:
            raise unknown_camera(request.camera, visible)
        now = now_ms()
        end_ms = request.end_ms or now
        if not 0 <= request.start_ms < end_ms:
            raise Invalid("the time does not end after it begins", todo="give start_ms before end_ms")
        if end_ms > now:
            raise Invalid("the time ends in the future", todo="erase what is there now, and later again")
        stretch = Stretch(request.camera, request.start_ms, end_ms)
        return _erasure(await asyncio.to_thread(self._life.erase, stretch, now, reason=request.reason))

    async def erasures(self, _: manage_pb2.ErasuresRequest, who: Caller) -> manage_pb2.ErasuresReply:
        who.check(Role.ADMIN)
        found = (await asyncio.to_thread(self._life.rules)).erasures
        return manage_pb2.ErasuresReply(
            erasures=[_erasure(one) for one in reversed(found) if who.scope.allows(one.stretch.camera)]
        )

    async def receipt(self, request: manage_pb2.ReceiptRequest, who: Caller) -> manage_pb2.ReceiptReply:
        who.check(Role.ADMIN)
        number = min(request.number, 2**62)
        erasure = await asyncio.to_thread(self._life.erasure, number)
        if not who.scope.allows(erasure.stretch.camera):
            raise Unknown(f"there is no erasure {number}", todo="`watchword erase --list` shows them")
        if self._around.receipt is None:
            raise Unknown("receipts are not signed here", todo=f"`watchword erase --receipt {number}` writes it")
        return manage_pb2.ReceiptReply(json=await asyncio.to_thread(self._around.receipt, erasure))


def _whole(who: Caller, role: Role) -> None:
    """What is of all cameras is for those who may see all."""
    who.check(role)
    if not who.scope.whole:
        raise Denied("this is of all cameras, and the token is for some", todo="use a token for all cameras")


def _storage(told: Mapping[str, Any]) -> manage_pb2.StorageReply:
    return manage_pb2.StorageReply(
        moments=told["moments"],
        buckets=len(told["buckets"]),
        gone=told["gone"],
        gone_tomorrow=told["gone_tomorrow"],
        disk_free_bytes=told["free"],
        disk_bytes=told["total"],
        cameras=[
            manage_pb2.StoredCamera(
                camera=one["camera"],
                oldest_ms=one["oldest_ms"] or 0,
                days=one["days"] or 0,
                bytes=one["bytes"] or 0,
                bytes_days=one["bytes_days"] or 0,
                held_below=one["held_below"],
            )
            for one in told["cameras"]
        ],
        missing=list(told["missing"]),
    )


def _token(token: Token) -> manage_pb2.TokenInfo:
    return manage_pb2.TokenInfo(
        id=token.id,
        name=token.name,
        role=token.role,
        cameras=token.cameras or (),
        groups=token.groups,
        every_camera=token.cameras is None,
        created_ms=token.created_ms,
        expires_ms=token.expires_ms or 0,
        revoked_ms=token.revoked_ms or 0,
        used_ms=token.used_ms,
        counts=token.counts(now_ms()),
    )


def _erasure(one: Erasure) -> manage_pb2.ErasureInfo:
    stretch = one.stretch
    return manage_pb2.ErasureInfo(
        number=one.number,
        camera=stretch.camera,
        start_ms=stretch.start_ms,
        end_ms=stretch.end_ms,
        reason=one.reason,
        asked_ms=one.asked_ms,
        done_ms=one.done_ms,
    )
