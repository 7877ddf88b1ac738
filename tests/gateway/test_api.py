"""The API as a client meets it: names, values, errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from google.protobuf.descriptor import Descriptor
from pydantic import BaseModel

from gateway import shapes
from proto.errors import (
    Broken,
    Denied,
    Invalid,
    Late,
    Mismatch,
    Overloaded,
    Poison,
    Transient,
    Unknown,
    WatchwordError,
)
from proto.v1 import query_pb2
from tests.gateway.fakes import JPEG, MOMENT, FakeQueries, away, client_of

SEARCH = "/api/v1/search"


@pytest.fixture
def queries() -> FakeQueries:
    return FakeQueries()


@pytest.fixture
async def client(queries: FakeQueries) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(queries) as client:
        yield client


def same_fields(model: type[BaseModel], message: Descriptor | None) -> None:
    assert message is not None
    assert list(model.model_fields) == [field.name for field in message.fields], message.name
    for field in message.fields:
        if field.message_type is not None:
            same_fields(getattr(shapes, field.message_type.name), field.message_type)


@pytest.mark.parametrize("name", ["SearchReply", "CamerasReply"])
def test_answers_have_the_fields_of_the_proto_file_in_its_order(name: str) -> None:
    same_fields(getattr(shapes, name), query_pb2.DESCRIPTOR.message_types_by_name[name])


async def test_an_answer_has_every_field_and_plain_numbers(client: httpx.AsyncClient) -> None:
    answer = (await client.get(SEARCH, params={"q": "red truck"})).json()
    assert answer == {
        "hits": [
            {
                "moment_id": MOMENT,
                "camera": "gate",
                "start_ms": 1_700_000_000_000,
                "peak_ms": 1_700_000_000_500,
                "end_ms": 1_700_000_001_000,
                "score": 0.3,
                "closed": True,
                "frames": 3,
                "confidence": 0.9,
                "box": {"left": 0.25, "top": 0.5, "right": 0.5, "bottom": 0.75},
                "at_ms": 1_700_000_000_500,
                "kind": "person",
                "objects": [{"kind": "person", "count": 2}],
                "moments": 1,
                "recorded": False,
            }
        ],
        "coverage": {
            "partial": True,
            "shards_missing": ["m2"],
            "shards_searched": 1,
            "buckets_searched": 2,
            "gaps": [{"camera": "gate", "start_ms": 1, "end_ms": 2, "frames": 3, "reason": "shed"}],
            "gaps_in_all": 1,
            "frames_not_looked_at": 3,
            "watermarks": [{"camera": "gate", "looked_ms": 1_700_000_001_000}],
            "unsearched": [{"shard": "m2", "start_ms": 1, "end_ms": 2, "cameras": [], "cold": False}],
            "spaces_unsearched": ["old"],
            "coverage_unknown": False,
        },
        "timing": {"total_ms": 1.5, "embed_ms": 0.5, "index_ms": 1.0, "vector_cached": True, "loading_ms": 0.0},
        "space": "a space",
        "no_confident_match": False,
        "threshold": 0.5,
    }


async def test_what_is_empty_is_there_too_and_nothing_is_not_a_number(
    queries: FakeQueries, client: httpx.AsyncClient
) -> None:
    queries.reply = query_pb2.SearchReply(hits=[query_pb2.Hit(score=float("nan"), confidence=float("inf"))])
    answer = await client.get(SEARCH, params={"q": "red truck"})
    (hit,) = answer.json()["hits"]
    assert (hit["score"], hit["confidence"], hit["kind"], hit["objects"]) == (0, 0, "", [])
    assert answer.json()["coverage"]["gaps"] == []
    assert answer.json()["no_confident_match"] is False


EVERYTHING: dict[str, Any] = {
    "q": "red truck",
    "camera": ["gate", "dock"],
    "group": ["yard"],
    "start_ms": 1,
    "end_ms": 2,
    "limit": 3,
    "object": ["person"],
    "min_confidence": 0.5,
    "order": "time",
    "all_moments": True,
}
PASSED_ON = {
    "text": "red truck",
    "image": None,
    "moment_id": None,
    "cameras": ["gate", "dock"],
    "groups": ["yard"],
    "start_ms": 1,
    "end_ms": 2,
    "limit": 3,
    "objects": ["person"],
    "min_confidence": 0.5,
    "all_moments": True,
    "by_time": True,
}


async def test_every_parameter_reaches_the_query_service(queries: FakeQueries, client: httpx.AsyncClient) -> None:
    await client.get(SEARCH, params=EVERYTHING)
    await client.post(SEARCH, json=EVERYTHING)
    assert queries.asked == [PASSED_ON, PASSED_ON]


async def test_a_picture_as_body_is_the_question(queries: FakeQueries, client: httpx.AsyncClient) -> None:
    filters = {key: value for key, value in EVERYTHING.items() if key != "q"}
    for kind in ("image/jpeg", "image/png", "image/webp; q=1"):
        answer = await client.post(SEARCH, params=filters, content=JPEG, headers={"content-type": kind})
        assert answer.status_code == 200
    assert queries.asked == 3 * [{**PASSED_ON, "text": None, "image": JPEG}]


async def test_a_moment_is_the_question(queries: FakeQueries, client: httpx.AsyncClient) -> None:
    await client.get(SEARCH, params={"like": MOMENT})
    (asked,) = queries.asked
    assert (asked["moment_id"], asked["text"], asked["limit"]) == (MOMENT, None, 10)


async def test_words_of_every_language_arrive(queries: FakeQueries, client: httpx.AsyncClient) -> None:
    words = "戴红帽子的人 ü & = + % \U0001f698"
    await client.get(SEARCH, params={"q": words})
    await client.post(SEARCH, json={"q": words})
    assert [asked["text"] for asked in queries.asked] == [words, words]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "exactly one of q and like"),
        ("q=a&like=b", "exactly one of q and like"),
        ("q=a&q=b", "'q' is given twice"),
        ("q=a&limit=ten", "limit = 'ten'"),
        ("q=a&limit=0", "limit = '0'"),
        ("q=a&start_ms=-1", "start_ms = '-1'"),
        ("q=a&min_confidence=nan", "min_confidence"),
        ("q=a&min_confidence=2", "min_confidence"),
        ("q=a&order=best", "'relevance' or 'time'"),
        ("q=a&all_moments=yes", "all_moments"),
        ("q=a&start_ms=9007199254740993", "start_ms"),
        ("q=a&cameras=gate", "known are: all_moments, camera"),
        ("q=a&" + "&".join(1001 * ["camera=a"]), "camera"),
        ("q=a&limit=" + 10_000 * "9", "limit = '" + 60 * "9" + "'"),
    ],
    ids=lambda value: value[:30],
)
async def test_a_question_that_cannot_be_asked_says_why(
    queries: FakeQueries, client: httpx.AsyncClient, query: str, says: str
) -> None:
    answer = await client.get(f"{SEARCH}?{query}")
    assert_problem(answer, 400, "Invalid", "invalid")
    assert says in answer.json()["detail"] + answer.json()["todo"]
    assert len(answer.content) < 1000
    assert queries.asked == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"q": 1}', "application/json", 400),
        (b'{"q": null}', "application/json", 400),
        (b'{"q": "a", "limit": "3"}', "application/json", 400),
        (b'{"q": "a", "extra": 1}', "application/json", 400),
        (b'{"q": "\\ud800"}', "application/json", 400),
        (b'{"q": "\xff"}', "application/json", 400),
        (100_000 * b"[", "application/json", 400),
        (b'{"q": "a", "limit": 1e400}', "application/json", 400),
        (b'{"q": "a"}', "text/plain", 415),
        (b'{"q": "a"}', "", 415),
        (b"GIF89a", "image/gif", 415),
        (b"q=a", "application/x-www-form-urlencoded", 415),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_body_that_is_no_question_is_refused(
    queries: FakeQueries, client: httpx.AsyncClient, body: bytes, kind: str, status: int
) -> None:
    answer = await client.post(SEARCH, content=body, headers={"content-type": kind} if kind else {})
    assert_problem(answer, status)
    assert queries.asked == []


async def test_filters_of_the_query_string_hold_where_the_body_says_nothing(
    queries: FakeQueries, client: httpx.AsyncClient
) -> None:
    await client.post(f"{SEARCH}?limit=3&camera=dock", json={"q": "a", "limit": 5})
    (asked,) = queries.asked
    assert (asked["text"], asked["limit"], asked["cameras"]) == ("a", 5, ["dock"])


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (away(Invalid), 400, None),
        (away(Denied), 403, None),
        (away(Unknown), 404, None),
        (away(Overloaded), 429, "1"),
        (away(Transient), 503, "2"),
        (away(Mismatch), 503, "2"),
        (away(Late), 504, None),
        (away(Broken), 500, None),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("path", [f"{SEARCH}?q=a", f"/api/v1/moments/{MOMENT}/picture", "/api/v1/cameras"])
async def test_every_error_of_the_tree_has_its_status_and_says_what_to_do(
    queries: FakeQueries, client: httpx.AsyncClient, error: WatchwordError, status: int, retry: str | None, path: str
) -> None:
    queries.error = error
    answer = await client.get(path)
    name = type(error).__name__
    assert_problem(answer, status, name, name.lower())
    assert answer.json()["detail"] == "it does not answer"
    assert answer.json()["todo"] == "is it running?"
    assert answer.headers.get("retry-after") == retry


async def test_a_poisonous_picture_keeps_its_reason(queries: FakeQueries, client: httpx.AsyncClient) -> None:
    queries.error = Poison("not_an_image", "it is not a picture")
    answer = await client.post(SEARCH, content=b"x", headers={"content-type": "image/png"})
    assert_problem(answer, 400, "Invalid", "not_an_image")


async def test_a_bug_is_told_without_its_inside(queries: FakeQueries, client: httpx.AsyncClient) -> None:
    queries.error = RuntimeError("a secret of the inside")
    answer = await client.get(f"{SEARCH}?q=a")
    assert_problem(answer, 500, "Broken")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/api/v2/search", "/nothing.js", "/api/v1/search/", "/%00", "/..%2f"]
)
async def test_an_unknown_path_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    assert_problem(await client.get(path), 404, "Invalid", "no_such_path")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", SEARCH, {"GET", "HEAD", "POST"}),
        ("POST", "/api/v1/cameras", {"GET", "HEAD"}),
        ("OPTIONS", SEARCH, {"GET", "HEAD", "POST"}),
        ("POST", "/", {"GET", "HEAD"}),
        ("NONSENSE", "/api/v1/health", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_told_which_there_are(
    client: httpx.AsyncClient, method: str, path: str, allow: set[str]
) -> None:
    answer = await client.request(method, path)
    assert_problem(answer, 405, "Invalid", "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allow


async def test_a_picture_is_served_once_and_then_known_by_its_tag(
    queries: FakeQueries, client: httpx.AsyncClient
) -> None:
    path = f"/api/v1/moments/{MOMENT}/picture"
    answer = await client.get(path, params={"at_ms": 7})
    assert (answer.content, answer.headers["content-type"]) == (JPEG, "image/jpeg")
    assert answer.headers["x-watchword-at-ms"] == "7"
    assert answer.headers["cache-control"].startswith("private")
    tag = answer.headers["etag"]
    assert tag[0] == tag[-1] == '"'
    for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await client.get(path, headers={"if-none-match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["x-watchword-at-ms"] == "0"
    other = await client.get(path, headers={"if-none-match": '"other"'})
    assert other.status_code == 200
    assert queries.asked[0] == {"moment_id": MOMENT, "at_ms": 7}


async def test_cameras_and_kinds_are_told(client: httpx.AsyncClient) -> None:
    told = (await client.get("/api/v1/cameras")).json()
    assert told["kinds"] == ["car", "person"]
    gate, old = told["cameras"]
    assert (gate["name"], gate["watching"], gate["groups"]) == ("gate", True, ["yard"])
    assert (old["name"], old["watching"], old["groups"]) == ("old", False, [])
    assert gate["status"] == {
        **dict.fromkeys(old["status"], 0),
        "state": "live",
        "why": "",
        "gate": "",
        "gate_why": "",
        "codec": "h264",
        "fps_got": 1.9,
        "advice": ["ask for more"],
    }


async def test_health_says_what_to_do_when_the_query_service_is_away(
    queries: FakeQueries, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/api/v1/health")).json() == {"ready": True, "version": "1.2.3"}
    queries.error = away(Transient)
    answer = await client.get("/api/v1/health")
    assert answer.status_code == 200
    assert answer.json() == {"ready": False, "version": "1.2.3", "todo": "it does not answer: is it running?"}


async def test_a_head_is_answered_like_a_get(client: httpx.AsyncClient) -> None:
    answer = await client.head(f"{SEARCH}?q=a")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


def assert_problem(answer: httpx.Response, status: int, title: str = "", reason: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert list(body) == ["type", "title", "status", "detail", "todo", "reason"]
    assert body["status"] == status
    assert not title or body["title"] == title
    assert not reason or body["reason"] == reason
    assert "default-src 'none'" in answer.headers["content-security-policy"]
