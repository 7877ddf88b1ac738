"""Clips over HTTP, with byte ranges, so that a player can jump."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.problems import Refused
from proto.errors import Transient
from proto.v1 import query_pb2

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def clip_response(request: Request, parts: AsyncGenerator[query_pb2.ClipPart, None]) -> Response:
    """The clip, or the asked range of its bytes. The head comes before anything is answered, so errors are told."""
    try:
        head = await _head(parts)
        etag = f'"{sha256(head.SerializeToString(deterministic=True)).hexdigest()[:32]}"'
        headers = {"etag": etag, "accept-ranges": "bytes", "cache-control": "private, no-cache"}
        if request.headers.get("if-none-match", "") == etag:
            await parts.aclose()
            return Response(status_code=304, headers=headers)
        wanted = request.headers.get("range", "")
        if request.headers.get("if-range", etag) != etag:
            wanted = ""
        span = span_of(wanted, head.bytes)
    except BaseException:
        await parts.aclose()
        raise
    # Some players go on only after a 206, also where they asked for everything.
    status, (first, end) = (200, (0, head.bytes)) if span is None else (206, span)
    if span is not None:
        headers["content-range"] = f"bytes {first}-{end - 1}/{head.bytes}"
    headers["content-length"] = str(end - first)
    if request.method == "HEAD":
        await parts.aclose()
        return Response(status_code=status, headers=headers, media_type="video/mp4")
    body = _bytes(parts, first, end)
    return StreamingResponse(body, status, headers=headers, media_type="video/mp4")


def span_of(asked: str, size: int) -> tuple[int, int] | None:
    """The bytes [first, end) that a Range header asks for. Several ranges, or what is none, give None."""
    found = _RANGE.fullmatch(asked.strip())
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        first, end = max(0, size - int(found[2])), size
    else:
        first, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
    if found[1] and found[2] and int(found[2]) < first:
        return None
    if first >= size or first >= end:
        raise Refused(416, "range", f"the clip has {size} bytes", todo="ask for a range inside it")
    return first, end


async def _head(parts: AsyncIterator[query_pb2.ClipPart]) -> query_pb2.ClipHead:
    async for part in parts:
        return part.head
    raise Transient("the clip ended before it began", todo="try again")


async def _bytes(parts: AsyncGenerator[query_pb2.ClipPart, None], first: int, end: int) -> AsyncIterator[bytes]:
    at = 0
    async with aclosing(parts):
        async for part in parts:
            data = part.data[max(0, first - at) : max(0, end - at)]
            at += len(part.data)
            if data:
                yield data
            if at >= end:
                return
