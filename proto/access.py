"""Who calls, and what of which cameras they may see. Plain values and policy: no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    rate: float = Field(100.0, ge=0, le=100_000)
    """Calls a second that each token may make, on average, at each query process. Further ones are refused, and told
    when to come again. 0: no limit. Whoever brings no token has none."""
    rate_burst: int = Field(1000, ge=1, le=1_000_000)
    """Calls that it may make at once: a page of results asks for many pictures."""
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

    def may(self, needed: Role) -> bool:
        """Whether the role may do what `needed` may."""
        return needed in _MAY[self.role]

    def check(self, needed: Role) -> None:
        """Raise Denied unless the role may do what `needed` may."""
        if not self.may(needed):
            raise Denied(f"a token of role {self.role} may not do this", todo=f"use a token of role {needed} or more")


Members = Mapping[str, frozenset[str]]
"""The cameras of each group, as they are now."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token or a group of people was given: a role, for some cameras or all."""

    role: Role
    cameras: frozenset[str] | None = None
    """Named one by one. None: all, also those that come later, unless there are groups."""
    groups: frozenset[str] = frozenset()
    """And the cameras that are in any of these groups at the time of the call."""

    def scope(self, members: Members) -> Scope:
        """The cameras now: those that are named together with the members of the groups."""
        if self.cameras is None and not self.groups:
            return EVERYTHING
        return Scope((self.cameras or frozenset()).union(*(members.get(name, ()) for name in self.groups)))


def together(grants: Sequence[Grant], members: Members) -> tuple[Role, Scope]:
    """The role and the scope of whoever has all these grants, at least one.

    The cameras are those of all grants together. The role is the highest that some grants give for each of these
    cameras: a viewer of all cameras who is an operator of one is a viewer of all, so that nobody gets a role for a
    camera for which it was not given.
    """
    seeing = [grant for grant in grants if Role.VIEWER in _MAY[grant.role]]
    if not seeing:
        return grants[0].role, grants[0].scope(members)
    whole = _union(seeing, members)
    for role in (Role.ADMIN, Role.OPERATOR):
        able = [grant for grant in seeing if role in _MAY[grant.role]]
        if able and _union(able, members) == whole:
            return role, whole
    return Role.VIEWER, whole


def _union(grants: Sequence[Grant], members: Members) -> Scope:
    scopes = [grant.scope(members).cameras for grant in grants]
    known = [cameras for cameras in scopes if cameras is not None]
    return EVERYTHING if len(known) < len(scopes) else Scope(frozenset().union(*known))


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
