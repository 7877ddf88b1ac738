"""The gateway on real sockets, before a real query service."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from gateway.app import application
from gateway.serving import GatewayServer, serve_gateway
from gateway.settings import GatewaySettings
from index.memory import MemoryStore
from proto.errors import Broken
from proto.v1 import query_pb2
from query.client import QueryClient
from query.service import serve_query
from query.settings import QuerySettings
from tests.contracts.moments import SPACE
from tests.contracts.moments import until as until_within
from tests.gateway.fakes import FakeQueries
from tests.query.fakes import MOMENTS, WordEncoder, searcher

ANY = "127.0.0.1:0"
LINE = b"GET /api/v1/health HTTP/1.1\r\nhost: 127.0.0.1\r\n"


async def until(condition: Callable[[], bool]) -> None:
    await until_within(condition, within_s=60.0)


@asynccontextmanager
async def gateway(queries: Any = None, **settings: Any) -> AsyncIterator[GatewayServer]:
    given = GatewaySettings(listen=ANY, **settings)
    server = await serve_gateway(application(queries or FakeQueries(), given, "1.2.3"), given, grace_s=1)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connected(server: GatewayServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answered(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the next answer."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends the connection without a word."""
    try:
        return await asyncio.wait_for(reader.read(), 10) == b""
    except ConnectionResetError:
        return True


async def test_questions_pictures_and_cameras_of_a_real_query_service(tmp_path: Path) -> None:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    Thumbnails(FolderObjects(tmp_path / "thumbnails")).put(MOMENTS[0].id, b"a picture")
    service = await serve_query(searcher(store, tmp_path, encoder=WordEncoder()), QuerySettings(), ANY)
    async with (
        QueryClient(service.address, 10.0) as queries,
        gateway(queries) as server,
        aiohttp.ClientSession(f"http://{server.address}") as session,
    ):

        async def got(path: str, **params: Any) -> tuple[int, Any]:
            async with session.get(path, params=params) as answer:
                return answer.status, await answer.json()

        status, found = await got("/api/v1/search", q="red truck gate", limit=2)
        assert (status, [hit["moment_id"] for hit in found["hits"]]) == (200, [MOMENTS[0].id, MOMENTS[2].id])
        assert found["space"] == SPACE.id
        _, like = await got("/api/v1/search", like=MOMENTS[0].id)
        assert like["hits"][0]["moment_id"] == MOMENTS[2].id
        form = {"content-type": "image/jpeg"}
        async with session.post("/api/v1/search?limit=1", data=b"jpeg:bicycle night", headers=form) as answer:
            assert [hit["moment_id"] for hit in (await answer.json())["hits"]] == [MOMENTS[3].id]
        async with session.get(f"/api/v1/moments/{MOMENTS[0].id}/picture?at_ms=5") as picture:
            assert (await picture.read(), picture.headers["x-watchword-at-ms"]) == (b"a picture", "0")
        _, cameras = await got("/api/v1/cameras")
        assert [camera["name"] for camera in cameras["cameras"]] == ["dock", "gate", "gate-2"]
        assert await got("/api/v1/health") == (200, {"ready": True, "version": "1.2.3"})

        status, problem = await got("/api/v1/search", q="dog", camera="gaet")
        assert (status, problem["title"]) == (404, "Unknown")
        assert "gate" in problem["todo"]
        status, problem = await got("/api/v1/moments/nonsense/picture")
        assert (status, "32 hex digits" in problem["detail"] + problem["todo"]) == (400, True)
        status, problem = await got("/api/v1/search", q="dog", limit=5_000_000_000)
        assert (status, problem["title"]) == (400, "Invalid")

        await service.stop(0)
        status, problem = await got("/api/v1/search", q="dog")
        assert (status, problem["title"]) == (503, "Transient")
        _, health = await got("/api/v1/health")
        assert (health["ready"], "is it running?" in health["todo"]) == (False, True)


async def test_a_taken_port_is_broken_in_a_clear_sentence() -> None:
    async with gateway() as server:
        with pytest.raises(Broken, match="cannot listen"):
            await serve_gateway(
                application(FakeQueries(), GatewaySettings(), ""), GatewaySettings(listen=server.address), grace_s=0
            )


