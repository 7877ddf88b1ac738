"""What an assistant is told over MCP, by the SDK's own client over HTTP."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from mcp import Client
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ImageContent, TextContent

from gateway.app import application
from gateway.assistant import Assistant
from gateway.serving import serve_gateway
from gateway.settings import GatewaySettings
from proto.errors import Overloaded, Unknown
from proto.v1 import query_pb2
from tests.gateway.fakes import JPEG, MOMENT, FakeQueries, a_reply, away

UNTIL = "2023-11-14T22:13:21.000Z"


@asynccontextmanager
async def serving(queries: FakeQueries) -> AsyncIterator[str]:
    """The address of a gateway that serves assistants."""
    settings = GatewaySettings(listen="127.0.0.1:0")
    assistant = Assistant(queries, "1.2.3")
    async with assistant.running():
        server = await serve_gateway(application(queries, settings, "", assistant=assistant), settings, grace_s=1)
        yield f"http://{server.address}/mcp"
        await server.stop()


def text_of(result: CallToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, TextContent))


def told(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    content: dict[str, Any] = result.structured_content
    return content


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_no_stream_is_held_open_for_what_is_never_said(method: str) -> None:
    headers = {"accept": "text/event-stream"}
    async with (
        serving(FakeQueries()) as address,
        aiohttp.ClientSession() as session,
        session.request(method, address, headers=headers) as answer,
    ):
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_real_client_searches_looks_and_cites(mode: Any) -> None:
    queries = FakeQueries()
    async with serving(queries) as address, Client(address, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search_moments", "look_at_picture", "list_cameras", "coverage"}
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
        assert all("self" not in tool.input_schema["properties"] for tool in tools.values())

        asked = {
            "question": "red truck",
            "cameras": ["gate"],
            "groups": ["yard"],
            "since": "2023-11-14T22:00",
            "limit": 3,
        }
        answer = told(await client.call_tool("search_moments", asked))
        (hit,) = answer["found"]
        assert hit["cite"] == f"gate, 2023-11-14T22:13:20.500Z [moment {MOMENT}]"
        assert (hit["sure"], hit["objects"], answer["not_found"]) == (True, {"person": 2}, "")
        assert answer["based_on"]["whole"] is False
        assert answer["based_on"]["looked_until"] == [{"camera": "gate", "until": UNTIL}]
        assert queries.asked[-1]["start_ms"] == 1_699_999_200_000
        assert (queries.asked[-1]["cameras"], queries.asked[-1]["groups"]) == (["gate"], ["yard"])

        picture = await client.call_tool("look_at_picture", {"moment_id": MOMENT, "at_ms": hit["at_ms"]})
        (image,) = [part for part in picture.content if isinstance(part, ImageContent)]
        assert (base64.b64decode(image.data), image.mime_type) == (JPEG, "image/jpeg")
        assert "2023-11-14T22:13:20.500Z" in text_of(picture)

        cameras = told(await client.call_tool("list_cameras", {}))
        assert cameras["kinds"] == ["car", "person"]
        assert [(one["name"], one["groups"], one["state"]) for one in cameras["cameras"]] == [
            ("gate", ["yard"], "live"),
            ("old", [], "unknown"),
        ]
        assert cameras["cameras"][0]["advice"] == ["ask for more"]
        assert told(await client.call_tool("coverage", {"cameras": ["gate"]}))["spans_not_looked_at"] == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("search_moments", {"question": "a", "since": "yesterday"}, "ISO 8601"),
        ("search_moments", {"question": "a", "limit": 1000}, "limit"),
        ("look_at_picture", {"moment_id": "../../etc/passwd"}, "moment_id"),
        ("no_such_tool", {}, "no_such_tool"),
    ],
)
async def test_a_wrong_call_is_told_so(tool: str, arguments: dict[str, Any], says: str) -> None:
    queries = FakeQueries()
    async with serving(queries) as address, Client(address) as client:
        try:
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert says in text_of(result)
        except Exception as error:
            if isinstance(error, AssertionError):
                raise
            assert says in str(error)
        assert queries.asked == []


async def test_an_error_says_what_to_do_and_a_bug_nothing_of_its_inside() -> None:
    queries = FakeQueries()
    async with serving(queries) as address, Client(address) as client:
        for kind in (Unknown, Overloaded):
            queries.error = away(kind)
            result = await client.call_tool("search_moments", {"question": "a"})
            assert result.is_error
            assert "it does not answer: is it running?" in text_of(result)
        queries.error = RuntimeError("a secret of the inside")
        result = await client.call_tool("list_cameras", {})
        assert result.is_error
        assert "secret" not in text_of(result)


async def test_nothing_found_names_up_to_when_and_what_was_not_looked_at() -> None:
    queries = FakeQueries()
    queries.reply = a_reply()
    queries.reply.no_confident_match = True
    answer = await Assistant(queries, "").search_moments(question="a")
    assert f"Looked at: gate up to {UNTIL}." in answer.not_found
    assert "Not looked at: 1 spans, the first gate 1970-01-01T00:00:00.001Z" in answer.not_found
    assert "Not searched: m2 from" in answer.not_found
    queries.reply = query_pb2.SearchReply(no_confident_match=True, coverage=query_pb2.Coverage(coverage_unknown=True))
    answer = await Assistant(queries, "").search_moments(question="a")
    assert "It is not known up to when" in answer.not_found
    assert "could not be read" in answer.not_found


async def test_a_time_with_a_zone_is_that_instant() -> None:
    queries = FakeQueries()
    await Assistant(queries, "").coverage(since="2023-11-14T23:00:00+01:00", until="2023-11-14T22:00:01Z")
    assert (queries.asked[0]["start_ms"], queries.asked[0]["end_ms"]) == (1_699_999_200_000, 1_699_999_201_000)
    with pytest.raises(ToolError):
        await Assistant(queries, "").coverage(since="now")


async def test_bad_requests_are_refused_and_the_guard_holds_here_too() -> None:
    async with serving(FakeQueries()) as address, aiohttp.ClientSession() as session:
        for body, headers, status in (
            (b"{", {"content-type": "application/json"}, 400),
            (b"x", {"content-type": "text/plain"}, 400),
            (b"{}", {"content-type": "application/json", "host": "evil.example"}, 421),
            (b"{}", {"content-type": "application/json", "sec-fetch-site": "cross-site"}, 403),
            (300_000 * b" ", {"content-type": "application/json"}, 413),
        ):
            asked = {"accept": "application/json, text/event-stream", **headers}
            async with session.post(address, data=body, headers=asked) as answer:
                assert answer.status == status, await answer.text()
                assert "default-src 'none'" in answer.headers["content-security-policy"]
