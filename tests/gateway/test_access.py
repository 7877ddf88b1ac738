"""Who may see what: real tokens in a real catalog, over real gRPC, HTTP and MCP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage, Gap, Reason
from catalog.known import KnownStatuses
from catalog.known_tokens import KnownTokens
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from catalog.statuses import CameraStatus, Statuses
from catalog.tokens import TokenRegistry
from gateway.app import application
from gateway.assistant import Assistant
from gateway.login import Login
from gateway.serving import serve_gateway
from gateway.settings import GatewaySettings
from identity.checking import Checker
from identity.settings import OidcSettings
from index.memory import MemoryStore
from proto.access import Role, needs_token
from proto.errors import Denied, Overloaded, Transient, Unauthenticated, Unknown, WatchwordError
from proto.rates import Rates
from proto.types import now_ms
from proto.v1 import query_pb2, query_pb2_grpc
from query.callers import TokenCallers
from query.client import QueryClient
from query.service import serve_query
from query.settings import QuerySettings
from tests.contracts.moments import NOON, SPACE
from tests.query.fakes import MOMENTS, WordEncoder, catalog_in, registry, searcher

ANY = "127.0.0.1:0"
GATE, DOCK = MOMENTS[0].id, MOMENTS[2].id
NOWHERE = "f" * 32


@dataclass
class House:
    """A query service and a gateway, where nobody asks without a token."""

    tokens: TokenRegistry
    grpc_at: str
    http_at: str
    noted: list[dict[str, Any]]
    callers: TokenCallers
    secrets: dict[str, str] = field(default_factory=dict)

    def token(self, name: str, role: Role = Role.VIEWER, cameras: tuple[str, ...] | None = None, **more: Any) -> str:
        if name not in self.secrets:
            _, self.secrets[name] = self.tokens.create(name, role, cameras, now_ms(), **more)
        return self.secrets[name]


@asynccontextmanager
async def running(
    folder: Path,
    *,
    needed: bool = True,
    oidc: OidcSettings | None = None,
    listen: str = ANY,
    rates: Rates | None = None,
) -> AsyncIterator[House]:
    """The service and the gateway, with tokens of the issuer and a login if there is one."""
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    pictures = Thumbnails(FolderObjects(folder / "thumbnails"))
    for one in MOMENTS:
        pictures.put(one.id, one.camera.encode())
    catalog = catalog_in(folder)
    Coverage(catalog).declare([Gap(name, Reason.AWAY, NOON, NOON + 1000) for name in ("dock", "gate", "gate-2")])
    tokens = TokenRegistry(catalog)
    async with AsyncExitStack() as closing:
        known = KnownTokens(TokenRegistry(catalog), 600, cameras=CameraRegistry(catalog))
        people = await _checker(closing, oidc) if oidc else None
        callers = TokenCallers(known, needed=needed, people=people, rates=rates)
        await callers.start()
        closing.push_async_callback(callers.stop)
        noted: list[dict[str, Any]] = []
        service = await serve_query(
            searcher(store, folder, encoder=WordEncoder(), cameras=registry(folder)),
            QuerySettings(),
            ANY,
            callers=callers,
            note=lambda entry: noted.append(dict(entry)),
            statuses=KnownStatuses(Statuses(catalog)),
        )
        closing.push_async_callback(service.stop, 0)
        client = await closing.enter_async_context(QueryClient(service.address, 10.0))
        assistant = Assistant(client, "1.2.3", needs_token=needed)
        await closing.enter_async_context(assistant.running())
        given = GatewaySettings(listen=listen)
        around = None
        if oidc is not None:
            around = partial(Login, issuers=await _checker(closing, oidc), settings=oidc, needs_token=needed)
        app = application(client, given, "1.2.3", assistant=assistant, needs_token=needed, around=around)
        server = await serve_gateway(app, given, grace_s=1)
        closing.push_async_callback(server.stop)
        yield House(tokens, service.address, f"http://{server.address}", noted, callers)


async def _checker(closing: AsyncExitStack, oidc: OidcSettings) -> Checker:
    """Each process has one of its own."""
    checker = Checker(oidc)
    closing.push_async_callback(checker.close)
    return checker


def paths(camera: str, moment: str) -> Iterator[str]:
    """Every way to ask for this camera or moment over HTTP."""
    yield f"search?q=dog&camera={camera}"
    yield f"search?like={moment}"
    yield f"moments/{moment}/picture"
    yield f"moments/{moment}/picture?at_ms={NOON}"
    yield f"clip?camera={camera}&start_ms={NOON}&end_ms={NOON + 1}"
    yield f"clip?moment_id={moment}"


async def got(session: aiohttp.ClientSession, path: str) -> tuple[int, dict[str, str], bytes]:
    async with session.get(f"/api/v1/{path}") as answer:
        kept = {key.lower(): value for key, value in answer.headers.items() if key.lower() not in ("date", "etag")}
        return answer.status, kept, await answer.read()


def client(house: House, token: str) -> aiohttp.ClientSession:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return aiohttp.ClientSession(house.http_at, headers=headers)


async def test_what_may_not_be_seen_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN):
            await _nothing_of_the_gate(house, role)


def names_the_gate(body: bytes) -> bool:
    """Whether the camera `gate` is told; what a camera's packet gate does has that name, too."""
    return b"gate" in body.replace(b'"gate":"off","gate_why":""', b"")


