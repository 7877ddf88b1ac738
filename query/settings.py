"""Settings of the query service and its cache."""

from __future__ import annotations

from pydantic import Field, SecretStr

from proto.section import Section


class QuerySettings(Section):
    """The query service."""

    address: str = ""
    """HOST:PORT of the query service that `watchword search` asks. Empty: that of the stack on `data_dir`."""
    listen: str = "127.0.0.1:8700"
    """Where the query service listens. The stack takes a free port where this default is taken."""
    max_text: int = Field(2000, ge=1, le=100_000)
    """Longest question, in characters."""
    max_limit: int = Field(1000, ge=1, le=10_000)
    """Most hits one search may ask for."""
    max_concurrent: int = Field(256, ge=1)
    """Searches under way at once; beyond it callers are refused at once."""
    timeout_s: float = Field(10.0, gt=0, le=600)
    """The server's own deadline for one search, whatever the client's."""
    behind_s: float = Field(30.0, gt=0, le=86_400)
    """A live camera whose latest looked-at picture is older counts as not looked at since then, and the answer is
    partial. Keep it well above camera.heartbeat_s: of a scene that stands still no other pictures come."""


class RedisSettings(Section):
    """The cache. Without it everything works, slower."""

    url: SecretStr = SecretStr("")
    """redis://[user:password@]host:port/db. Empty: the stack starts its own."""
    timeout_s: float = Field(0.05, gt=0, le=10)
    """A cache slower than this is passed by."""
    vector_ttl_s: int = Field(86_400, ge=1)
    """How long the vector of a text is kept."""
