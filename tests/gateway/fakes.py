"""A query service that answers from memory, and clients of a gateway on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx

from gateway.app import application
from gateway.settings import GatewaySettings
from proto.errors import WatchwordError
from proto.v1 import query_pb2

MOMENT = "0018f0a1b2c3d40123456789abcdef01"
JPEG = b"\xff\xd8 a picture \xff\xd9"


def a_reply() -> query_pb2.SearchReply:
    """An answer in which something is said in every field."""
    return query_pb2.SearchReply(
        hits=[
            query_pb2.Hit(
                moment_id=MOMENT,
                camera="gate",
                start_ms=1_700_000_000_000,
                peak_ms=1_700_000_000_500,
                end_ms=1_700_000_001_000,
                score=0.3,
                closed=True,
                frames=3,
                confidence=0.9,
                box=query_pb2.Box(left=0.25, top=0.5, right=0.5, bottom=0.75),
                at_ms=1_700_000_000_500,
                kind="person",
                objects=[query_pb2.ObjectCount(kind="person", count=2)],
                moments=1,
            )
        ],
        coverage=query_pb2.Coverage(
            partial=True,
            shards_missing=["m2"],
            shards_searched=1,
            buckets_searched=2,
            gaps=[query_pb2.Gap(camera="gate", start_ms=1, end_ms=2, frames=3, reason="shed")],
            gaps_in_all=1,
            frames_not_looked_at=3,
            watermarks=[query_pb2.Watermark(camera="gate", looked_ms=1_700_000_001_000)],
            unsearched=[query_pb2.Unsearched(shard="m2", start_ms=1, end_ms=2)],
            spaces_unsearched=["old"],
        ),
        timing=query_pb2.Timing(total_ms=1.5, embed_ms=0.5, index_ms=1.0, vector_cached=True),
        space="a space",
        threshold=0.5,
    )


class FakeQueries:
    """Answers every question alike. Notes what it was asked; raises `error` if there is one."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.reply = a_reply()
        self.error: Exception | None = None
        self.callers: list[str] = []
        """The tokens of those on whose behalf it was asked."""

    def on_behalf(self, token: str, client: str = "") -> FakeQueries:
        self.callers.append(token)
        return self

    def watching(self, mark: str) -> FakeQueries:
        return self

    async def search(self, **asked: Any) -> query_pb2.SearchReply:
        self._note(asked)
        return self.reply

    async def thumbnail(self, moment_id: str, at_ms: int = 0) -> query_pb2.ThumbnailReply:
        self._note({"moment_id": moment_id, "at_ms": at_ms})
        return query_pb2.ThumbnailReply(jpeg=JPEG, at_ms=at_ms)

    async def clip(self, **asked: Any) -> AsyncGenerator[query_pb2.ClipPart, None]:
        self._note(asked)
        yield query_pb2.ClipPart(head=query_pb2.ClipHead(camera="gate", start_ms=1, end_ms=2, bytes=10))
        for data in (b"0123", b"456", b"789"):
            yield query_pb2.ClipPart(data=data)

    async def known(self) -> query_pb2.CamerasReply:
        self._note({})
        status = query_pb2.CameraStatus(state="live", codec="h264", fps_got=1.9, advice=["ask for more"])
        return query_pb2.CamerasReply(
            cameras=[
                query_pb2.CameraInfo(name="gate", watching=True, groups=["yard"], status=status),
                query_pb2.CameraInfo(name="old"),
            ],
            kinds=["car", "person"],
        )

    async def serving(self, timeout_s: float) -> None:
        self._note({"timeout_s": timeout_s})

    def _note(self, asked: dict[str, Any]) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error


def client_of(queries: FakeQueries, settings: GatewaySettings | None = None, **more: Any) -> httpx.AsyncClient:
    """A client that calls the application without a network."""
    app = application(queries, settings or GatewaySettings(), "1.2.3", **{"console": Path("/nowhere"), **more})
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8701")


def away(kind: type[WatchwordError]) -> WatchwordError:
    return kind("it does not answer", todo="is it running?")
