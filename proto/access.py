"""Who calls, and what of which cameras they may see. Plain values and policy: no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pydantic import Field, SecretStr

from proto.errors import Denied
from proto.section import Section

THIS_MACHINE = "this machine"
TOKENS = "holders of a token"
TOKENS_IN_THE_CLEAR = "holders of a token, without TLS"
ANYONE = "anyone who reaches it may see every camera"


class AccessSettings(Section):
    """Who may ask: tokens, and what is noted of questions."""

    open_to: Literal[
        "this machine",
        "holders of a token",
        "holders of a token, without TLS",
        "anyone who reaches it may see every camera",
    ] = "this machine"
    """Who may ask the query service and the gateway. `this machine`: where they listen on loopback, whoever is on this
    machine, without a token; elsewhere, and for whoever brings one, the token counts, and TLS is needed. `holders of a
    token`: nobody without one. `holders of a token, without TLS`: likewise, and something before it encrypts. `anyone
    who reaches it may see every camera`: whoever brings no token may see everything."""
    token: SecretStr = SecretStr("")
    """The token of this machine's own commands, such as `watchword search`."""
    known_for_s: float = Field(600.0, ge=1, le=86_400)
    """While the catalog is away, tokens that are known go on counting for so long. Others are refused."""
    audit: Literal["folder", "log", "off"] = "folder"
    """Where it is noted who asked what: files in `data_dir`/audit, the log (for containers), or nowhere."""
    audit_bytes: int = Field(1_000_000_000, ge=1_000_000)
    """Most bytes of audit files; the oldest are removed."""


class Role(StrEnum):
    """What a caller may do. Each of the first three may do what those before it may."""

    VIEWER = "viewer"
    """Ask, and see what was found."""
    OPERATOR = "operator"
    """Also change cameras."""
    ADMIN = "admin"
    """Also manage tokens, erase, read the audit, and add cameras that are files or devices of the machine."""
    INGEST = "ingest"
    """Send pictures, and see nothing."""


_MAY: dict[Role, frozenset[Role]] = {
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.VIEWER, Role.OPERATOR}),
    Role.ADMIN: frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN}),
    Role.INGEST: frozenset({Role.INGEST}),
}


@dataclass(frozen=True, slots=True)
class Scope:
    """The cameras that may be seen. None: all, also those that come later."""

    cameras: frozenset[str] | None = None

    @property
    def whole(self) -> bool:
        """Whether every camera may be seen."""
        return self.cameras is None

    def allows(self, camera: str) -> bool:
        return self.cameras is None or camera in self.cameras

    def of(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the names that may be seen."""
        return frozenset(name for name in names if self.allows(name))

    def narrowed(self, wanted: Collection[str]) -> frozenset[str] | None:
        """What to ask for when these cameras are wanted (empty: all). None is every camera, an empty set none."""
        return self.of(wanted) if wanted else self.cameras


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str
    role: Role
    scope: Scope = field(default=EVERYTHING)
    token: str = ""
    """The id of the token; empty without one."""

    def check(self, needed: Role) -> None:
        """Raise Denied unless the role may do what `needed` may."""
        if needed not in _MAY[self.role]:
            raise Denied(f"a token of role {self.role} may not do this", todo=f"use a token of role {needed} or more")


NOBODY_ASKED = Caller("anonymous", Role.ADMIN)
"""Whoever calls where no token is needed, and only this machine can call."""


def nobody_asked(open_to: str, *, named: bool) -> Caller:
    """Whoever calls without a token where none is needed. `named`: whether the gateway is known by other names than
    this machine's own: then something passes the calls of others on to it, and they may see, and change nothing."""
    return NOBODY_ASKED if open_to == THIS_MACHINE and not named else Caller("anonymous", Role.VIEWER)


def is_loopback(listen: str) -> bool:
    """Whether HOST:PORT is reachable from this machine only."""
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def needs_token(open_to: str, listen: str) -> bool:
    """Whether a server that listens there refuses callers without a token."""
    match open_to:
        case "anyone who reaches it may see every camera":
            return False
        case "this machine":
            return not is_loopback(listen)
        case _:
            return True


def why_refused(setting: str, listen: str, open_to: str, *, encrypted: bool) -> str | None:
    """Why a server may not listen there, or None. `setting` is its section's name."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        return f"{setting}.listen = {listen!r} is not HOST:PORT"
    if is_loopback(listen) or encrypted or open_to in (TOKENS_IN_THE_CLEAR, ANYONE):
        return None
    return (
        f"{setting}.listen = {listen!r} can be reached from other machines without TLS: listen on 127.0.0.1, or set "
        f"{setting}.certificate and {setting}.key, or say that it is meant so: access.open_to = "
        f"{TOKENS_IN_THE_CLEAR!r} or {ANYONE!r}"
    )
