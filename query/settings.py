"""Settings of the query service and its cache."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from proto.section import Section
from proto.tls import ClientTls, ServerTls


class QuerySettings(ServerTls, ClientTls):
    """The query service."""

    address: str = ""
    """HOST:PORT of the query service that `watchword search` calls. Empty: the one of the stack on `data_dir`."""
    listen: str = "127.0.0.1:8700"
    """Where the query service listens. The stack uses a free port if this default is taken."""
    max_text: int = Field(2000, ge=1, le=100_000)
    """Longest question, in characters."""
    max_limit: int = Field(1000, ge=1, le=3_000)
    """Most hits one search may ask for. Milvus gives at most 16,384 rows, and a moment has up to five."""
    promised_s: float = Field(0.5, gt=0, le=600)
    """A search that is expected to take longer is refused immediately, unless fewer than four are under way. What is
    expected follows from the searches answered lately. Higher: fewer refusals in bursts, and slower answers in them."""
    max_concurrent: int = Field(256, ge=1)
    """Most concurrent searches, however fast they are, and most concurrent calls of all other kinds."""
    timeout_s: float = Field(10.0, gt=0, le=600)
    """The server's own deadline for one search, whatever the client's."""
    behind_s: float = Field(30.0, gt=0, le=86_400)
    """If the latest picture looked at of a live camera is older than this, the time since then counts as not looked at
    and the answer is partial. Keep it well above camera.heartbeat_s, the pace of pictures of a still scene."""
    relevance: Literal["score", "confidence"] = "score"
    """What "best first" means: the nearest by cosine, or the surest."""
    most_duplicates: int = Field(3, ge=1, le=10_000)
    """Most hits of one camera in one answer that look the same. Callers who ask for all moments get all."""
    max_clip_s: float = Field(3600.0, gt=0, le=86_400)
    """Longest clip, in seconds. A clip is sent piece by piece, so it takes no memory here."""
    explain: bool = False
    """Send with each answer what its confidences were computed from, as trailing metadata: for calibrating a bundle."""


class RedisSettings(Section):
    """The cache. It is optional; without it searches are slower."""

    url: SecretStr = SecretStr("")
    """redis://[user:password@]host:port/db. Empty: the stack starts its own."""
    timeout_s: float = Field(0.05, gt=0, le=10)
    """A cache slower than this is bypassed."""
    vector_ttl_s: int = Field(86_400, ge=1)
    """How long the vector of a text is kept."""
