"""What every request passes: whose page asks, how large, how many; and the headers of every answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.entries import MOST_TRYING, Entries
from gateway.settings import GatewaySettings
from proto.access import ANYONE, is_loopback
from proto.errors import Invalid, Unauthenticated
from proto.v1 import query_pb2
from tests.contracts.moments import until
from tests.gateway.fakes import FakeQueries, client_of
from tests.gateway.test_api import assert_problem
from watchword.settings import read_settings

SEARCH = "/api/v1/search?q=secret+words"
ELSEWHERE = GatewaySettings(listen="0.0.0.0:8701")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(FakeQueries()) as client:
        yield client


# Where it listens


@pytest.mark.parametrize("listen", ["127.0.0.1:8701", "localhost:1", "[::1]:8701", "127.8.8.8:0"])
def test_loopback_needs_no_word(listen: str) -> None:
    assert is_loopback(listen)
    assert read_settings({"gateway.listen": listen}).gateway.listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:8701", "[::]:8701", "10.0.0.7:8701", "gateway.example.org:80", ":8701"])
def test_listening_elsewhere_is_refused_unless_a_setting_says_so_in_words(listen: str) -> None:
    with pytest.raises(Invalid, match=f"{ANYONE}|is not HOST:PORT"):
        read_settings({"gateway.listen": listen})
    with pytest.raises(Invalid, match="open_to"):
        read_settings({"gateway.listen": listen, "access.open_to": "yes"})
    if listen != ":8701":
        assert read_settings({"gateway.listen": listen, "access.open_to": ANYONE}).gateway.listen == listen


@pytest.mark.parametrize("part", ["encoder", "query"])
def test_so_is_it_for_the_other_servers(part: str) -> None:
    with pytest.raises(Invalid, match=rf"{part}\.listen = '0\.0\.0\.0:8702' can be reached from other machines"):
        read_settings({f"{part}.listen": "0.0.0.0:8702"})


@pytest.mark.parametrize("listen", ["", "8701", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(Invalid, match="is not HOST:PORT"):
        read_settings({"gateway.listen": listen})


# Whose page asks


@pytest.mark.parametrize("host", ["127.0.0.1:8701", "localhost", "LOCALHOST:1", "[::1]:8701", "[::1]", "wall.example"])
async def test_own_names_are_served(host: str) -> None:
    async with client_of(FakeQueries(), GatewaySettings(hosts=("Wall.example",))) as client:
        assert (await client.get(SEARCH, headers={"host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example:8701", "127.0.0.1.evil.example", "", "localhost.evil:80", "[::2]"])
async def test_a_name_that_a_web_page_pointed_here_is_refused(client: httpx.AsyncClient, host: str) -> None:
    assert_problem(await client.get(SEARCH, headers={"host": host}), 421, reason="wrong_host")


async def test_elsewhere_every_name_is_served_unless_the_settings_name_some() -> None:
    async with client_of(FakeQueries(), ELSEWHERE) as client:
        assert (await client.get(SEARCH, headers={"host": "any.example"})).status_code == 200
    async with client_of(FakeQueries(), ELSEWHERE.model_copy(update={"hosts": ("own.example",)})) as client:
        assert_problem(await client.get(SEARCH, headers={"host": "any.example"}), 421)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8701"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "origin": "http://127.0.0.1:3000"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "origin": "https://wall.example"}, 403),
    ],
)
async def test_a_page_of_another_site_may_link_here_but_load_nothing(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    assert (await client.get(SEARCH, headers=headers)).status_code == status


async def test_only_named_origins_are_told_that_they_may_read(client: httpx.AsyncClient) -> None:
    page = {"origin": "https://wall.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    assert "access-control-allow-origin" not in (await client.get(SEARCH, headers=page)).headers
    async with client_of(FakeQueries(), GatewaySettings(origins=("https://wall.example",))) as sharing:
        answer = await sharing.get(SEARCH, headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://wall.example"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        asked = {**page, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        assert (await sharing.options("/api/v1/search", headers=asked)).status_code == 200
        other = {**page, "origin": "https://evil.example"}
        assert "access-control-allow-origin" not in (await sharing.get(SEARCH, headers=other)).headers


# Tokens that do not count


class SomeTokens(FakeQueries):
    """Knows one token."""

    def on_behalf(self, token: str, client: str = "") -> FakeQueries:
        self.error = None if token in ("good", "") else Unauthenticated("the token does not count")
        return super().on_behalf(token, client)


async def test_an_address_whose_tokens_do_not_count_is_not_heard_and_good_tokens_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.entries.FAILURES_A_SECOND", 1e-6)  # however slow this is
    queries = SomeTokens()
    async with client_of(queries) as client:

        async def asked(token: str, path: str = SEARCH) -> int:
            return (await client.get(path, headers={"authorization": f"Bearer {token}"})).status_code

        assert await asked("good") == 200
        assert await asked("forged", "/api/v1/health") == 200  # proves nothing
        statuses = [await asked(f"forged{n}") for n in range(25)]
        assert statuses == [401] * 20 + [429] * 5
        heard = len(queries.callers)
        answer = await client.get(SEARCH, headers={"authorization": "Bearer another"})
        assert_problem(answer, 429)
        assert int(answer.headers["retry-after"]) >= 1
        assert len(queries.callers) == heard
        assert await asked("forged") == 429
        assert await asked("good") == 200
        assert (await client.get(SEARCH)).status_code == 200  # nobody is refused for bringing none


def test_one_address_tries_so_many_tokens_at_once_and_no_more() -> None:
    entries = Entries()
    entries.passed("good", 0.0)
    with ExitStack() as trying:
        for n in range(MOST_TRYING):
            assert entries.wait_s("10.0.0.7", str(n), 0.0) == 0
            trying.enter_context(entries.trying("10.0.0.7", str(n), 0.0))
            trying.enter_context(entries.trying("10.0.0.8", "good", 0.0))
        assert entries.wait_s("10.0.0.7", "x", 0.0) == 1
        assert entries.wait_s("10.0.0.7", "good", 0.0) == 0
        assert entries.wait_s("10.0.0.8", "x", 0.0) == 0
    assert entries.wait_s("10.0.0.7", "x", 0.0) == 0
    assert not entries._trying


def test_whoever_waited_is_heard_again_and_an_address_of_ipv6_is_a_network() -> None:
    entries = Entries()
    for n in range(20):
        entries.failed(f"2001:db8::{n}", 0.0)
    assert entries.wait_s("2001:db8::ffff:1", "t", 0.0) == pytest.approx(1.0)
    assert entries.wait_s("2001:db8:0:1::1", "t", 0.0) == 0
    assert entries.wait_s("2001:db8::1", "t", 1.0) == 0
    for n in range(10_000):
        entries.passed(str(n), 0.0)
    assert len(entries._good) <= 4096
    assert entries.wait_s("2001:db8::1", "9999", 0.5) == 0
    assert entries.wait_s("2001:db8::1", "9999", 700.0) == 0  # of its bucket, by then


# Every answer


@pytest.mark.parametrize("path", [SEARCH, "/", "/api/v1/nothing", "/api/v1/health", "/api/v1/openapi.json"])
async def test_every_answer_is_closed_to_scripts_frames_and_guesses(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_log_has_a_line_for_each_request_and_not_what_was_asked(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "watchword.gateway.access"):
        await client.get(SEARCH)
        await client.post("/api/v1/search", json={"q": "secret words"})
        await client.get("/api/v1/%0aforged")
    lines = [record.getMessage() for record in caplog.records if record.name == "watchword.gateway.access"]
    assert [line.split(" from ")[0].rsplit(" ", 4)[0] for line in lines] == [
        "GET /api/v1/search 200",
        "POST /api/v1/search 200",
        "GET /api/v1/%0aforged 404",
    ]
    assert "secret" not in caplog.text


# How much


async def test_a_body_that_is_too_large_is_refused_by_its_length(client: httpx.AsyncClient) -> None:
    for length in (str(8 * 1024**2 + 1), "9" * 400):
        answer = await client.post(
            "/api/v1/search", content=b"x", headers={"content-type": "image/png", "content-length": length}
        )
        assert_problem(answer, 413, reason="too_large")


async def test_a_body_that_is_too_large_is_refused_while_it_comes(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield 1024**2 * b"x"

    answer = await client.post("/api/v1/search", content=chunks(), headers={"content-type": "image/png"})
    assert_problem(answer, 413, reason="too_large")


async def test_a_body_that_does_not_come_is_given_up() -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with client_of(FakeQueries(), GatewaySettings(body_s=0.01)) as client:
        answer = await client.post("/api/v1/search", content=never(), headers={"content-type": "image/png"})
    assert_problem(answer, 408, reason="slow_body")


async def test_requests_beyond_the_bound_are_refused_at_once() -> None:
    go = asyncio.Event()

    class Slow(FakeQueries):
        async def search(self, **asked: Any) -> query_pb2.SearchReply:
            self.asked.append(asked)
            await go.wait()
            return self.reply

    queries = Slow()
    async with client_of(queries, GatewaySettings(max_concurrent=2)) as client:
        inside = [asyncio.create_task(client.get(SEARCH)) for _ in range(2)]
        await until(lambda: len(queries.asked) == 2)
        answer = await client.get(SEARCH)
        assert_problem(answer, 429, "Overloaded")
        assert answer.headers["retry-after"] == "1"
        go.set()
        assert {one.status_code for one in await asyncio.gather(*inside)} == {200}


# The description and the console's files


async def test_the_description_is_openapi_3_1_and_names_every_call(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/v1/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/api/v1/search",
        "/api/v1/moments/{id}/picture",
        "/api/v1/clip",
        "/api/v1/cameras",
        "/api/v1/live/events",
        "/api/v1/health",
    }
    assert all(schema.get("required") for name, schema in document["components"]["schemas"].items() if name == "Hit")


async def test_without_a_console_a_plain_page_says_how_to_ask(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "curl" in answer.text
    assert "<script" not in answer.text


@pytest.fixture
def console(tmp_path: Path) -> Path:
    folder = tmp_path / "console"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>the console</title>")
    (folder / "assets" / "app-1a2b.js").write_text("export {}")
    (tmp_path / "secret").write_text("not for you")
    (folder / "link").symlink_to(tmp_path / "secret")
    return folder


async def test_the_console_is_served_and_only_what_never_changes_is_kept(console: Path) -> None:
    async with client_of(FakeQueries(), console=console) as client:
        page = await client.get("/?q=red+truck")
        assert (page.status_code, "the console" in page.text) == (200, True)
        assert page.headers["cache-control"] == "no-cache"
        script = await client.get("/assets/app-1a2b.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert "immutable" in script.headers["cache-control"]
        tag = page.headers["etag"]
        assert (await client.get("/", headers={"if-none-match": tag})).status_code == 304
        assert (await client.get("/api/v1/health")).json()["ready"] is True


@pytest.mark.parametrize(
    "path",
    ["/../secret", "/..%2fsecret", "/%2e%2e/secret", "/assets/..%2f..%2fsecret", "/link", "/%00", "//etc/passwd"],
)
async def test_nothing_outside_the_console_is_served(console: Path, path: str) -> None:
    async with client_of(FakeQueries(), console=console) as client:
        answer = await client.send(httpx.Request("GET", httpx.URL(f"http://127.0.0.1:8701{path}")))
        assert "not for you" not in answer.text
        assert_problem(answer, 404, reason="no_such_path")
        assert_problem(await client.get("/api/v1/nothing"), 404, reason="no_such_path")
        assert_problem(await client.post("/index.html"), 405)
        assert_problem(await client.post("/api/v1/nothing"), 404)
        wrong = await client.delete("/api/v1/search")
        assert_problem(wrong, 405)
        assert "POST" in wrong.headers["allow"]