async def _nothing_of_the_gate(house: House, role: Role) -> None:
    dock = house.token(f"dock {role}", role, ("dock",))
    async with client(house, house.token(f"all {role}", role)) as everything, client(house, dock) as session:
        # Somebody else asked everything before.
        for path in ("search?q=dog", *paths("gate", GATE)):
            assert b"gate" in (await got(everything, path))[2] or "clip" in path
        for path, other in zip(paths("gate", GATE), paths("gaet", NOWHERE), strict=True):
            forbidden, unknown = await got(session, path), await got(session, other)
            body = unknown[2].replace(b"gaet", b"gate").replace(NOWHERE.encode(), GATE.encode())
            assert (forbidden[0], forbidden[2]) == (404, body), path
            assert forbidden[1] == unknown[1], path
        for path in ("search?q=red truck&limit=100", "search?q=dog&all_moments=true", f"search?like={DOCK}", "cameras"):
            status, _, body = await got(session, path)
            assert (status, b"dock" in body, names_the_gate(body)) == (200, True, False), body
        first = json.loads((await got(session, "search?q=dog"))[2])
        assert first["coverage"]["buckets_searched"] == 0
        assert [gap["camera"] for gap in first["coverage"]["gaps"]] == ["dock"]
        assert (await got(session, f"moments/{DOCK}/picture"))[2] == b"dock"


async def test_over_grpc_it_is_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        token = house.token("dock", cameras=("dock",))
        async with QueryClient(house.grpc_at, 10.0, token=token) as asking:
            assert {hit.camera for hit in (await asking.search(text="dog", limit=50)).hits} == {"dock"}
            assert [camera.name for camera in await asking.cameras()] == ["dock"]
            for call in (
                asking.search(text="dog", cameras=["gate"]),
                asking.search(text="dog", cameras=["dock", "gate"]),
                asking.search(moment_id=GATE),
                asking.thumbnail(GATE),
                asking.thumbnail(GATE, NOON),
                anext(asking.clip(moment_id=GATE)),
                anext(asking.clip(camera="gate", start_ms=NOON, end_ms=NOON + 1)),
            ):
                with pytest.raises(Unknown) as refused:
                    await call
                assert "gate" not in refused.value.todo