async def test_what_is_no_http_is_told_so_as_a_problem() -> None:
    async with gateway(max_header_bytes=1024) as server:
        for sent, status, reason in (
            (b"\x16\x03\x01 hello\r\n\r\n", 400, "not_http"),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "not_http"),
            (LINE + b"content-length: -1\r\n\r\n", 400, "not_http"),
            (LINE + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 200, None),
            (LINE + b"x: " + 100_000 * b"x", 431, "head_too_large"),
        ):
            async with connected(server) as (reader, writer):
                writer.write(sent)
                got, body = await answered(reader)
                assert (got, body.get("reason")) == (status, reason), sent[:40]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (LINE, None),
        (LINE + b"\r\n" + LINE, 200),
        (b"POST /api/v1/nothing HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n", 404),
    ],
    ids=["nothing", "half a head", "half a second head", "no body"],
)
async def test_a_client_that_never_ends_its_request_is_cut_off(sent: bytes, status: int | None) -> None:
    async with gateway(head_s=0.4) as server, connected(server) as (reader, writer):
        writer.write(sent)
        if status is not None:
            assert (await answered(reader))[0] == status
        assert await closed(reader)


async def test_a_client_that_reads_nothing_is_cut_off() -> None:
    class Large(FakeQueries):
        async def thumbnail(self, moment_id: str, at_ms: int = 0) -> query_pb2.ThumbnailReply:
            return query_pb2.ThumbnailReply(jpeg=bytes(16 * 1024**2))

    async with gateway(Large(), stalled_s=0.05) as server, connected(server) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /api/v1/moments/a/picture HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await until(lambda: server.connections == 0)


async def test_connections_beyond_the_bound_are_closed_and_the_others_are_served() -> None:
    async with gateway(max_connections=2) as server, connected(server) as (one, writer), connected(server):
        await until(lambda: server.connections == 2)
        async with connected(server) as (third, _):
            assert await closed(third)
        writer.write(LINE + b"\r\n")
        assert (await answered(one))[0] == 200


async def test_a_question_whose_asker_went_away_is_given_up() -> None:
    given_up: list[str] = []

    class Slow(FakeQueries):
        async def search(self, **asked: Any) -> query_pb2.SearchReply:
            self.asked.append(asked)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                given_up.append(asked["text"])
                raise
            return self.reply

    queries = Slow()
    async with gateway(queries, max_concurrent=2) as server:
        for n in range(4):
            async with connected(server) as (_, writer):
                writer.write(f"GET /api/v1/search?q={n} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
                await until(lambda n=n: len(queries.asked) == n + 1)  # type: ignore[misc]
                writer.transport.abort()
            await until(lambda n=n: len(given_up) == n + 1)  # type: ignore[misc]


async def test_a_request_in_progress_is_finished_before_the_gateway_ends() -> None:
    go = asyncio.Event()

    class Slow(FakeQueries):
        async def search(self, **asked: Any) -> query_pb2.SearchReply:
            self.asked.append(asked)
            await go.wait()
            return self.reply

    queries = Slow()
    async with gateway(queries) as server, connected(server) as (reader, writer):
        writer.write(b"GET /api/v1/search?q=a HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await until(lambda: bool(queries.asked))
        stopping = asyncio.create_task(server.stop())
        await until(lambda: not server.listens)
        go.set()
        assert (await answered(reader))[0] == 200
        await stopping


async def test_a_request_that_does_not_end_is_cut_off_after_the_grace() -> None:
    class Hanging(FakeQueries):
        async def search(self, **asked: Any) -> query_pb2.SearchReply:
            self.asked.append(asked)
            await asyncio.Event().wait()
            return self.reply

    queries = Hanging()
    async with gateway(queries) as server, connected(server) as (reader, writer):
        writer.write(b"GET /api/v1/search?q=a HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await until(lambda: bool(queries.asked))
        await server.stop()
        assert await closed(reader) or not server.connections
