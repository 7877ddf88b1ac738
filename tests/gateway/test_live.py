"""What is live: who hears of what, what is said once, where a listener goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import application
from gateway.entries import MOST_TRYING
from gateway.serving import serve_gateway
from gateway.settings import GatewaySettings
from gateway.watching import HEARTBEAT, Watch, Watches
from proto.errors import Overloaded, Transient, Unauthenticated
from tests.contracts.moments import until as holds
from tests.gateway.fakes import FakeQueries, client_of
from tests.gateway.test_access import client, running

FAST_S = 0.001


def events_in(data: bytes) -> list[tuple[str, Any]]:
    found = []
    for block in data.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def last_id(data: bytes) -> str:
    return data.decode().rpartition("id: ")[2].partition("\n")[0]


@asynccontextmanager
async def followed(queries: FakeQueries) -> AsyncIterator[Watch]:
    watch = Watch(queries, FAST_S)
    task = asyncio.create_task(watch.follow())
    yield watch
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(stream: AsyncIterator[bytes], name: str) -> tuple[Any, bytes]:
    """The data of the next event of this name, and all that came with it."""
    async for data in stream:
        for event, told in events_in(data):
            if event == name:
                return told, data
    raise AssertionError(f"no {name}")


async def test_a_listener_is_told_all_and_then_only_what_changes() -> None:
    queries = FakeQueries()
    async with followed(queries) as watch, aclosing(watch.events("")) as stream:
        first = await anext(stream)
        told = events_in(first)
        assert told[0] == ("all", {})
        assert sorted(one["name"] for name, one in told if name == "camera") == ["gate", "old"]
        assert [one["camera"] for name, one in told if name == "moment"] == ["gate"]
        assert [name for name, _ in told if name == "looked"] == ["looked"]
        queries.reply.hits[0].at_ms += 1
        moment, data = await until(stream, "moment")
        assert moment["at_ms"] == queries.reply.hits[0].at_ms
        assert [name for name, _ in events_in(data)] == ["moment"]
        async with aclosing(watch.events(last_id(first))) as resumed:
            assert [name for name, _ in events_in(await anext(resumed))] == ["moment"]
        for strange in ("x", "x-1", last_id(first).replace("-", "0-"), "-1", last_id(first) + "0"):
            async with aclosing(watch.events(strange)) as fresh:
                assert events_in(await anext(fresh))[0] == ("all", {})


async def test_a_service_that_is_away_is_told_and_a_refused_caller_hears_no_more() -> None:
    queries = FakeQueries()
    async with followed(queries) as watch, aclosing(watch.events("")) as stream:
        await anext(stream)
        queries.error = Transient("it is away", todo="wait")
        assert (await until(stream, "problem"))[0]["detail"] == "it is away"
        queries.error = None
        queries.reply.hits[0].at_ms += 1
        await until(stream, "moment")
        queries.error = Unauthenticated("the token does not count", todo="get a new one")
        assert (await until(stream, "problem"))[0]["status"] == 401
        assert [data async for data in stream] == []
        assert watch.over


async def test_silence_is_filled_with_heartbeats_and_listeners_are_few() -> None:
    queries = FakeQueries()
    watches = Watches(most=2, every_s=60, linger_s=0.0)
    streams = [await watches.listen("a", lambda: queries, "", FAST_S) for _ in range(2)]
    with pytest.raises(Overloaded):
        await watches.listen("b", lambda: queries, "")
    async for data in streams[0]:
        if data == HEARTBEAT:
            break
    for stream in streams:
        await stream.aclose()
    one = await watches.listen("b", lambda: queries, "", FAST_S)
    await anext(one)
    await one.aclose()
    await watches.stop()


async def test_one_caller_holds_a_few_listeners_and_others_are_served() -> None:
    watches = Watches(most_each=2, every_s=60)
    async with client_of(FakeQueries(), watches=watches) as http:
        streams = [await watches.listen(who, FakeQueries, "", address="127.0.0.1") for who in ("a", "b")]
        refused = await http.get("/api/v1/live/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (refused.headers["content-type"], refused.json()["title"]) == ("application/problem+json", "Overloaded")
        assert "close a page" in refused.json()["todo"]
        streams.append(await watches.listen("a", FakeQueries, ""))
        await streams.pop(0).aclose()
        streams.append(await watches.listen("c", FakeQueries, "", address="127.0.0.1"))
        await watches.stop()
        for stream in streams:
            assert [name for name, _ in events_in(b"".join([data async for data in stream]))][:1] == ["all"]
        assert (await http.get("/api/v1/live/events")).status_code == 503


async def test_streams_end_with_the_gateway() -> None:
    settings = GatewaySettings(listen="127.0.0.1:0")
    app = application(FakeQueries(), settings, "1")
    server = await serve_gateway(app, settings, grace_s=600, ending=app.end)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.address}/api/v1/live/events") as answer,
    ):
        told = b""
        while b"event: ready" not in told:
            told += await answer.content.readany()
        await server.stop()
        assert await answer.content.read() == b""


async def test_who_may_not_ask_gets_a_status_and_no_stream() -> None:
    queries = FakeQueries()
    async with client_of(queries, needs_token=True) as http:
        assert (await http.get("/api/v1/live/events")).status_code == 401
        queries.error = Unauthenticated("the token does not count")
        answer = await http.get("/api/v1/live/events", headers={"authorization": "Bearer x"})
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


async def test_a_real_stream_tells_nothing_of_what_the_token_may_not_see(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        for name, cameras in (("dock", ("dock",)), ("all", None)):
            told = b""
            async with (
                client(house, house.token(name, cameras=cameras)) as session,
                session.get("/api/v1/live/events") as answer,
            ):
                assert answer.headers["content-type"].startswith("text/event-stream")
                while b"event: ready" not in told:
                    told += await answer.content.readany()
            assert (b':"dock"' in told, b':"gate"' in told) == (True, cameras is None)
        # A stream is begun by one call for the caller, so that a refusal has a status.
        assert sorted(line["what"] for line in house.noted) == ["cameras", "cameras", "watch", "watch"]
    ended = [line for line in house.noted if line["what"] == "watch ended"]
    assert {line["who"]: line["sees"] for line in ended} == {"dock": [], "all": []}  # nothing that is recent
    assert all(line["calls"] > 1 and line["events"] >= 0 and line["text"] for line in ended)
    assert len(house.noted) == 6


async def test_what_is_gone_from_the_answers_is_not_told_to_who_comes_later() -> None:
    queries = FakeQueries()
    async with followed(queries) as watch, aclosing(watch.events("")) as stream:
        await anext(stream)
        del queries.reply.hits[:]
        asked = len(queries.asked)
        await holds(lambda: len(queries.asked) > asked + 4)
        async with aclosing(watch.events("")) as fresh:  # a part of the index is away
            assert "moment" in [name for name, _ in events_in(await anext(fresh))]
        del queries.reply.coverage.shards_missing[:]
        asked_whole = len(queries.asked)
        await holds(lambda: len(queries.asked) > asked_whole + 4)
        async with aclosing(watch.events("")) as fresh:
            assert "moment" not in [name for name, _ in events_in(await anext(fresh))]


async def test_who_leaves_before_the_first_event_takes_nobodys_place() -> None:
    queries = FakeQueries()
    watches = Watches(most=1, every_s=60)
    stream = await watches.listen("a", lambda: queries, "")
    with pytest.raises(Overloaded):
        await watches.listen("b", lambda: queries, "")
    await stream.aclose()
    await (await watches.listen("b", lambda: queries, "")).aclose()
    await watches.stop()


async def test_a_stream_under_way_is_no_token_that_is_being_tried() -> None:
    queries, path = FakeQueries(), b"/api/v1/live/events"
    app = application(queries, GatewaySettings(), "1")
    begun: asyncio.Queue[int] = asyncio.Queue()

    async def streaming(number: int) -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            if "status" in message:
                begun.put_nowait(message["status"])

        headers = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer %d" % number)]
        scope = {"type": "http", "method": "GET", "path": path.decode(), "raw_path": path, "query_string": b""}
        await app({**scope, "headers": headers, "client": ("10.0.0.9", 1)}, receive, send)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(MOST_TRYING + 1):
            tasks.append(group.create_task(streaming(number)))
            assert await begun.get() == 200
        for task in tasks:
            task.cancel()
