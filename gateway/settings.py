"""Settings of the REST gateway."""

from __future__ import annotations

from pydantic import Field

from proto.tls import ServerTls


class GatewaySettings(ServerTls):
    """The REST gateway: JSON over HTTP for browsers and programs, and the console's files."""

    listen: str = "127.0.0.1:8701"
    """Where the gateway listens. The stack uses a free port if this default is taken."""
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
