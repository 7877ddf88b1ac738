"""Clips over HTTP: ranges, tags, errors."""

from __future__ import annotations

import pytest

from proto.errors import Unknown
from tests.gateway.fakes import FakeQueries, away, client_of
from tests.gateway.test_api import assert_problem

CLIP = "/api/v1/clip?camera=gate&start_ms=1&end_ms=2"


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("", 200, "0123456789", None),
        ("bytes=0-", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=2-7", 206, "234567", "bytes 2-7/10"),
        ("bytes=4-4", 206, "4", "bytes 4-4/10"),
        ("bytes=8-100", 206, "89", "bytes 8-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=-300", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=0-1,3-4", 200, "0123456789", None),
        ("bytes=7-2", 200, "0123456789", None),
        ("lines=1-2", 200, "0123456789", None),
        ("bytes=-", 200, "0123456789", None),
    ],
)
async def test_a_range_of_a_clip(asked: str, status: int, body: str, content_range: str | None) -> None:
    queries = FakeQueries()
    async with client_of(queries) as client:
        answer = await client.get(CLIP, headers={"range": asked} if asked else {})
    assert (answer.status_code, answer.text) == (status, body)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers.get("content-range") == content_range
    assert queries.asked == [{"camera": "gate", "start_ms": 1, "end_ms": 2, "moment_id": ""}]


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99999999999999999-", "bytes=-0"])
async def test_a_range_outside_of_the_clip_is_refused(asked: str) -> None:
    async with client_of(FakeQueries()) as client:
        assert_problem(await client.get(CLIP, headers={"range": asked}), 416, reason="range")


async def test_a_clip_is_known_by_its_tag() -> None:
    async with client_of(FakeQueries()) as client:
        tag = (await client.get(CLIP)).headers["etag"]
        assert (await client.get(CLIP, headers={"if-none-match": tag})).status_code == 304
        assert (await client.get(CLIP, headers={"range": "bytes=1-2", "if-range": tag})).status_code == 206
        assert (await client.get(CLIP, headers={"range": "bytes=1-2", "if-range": '"other"'})).status_code == 200


async def test_the_head_alone_reads_no_video() -> None:
    async with client_of(FakeQueries()) as client:
        answer = await client.head(CLIP)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "10", b"")


async def test_what_is_not_recorded_is_a_problem() -> None:
    queries = FakeQueries()
    queries.error = away(Unknown)
    async with client_of(queries) as client:
        assert_problem(await client.get(CLIP), 404, "Unknown")
