"""Settings of the REST gateway."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field

from proto.section import Section

ANYONE = "anyone who reaches it may see every camera"


class GatewaySettings(Section):
    """The REST gateway: JSON over HTTP for browsers and programs, and the console's files."""

    listen: str = "127.0.0.1:8701"
    """Where the gateway listens. The stack uses a free port if this default is taken."""
    open_to: Literal["this machine", "anyone who reaches it may see every camera"] = "this machine"
    """The gateway has no login yet, so it listens on loopback only. To listen elsewhere, behind a proxy with a login or
    in a container, set this to the sentence `anyone who reaches it may see every camera`."""
    hosts: tuple[str, ...] = ()
    """Names by which it may be asked, besides this machine's own, such as `watchword.example.org`. On loopback any
    other name is refused, so that no web page can reach it through a name of its own (DNS rebinding)."""
    origins: tuple[str, ...] = ()
    """Web pages of these origins, such as `https://wall.example.org`, may ask from a browser (CORS). Empty: none but
    the console."""
    mcp: bool = True
    """Serve assistants at /mcp (Model Context Protocol)."""
    timeout_s: float = Field(10.0, gt=0, le=600)
    """Deadline of one call to the query service."""
    max_concurrent: int = Field(256, ge=1)
    """Concurrent requests. Further ones are refused immediately with status 429."""
    max_connections: int = Field(2048, ge=1)
    """Open connections. Further ones are closed at once."""
    max_header_bytes: int = Field(16 * 1024, ge=1024, le=1024 * 1024)
    """Longest request line and headers together."""
    head_s: float = Field(10.0, gt=0, le=600)
    """A connection that sends no whole request head within this is closed."""
    body_s: float = Field(20.0, gt=0, le=600)
    """The body of a request must arrive within this."""
    stalled_s: float = Field(20.0, gt=0, le=600)
    """A connection whose client reads nothing of its answer for this long is closed."""


def is_loopback(listen: str) -> bool:
    """Whether HOST:PORT is reachable from this machine only."""
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def why_refused(settings: GatewaySettings) -> str | None:
    """Why the gateway may not listen there, or None."""
    host, _, port = settings.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        return f"gateway.listen = {settings.listen!r} is not HOST:PORT"
    if is_loopback(settings.listen) or settings.open_to == ANYONE:
        return None
    return (
        f"gateway.listen = {settings.listen!r} can be reached from other machines, and the gateway has no login yet; "
        f"listen on 127.0.0.1, or say so: gateway.open_to = {ANYONE!r}"
    )