async def test_an_assistant_sees_what_its_token_may(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        headers = {"authorization": f"Bearer {house.token('dock', cameras=('dock',))}"}
        async with (
            aiohttp_free_client(headers) as http,
            Client(streamable_http_client(f"{house.http_at}/mcp", http_client=http)) as asking,
        ):
            told = [
                await asking.call_tool("search_moments", {"question": "dog", "limit": 50}),
                await asking.call_tool("list_cameras", {}),
                await asking.call_tool("coverage", {}),
            ]
            assert all("dock" in str(one.content) and "gate" not in str(one.content) for one in told)
            for name, arguments in (
                ("search_moments", {"like_moment": GATE}),
                ("search_moments", {"question": "dog", "cameras": ["gate"]}),
                ("look_at_picture", {"moment_id": GATE}),
            ):
                assert (await asking.call_tool(name, arguments)).is_error


def aiohttp_free_client(headers: dict[str, str]) -> Any:
    """The HTTP client that the SDK uses."""
    import httpx2

    return httpx2.AsyncClient(headers=headers)


GOOD = ("all", Role.VIEWER, None)


async def refused(house: House, token: str) -> WatchwordError:
    with pytest.raises(WatchwordError) as caught:
        async with QueryClient(house.grpc_at, 10.0, token=token) as asking:
            await asking.cameras()
    async with client(house, token) as session:
        status, headers, body = await got(session, "cameras")
    problem = json.loads(body)
    assert problem["title"] == type(caught.value).__name__
    if status == 401:
        assert headers["www-authenticate"] == "Bearer"
    return caught.value


async def test_a_token_that_does_not_count_is_refused_alike_everywhere(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        good = house.token(*GOOD)
        expired = house.token("old", expires_ms=now_ms() - 1)
        forged = good[:-3] + ("abc" if not good.endswith("abc") else "xyz")
        stranger = f"ww_{'0' * 12}_{good[16:]}"
        said = {
            str(await refused(house, token))
            for token in (expired, forged, stranger, "ww_x", "eyJhbGciOiJub25lIn0.e30.")
        }
        assert len(said) == 1
        assert isinstance(await refused(house, house.token("in", Role.INGEST)), Denied)
        async with client(house, good) as session:
            assert (await got(session, "cameras"))[0] == 200
        refusals = [one for one in house.noted if one["outcome"] == "unauthenticated"]
        assert refusals
        assert all("who" not in one for one in refusals)


async def test_a_revoked_token_ends_and_others_go_on(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        good, kept = house.token(*GOOD), house.token("kept")
        async with (
            QueryClient(house.grpc_at, 10.0, token=good) as asking,
            QueryClient(house.grpc_at, 10.0, token=kept) as other,
        ):
            await asking.cameras()
            house.tokens.revoke("all", now_ms())
            # A token that nobody knows makes the service look at once; it looks every second anyway.
            await refused(house, f"ww_{'1' * 12}_{good[16:]}")
            with pytest.raises(Unauthenticated):
                await asking.cameras()
            assert await other.cameras()


NO_TOKENS = ("", "Bearer", "Basic dXNlcjpwYXNz", "Bearer  ", "ww_abc", "Bearer a b", "Bearer é", "Bearer " + "x" * 7000)


async def test_what_is_no_token_is_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.entries.FAILURES_AT_ONCE", 1000)  # see test_guard.py
    async with running(tmp_path) as house:
        for header in NO_TOKENS:
            headers = {"authorization": header} if header else {}
            async with aiohttp.ClientSession(house.http_at, headers=headers) as session:
                await _no_entry(session)


async def _no_entry(session: aiohttp.ClientSession) -> None:
    for path in ("search?q=dog", *paths("gate", GATE), "cameras"):
        status, _, body = await got(session, path)
        assert (status, json.loads(body)["title"]) == (401, "Unauthenticated"), path
        assert b"gate" not in body
    async with session.post("/mcp", json={}, headers={"accept": "application/json, text/event-stream"}) as answer:
        assert answer.status == 401
    assert (await got(session, "health"))[0] == 200
    assert (await got(session, "openapi.json"))[0] == 200


async def test_odd_headers_over_grpc_are_no_entry(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        good = f"Bearer {house.token(*GOOD)}"
        async with grpc.aio.insecure_channel(house.grpc_at) as channel:
            stub: Any = query_pb2_grpc.QueryStub(channel)
            for metadata in ((), (("authorization", good),) * 2, (("authorization", "x" * 60_000),)):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.Cameras(query_pb2.CamerasRequest(), metadata=metadata, timeout=5)
                assert caught.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
            reply = await stub.Cameras(query_pb2.CamerasRequest(), metadata=(("authorization", good),), timeout=5)
            assert len(reply.cameras) == 3


async def test_on_this_machine_nothing_is_needed_and_a_token_that_comes_counts(tmp_path: Path) -> None:
    async with running(tmp_path, needed=False) as house:
        async with client(house, "") as session:
            assert b"gate" in (await got(session, "cameras"))[2]
        async with client(house, house.token("dock", cameras=("dock",))) as session:
            assert not names_the_gate((await got(session, "cameras"))[2])
        assert isinstance(await refused(house, "ww_x"), Unauthenticated)


async def test_a_token_that_asks_too_often_is_told_when_to_come_again_and_others_are_served(tmp_path: Path) -> None:
    async with running(tmp_path, rates=Rates(per_s=0.001, burst=2)) as house:
        busy, other = house.token("busy"), house.token("other")
        async with QueryClient(house.grpc_at, 10.0, token=busy) as asking:
            await asking.cameras()
            await asking.cameras()
            with pytest.raises(Overloaded, match="calls a second") as refused:
                await asking.cameras()
        assert 900 < refused.value.wait_s < 1000
        async with client(house, busy) as session:
            status, headers, body = await got(session, "cameras")
        assert (status, 900 < int(headers["retry-after"]) <= 1000) == (429, True)
        assert "access.rate" in json.loads(body)["todo"]
        async with client(house, other) as session:
            assert (await got(session, "cameras"))[0] == 200


async def test_only_who_may_change_cameras_is_told_where_they_are(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        why = "rtsp://10.0.0.7:554/live does not answer"
        status = CameraStatus("gate", "failing", now_ms(), now_ms(), why)
        Statuses(catalog_in(tmp_path)).put_statuses([status])
        for role, told in ((Role.VIEWER, False), (Role.OPERATOR, True), (Role.ADMIN, True)):
            async with client(house, house.token(f"the {role}", role)) as session:
                assert (b"10.0.0.7" in (await got(session, "cameras"))[2]) is told


async def test_the_audit_says_who_what_how_many_and_from_where(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        async with client(house, house.token("dock", cameras=("dock",))) as session:
            await got(session, "search?q=dog&camera=dock")
            await got(session, f"moments/{GATE}/picture")
        search, picture = house.noted
        assert (search["who"], search["role"], search["what"], search["text"]) == ("dock", "viewer", "search", "dog")
        assert (search["cameras"], search["hits"], search["sees"], search["outcome"]) == (["dock"], 2, ["dock"], "ok")
        assert (search["for"], search["from"].startswith("ipv4:127.0.0.1:")) == ("127.0.0.1", True)
        assert (picture["moment"], picture["outcome"]) == (GATE, "unknown")


@pytest.mark.parametrize(
    ("open_to", "here", "elsewhere"),
    [
        ("this machine", False, True),
        ("holders of a token", True, True),
        ("holders of a token, without TLS", True, True),
        ("anyone who reaches it may see every camera", False, False),
    ],
)
def test_where_a_token_is_needed(open_to: str, here: bool, elsewhere: bool) -> None:
    assert (needs_token(open_to, "127.0.0.1:1"), needs_token(open_to, "0.0.0.0:1")) == (here, elsewhere)


async def test_while_the_catalog_is_away_who_is_not_known_is_told_so(tmp_path: Path) -> None:
    class Gone(TokenRegistry):
        def kept(self) -> Any:
            raise Transient("it is down")

    callers = TokenCallers(KnownTokens(Gone(catalog_in(tmp_path)), 600), needed=True)
    await callers.start()
    with pytest.raises(Transient, match="it is down"):
        await callers.of([f"Bearer ww_{'0' * 12}_{'a' * 43}"])
    await callers.stop()
