"""Changing cameras over HTTP: who may, what comes of it, and what never leaves the house."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from catalog.audit import FolderSink
from catalog.cameras import CameraRegistry
from catalog.life import Life
from catalog.store import Catalog
from manage.cameras import CameraKeeper
from manage.client import ManageClient
from manage.desk import Desk, Surroundings
from manage.looking import MOST_LOOKS, Look
from manage.manager import Manager
from manage.service import ManageService
from proto.access import Caller, Role, Scope
from proto.errors import Denied, Overloaded, Unknown
from proto.types import Camera, Recording
from proto.v1 import manage_pb2
from query.service import serve_query
from query.settings import QuerySettings
from tests.gateway.fakes import FakeQueries, client_of
from tests.manage.fakes import JPEG, InProcess, Sources, surroundings_in
from tests.query.fakes import catalog_in, searcher

SECRET = "hunter2-and-more"
URL = f"rtsp://boss:{SECRET}@10.0.0.7/stream?pwd={SECRET}"
MASK = [[0, 0], [0.5, 0], [0.5, 0.5]]
CALLERS = {
    "viewer": Caller("v", Role.VIEWER),
    "operator": Caller("o", Role.OPERATOR),
    "admin": Caller("a", Role.ADMIN),
    "ingest": Caller("i", Role.INGEST),
    "dock": Caller("d", Role.OPERATOR, Scope(frozenset({"dock", "quay"}))),
    "dock viewer": Caller("dv", Role.VIEWER, Scope(frozenset({"dock"}))),
    "dock admin": Caller("da", Role.ADMIN, Scope(frozenset({"dock", "quay"}))),
}


@dataclass
class Front:
    """A gateway on a catalog, and what is behind it."""

    http: httpx.AsyncClient
    catalog: Catalog
    sources: Sources

    async def ask(self, token: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token.replace(' ', '-')}"} if token else {}
        headers |= more.pop("headers", {})
        answer = await self.http.request(method, f"/api/v1/{path}", headers=headers, **more)
        assert SECRET not in answer.text + str(answer.headers)
        return answer

    def camera(self, name: str) -> Camera:
        return CameraRegistry(self.catalog).get(name)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Front]:
    catalog, sources = catalog_in(tmp_path), Sources()
    CameraRegistry(catalog).add_missing(Camera(name, URL) for name in ("gate", "dock"))
    manager = Manager(CameraKeeper(catalog), sources.look, Desk(catalog, surroundings_in(tmp_path)))
    manage = InProcess(manager, {name.replace(" ", "-"): who for name, who in CALLERS.items()})
    async with client_of(FakeQueries(), manage=manage) as http:
        yield Front(http, catalog, sources)
    catalog.close()


def calls(name: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Every call about a camera."""
    match = {"headers": {"if-match": "*"}}
    return [
        ("GET", f"cameras/{name}", {}),
        ("PATCH", f"cameras/{name}", {"json": {"fps": 3}, **match}),
        ("POST", f"cameras/{name}/test-picture", {"json": {}}),
        ("DELETE", f"cameras/{name}", match),
    ]


async def test_who_may_only_see_changes_nothing_and_learns_nothing(desk: Front) -> None:
    adding = ("PUT", "cameras/{}", {"json": {"url": URL}})
    for role in ("viewer", "dock viewer", "ingest"):
        for there, nowhere in zip([*calls("gate"), adding], [*calls("gaet"), adding], strict=True):
            answers = [
                await desk.ask(role, one[0], one[1].format(name), **one[2])
                for one, name in ((there, "gate"), (nowhere, "gaet"))
            ]
            assert {one.status_code for one in answers} == {403}
            assert answers[0].text == answers[1].text
    assert desk.sources.looked == []
    assert desk.camera("gate") == Camera("gate", URL)


async def test_a_camera_of_others_is_as_if_it_were_not_there(desk: Front) -> None:
    for role in ("dock", "dock admin"):
        for there, nowhere in zip(calls("gate"), calls("gaet"), strict=True):
            forbidden, unknown = [await desk.ask(role, one[0], one[1], **one[2]) for one in (there, nowhere)]
            assert forbidden.text == unknown.text.replace("gaet", "gate")
            assert forbidden.status_code == unknown.status_code == 404
        for name in ("gate", "gaet"):  # to look at a new source, and to add it
            for method, path in (("PUT", f"cameras/{name}"), ("POST", f"cameras/{name}/test-picture")):
                answer = await desk.ask(role, method, path, json={"url": URL})
                assert (answer.status_code, name in answer.json()["detail"]) == (403, False)
    assert desk.sources.looked == []
    assert (await desk.ask("dock", "PATCH", "cameras/dock", json={"fps": 1}, headers={"if-match": "*"})).is_success
    refused = await desk.ask("dock", "PATCH", "cameras/dock", json={"groups": ["yard"]}, headers={"if-match": "*"})
    assert refused.status_code == 403
    assert (await desk.ask("dock", "PUT", "cameras/quay", json={"url": "rtsp://10.0.0.9/"})).status_code == 201


async def test_a_camera_is_looked_at_added_changed_removed_and_returns_with_its_masks(desk: Front) -> None:
    seen = await desk.ask("operator", "POST", "cameras/yard/test-picture", json={"url": URL})
    assert (seen.content, seen.headers["content-type"]) == (JPEG, "image/jpeg")
    assert seen.headers["x-watchword-source"] == "h264 1280 720 25"
    new = {
        "url": URL,
        "groups": ["outside"],
        "packet_gate": "off",
        "site": "north",
        "fps": 1.5,
        "retention_days": 7,
        "retention_bytes": 2_000_000_000,
        "record": {"days": 2},
    }
    added = await desk.ask("operator", "PUT", "cameras/yard", json=new)
    assert added.status_code == 201
    assert added.json()["address"] == "rtsp://10.0.0.7/stream"
    assert (added.json()["retention_days"], added.json()["record"]["days"]) == (7, 2)
    assert added.json()["packet_gate"] == desk.camera("yard").packet_gate == "off"
    assert added.json()["site"] == desk.camera("yard").site == "north"
    assert added.json()["retention_bytes"] == 2_000_000_000
    assert Life(desk.catalog).rules().days["yard"] == 7
    assert Life(desk.catalog).rules().limit("yard") == 2_000_000_000
    tag = added.headers["etag"]
    change = {
        "masks": [MASK],
        "unmasked_recording": True,
        "fps": None,
        "retention_days": None,
        "retention_bytes": None,
        "record": {"on": False},
    }
    changed = await desk.ask("operator", "PATCH", "cameras/yard", json=change, headers={"if-match": tag})
    assert changed.status_code == 200, changed.text
    assert changed.json()["masks"] == [MASK]
    assert desk.camera("yard").url == URL
    assert desk.camera("yard").record == Recording(2, 50_000_000_000, on=False)
    assert Life(desk.catalog).rules().days == Life(desk.catalog).rules().bytes == {}
    for stale in ({"if-match": tag}, {"if-match": '"nonsense"'}, {}):
        for method, more in (("PATCH", {"json": {"fps": 9}}), ("DELETE", {})):
            late = await desk.ask("operator", method, "cameras/yard", headers=stale, **more)
            assert late.status_code == (412 if stale else 428)
    assert desk.camera("yard").fps is None
    again = await desk.ask("operator", "GET", "cameras/yard", headers={"if-none-match": changed.headers["etag"]})
    assert again.status_code == 304
    gone = await desk.ask("operator", "DELETE", "cameras/yard", headers={"if-match": changed.headers["etag"]})
    assert (gone.status_code, gone.content) == (204, b"")
    assert not desk.camera("yard").watching
    assert (await desk.ask("operator", "GET", "cameras/yard")).json()["watching"] is False
    back = await desk.ask("operator", "PUT", "cameras/yard", json={"url": URL})
    assert back.json()["masks"] == [MASK]


async def test_of_two_who_change_the_same_state_one_is_told_so(desk: Front) -> None:
    tag = {"if-match": (await desk.ask("operator", "GET", "cameras/gate")).headers["etag"]}
    changes = [desk.ask("operator", "PATCH", "cameras/gate", json={"fps": fps}, headers=tag) for fps in (1, 2, 3)]
    assert sorted(one.status_code for one in await asyncio.gather(*changes)) == [200, 412, 412]


async def test_the_description_of_these_calls_is_valid(desk: Front) -> None:
    told = (await desk.ask("", "GET", "openapi.json")).json()
    OpenAPIV31SpecValidator(told).validate()
    assert set(told["paths"]["/api/v1/cameras/{name}"]) == {"get", "put", "patch", "delete"}
    assert {"412", "428"} <= set(told["paths"]["/api/v1/cameras/{name}"]["patch"]["responses"])


async def test_who_am_i(desk: Front) -> None:
    me = (await desk.ask("dock", "GET", "me")).json()
    assert me == {"name": "d", "role": "operator", "every_camera": False, "demo": []}
    assert (await desk.ask("", "GET", "me")).json()["role"] == "admin"  # where no token is needed
    assert (await desk.ask("ingest", "GET", "me")).status_code == 403
    assert (await desk.ask("who", "GET", "me")).status_code == 401


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "url"),
    ({"url": ""}, "url"),
    ({"url": f"ftp://boss:{SECRET}@host/"}, "no kind|kind of camera"),
    ({"url": f"rtsp://{SECRET}" * 300}, "url"),
    ({"url": f"rtsp://a\n{SECRET}"}, "address"),
    ({"url": [SECRET]}, "url"),
    ({"url": "/etc/passwd"}, "network"),
    ({"url": "file:///etc/passwd"}, "network"),
    ({"url": "/dev/video0"}, "network"),
    ({"url": "concat:/etc/passwd"}, "network"),
    ({"url": "synthetic:9999x9999@99"}, "network"),
    ({"url": URL, "packet_gate": "wide"}, "packet_gate"),
    ({"url": URL, "site": "no site"}, "site"),
    ({"url": "rtsp://away/"}, "answers"),
    ({"url": URL, "fps": 0}, "looked at"),
    ({"url": URL, "fps": "NaN"}, "fps"),
    ({"url": URL, "masks": [[[0, 0], [1, 1], [1, 0], [0, 1]]]}, "crosses"),
    ({"url": URL, "masks": [MASK] * 33}, "masks"),
    ({"url": URL, "masks": [[[0, 0], [2, 0], [0, 1]]]}, "masks"),
    ({"url": URL, "masks": [MASK], "record": {"days": 1}}, "masks and be recorded"),
    ({"url": URL, "record": {"bytes": 5}}, "below"),
    ({"url": URL, "retention_days": 0.001}, "retention"),
    ({"url": URL, "retention_bytes": 0}, "cannot be kept within 0 bytes"),
    ({"url": URL, "retention_bytes": 5_000_000}, "within 5000000 bytes"),
    ({"url": URL, "groups": ["../x"]}, "group"),
    ({"url": URL, "name": "other"}, "no parameter"),
    ({"url": URL, "enabled": None}, "enabled"),
]


async def test_what_cannot_be_is_told_and_nothing_is_added(desk: Front) -> None:
    for body, told in WRONG:
        answer = await desk.ask("operator", "PUT", "cameras/new", json=body)
        assert answer.status_code in (400, 503)
        assert any(one in answer.json()["detail"] for one in told.split("|")), answer.json()
    assert "new" not in CameraRegistry(desk.catalog).names()


async def test_only_an_admin_of_all_has_files_opened_by_their_whole_path(desk: Front) -> None:
    for role, path, status in (
        ("admin", "/videos/a.mp4", 201),
        ("admin", "videos/a.mp4", 400),
        ("dock admin", "/videos/a.mp4", 400),
    ):
        name = "dock" if role == "dock admin" else "film"
        seen = await desk.ask(role, "POST", f"cameras/{name}/test-picture", json={"url": path})
        assert seen.status_code == (200 if status == 201 else status)
        if role == "admin":
            assert (await desk.ask(role, "PUT", "cameras/film", json={"url": path})).status_code == status


async def test_a_name_that_is_none_and_a_body_that_is_none(desk: Front) -> None:
    assert (await desk.ask("operator", "PUT", "cameras/..%2f", json={"url": URL})).status_code == 404
    assert (await desk.ask("operator", "PUT", "cameras/a b", json={"url": URL})).status_code == 400
    assert (await desk.ask("operator", "PUT", "cameras/" + "x" * 3000, json={"url": URL})).status_code == 400
    form = {"content": f"url={URL}", "headers": {"content-type": "application/x-www-form-urlencoded"}}
    assert (await desk.ask("operator", "PUT", "cameras/new", **form)).status_code == 415
    cut = {"content": b'{"url": "rtsp://' + SECRET.encode(), "headers": {"content-type": "application/json"}}
    assert (await desk.ask("operator", "PUT", "cameras/new", **cut)).status_code == 400
    assert (await desk.ask("operator", "PATCH", "cameras/gate", json={}, headers={"if-match": "*"})).status_code == 400


async def test_few_addresses_are_checked_at_once(desk: Front) -> None:
    waiting = asyncio.Event()
    look = desk.sources.look

    async def slow(camera: Camera) -> Look:
        await waiting.wait()
        return await look(camera)

    manager = Manager(CameraKeeper(desk.catalog), slow, Desk(desk.catalog, Surroundings()))

    def adding(name: str, *, unchecked: bool = False) -> asyncio.Task[Any]:
        settings = manage_pb2.CameraSettings(name=name)
        request = manage_pb2.AddCameraRequest(settings=settings, url=URL, unchecked=unchecked)
        return asyncio.create_task(manager.answer(request, CALLERS["operator"]))

    first = [adding(f"c{number}") for number in range(MOST_LOOKS)]
    with pytest.raises(Overloaded):
        await adding("more")
    await adding("more", unchecked=True)
    waiting.set()
    await asyncio.gather(*first)
    await adding("again")


@pytest.mark.parametrize(
    "page",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "https://wall.example"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
    ],
)
async def test_a_page_of_another_origin_changes_nothing_without_a_token(desk: Front, page: dict[str, str]) -> None:
    answer = await desk.ask("", "DELETE", "cameras/gate", headers={"if-match": "*", **page})
    assert answer.status_code == 403
    assert desk.camera("gate").watching
    own = {"origin": "http://127.0.0.1:8701", "sec-fetch-site": "same-origin"}
    assert (await desk.ask("", "GET", "cameras/gate", headers=own)).status_code == 200


async def test_over_grpc_calls_are_noted_without_secrets_and_few_look_at_once(tmp_path: Path) -> None:
    catalog, sources = catalog_in(tmp_path), Sources()
    noted: list[dict[str, Any]] = []
    service = ManageService(Manager(CameraKeeper(catalog), sources.look, Desk(catalog, Surroundings())))
    assert service.admissions["TestPicture"].most == MOST_LOOKS
    from index.memory import MemoryStore
    from tests.contracts.moments import SPACE

    server = await serve_query(
        searcher(MemoryStore(SPACE), tmp_path),
        QuerySettings(),
        "127.0.0.1:0",
        note=lambda entry: noted.append(dict(entry)),
        beside=(service,),
    )
    try:
        async with ManageClient(server.address, 10.0) as client:
            settings = manage_pb2.CameraSettings(name="yard")
            request = manage_pb2.AddCameraRequest(settings=settings, url=URL)
            told = await client.ask(request, manage_pb2.CameraSettings)
            assert told.address == "rtsp://10.0.0.7/stream"
            with pytest.raises(Unknown, match="gaet"):
                await client.ask(manage_pb2.GetCameraRequest(name="gaet"), manage_pb2.CameraSettings)
            with pytest.raises(Unknown):
                await client.ask(manage_pb2.TestPictureRequest(name="other"), manage_pb2.TestPictureReply)
    finally:
        await server.stop(0)
    added = next(one for one in noted if one["what"] == "add camera")
    assert (added["camera"], added["address"], added["outcome"]) == ("yard", "rtsp://10.0.0.7/stream", "ok")
    assert SECRET not in str(noted)


def test_where_others_may_be_behind_a_call_nobody_is_an_admin() -> None:
    from proto.access import ANYONE, THIS_MACHINE, nobody_asked

    assert nobody_asked(THIS_MACHINE, named=False).role == Role.ADMIN
    for open_to, named in ((ANYONE, False), (THIS_MACHINE, True)):
        with pytest.raises(Denied):
            nobody_asked(open_to, named=named).check(Role.OPERATOR)


ADMINS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "tokens", {}),
    ("POST", "tokens", {"json": {"name": "x", "role": "admin"}}),
    ("DELETE", "tokens/abc", {}),
    ("GET", "audit", {}),
    ("POST", "demo", {}),
]
ERASING: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "erasures", {}),
    ("POST", "erasures", {"json": {"camera": "gate", "start_ms": 0}}),
    ("GET", "erasures/1/receipt", {}),
]


async def test_tokens_audit_and_erasures_are_for_admins_of_what_they_may_see(desk: Front) -> None:
    for role in ("viewer", "operator", "dock", "dock admin", "dock viewer", "ingest"):
        calls_of_others = [*ADMINS, *([] if role == "dock admin" else ERASING)]
        for method, path, more in calls_of_others:
            assert (await desk.ask(role, method, path, **more)).status_code == 403, (role, path)
        storage = await desk.ask(role, "GET", "storage")
        assert storage.status_code == (200 if role == "operator" else 403)
        if role == "operator":
            (gate,) = storage.json()["cameras"]
            assert (gate["bytes"], gate["bytes_days"], gate["held_below"]) == (10**10, 2.5, 3)
    made = await desk.ask(
        "admin", "POST", "erasures", json={"camera": "gate", "start_ms": 5, "end_ms": 6, "reason": "r"}
    )
    assert made.status_code == 201
    number = made.json()["number"]
    assert (await desk.ask("dock admin", "GET", "erasures")).json()["erasures"] == []
    assert (await desk.ask("admin", "GET", "erasures")).json()["erasures"][0]["reason"] == "r"
    for method, path, more in (
        ("POST", "erasures", {"json": {"camera": "{}", "start_ms": 0}}),
        ("GET", "erasures/{}/receipt", {}),
    ):
        there, nowhere = ("gate", "gaet") if method == "POST" else (str(number), str(number + 7))
        answers = []
        for name in (there, nowhere):
            body = {key: {**value, "camera": name} for key, value in more.items()}
            answers.append(await desk.ask("dock admin", method, path.format(name), **body))
        assert answers[0].text == answers[1].text.replace(nowhere, there)
        assert {one.status_code for one in answers} == {404}
    receipt = await desk.ask("admin", "GET", f"erasures/{number}/receipt")
    assert receipt.json() == {"number": number}
    assert "attachment" in receipt.headers["content-disposition"]


async def test_a_token_is_shown_once_and_revoked(desk: Front) -> None:
    made = await desk.ask(
        "admin", "POST", "tokens", json={"name": "guard", "role": "viewer", "cameras": ["gate"], "days": 1}
    )
    assert made.status_code == 201, made.text
    secret, token = made.json()["secret"], made.json()["token"]
    assert secret.startswith(f"ww_{token['id']}_")
    listed = await desk.ask("admin", "GET", "tokens")
    assert secret not in listed.text
    assert (listed.json()["tokens"][0]["cameras"], listed.json()["tokens"][0]["counts"]) == (["gate"], True)
    assert (await desk.ask("admin", "DELETE", f"tokens/{token['id']}")).json()["counts"] is False
    assert (await desk.ask("admin", "DELETE", f"tokens/{token['id']}")).status_code == 404
    CameraRegistry(desk.catalog).add(Camera("yard", URL, groups=("outside",)))
    made = await desk.ask("admin", "POST", "tokens", json={"name": "yard", "role": "viewer", "groups": ["outside"]})
    of_group = made.json()["token"]
    assert (of_group["groups"], of_group["cameras"], of_group["every_camera"]) == (["outside"], [], False)
    for wrong in (
        {"name": "x", "role": "viewer", "groups": ["nowhere"]},
        {"name": "x", "role": "king"},
        {"name": "", "role": "viewer"},
        {"name": "x", "role": "viewer", "cameras": ["nowhere"]},
        {"name": "x", "role": "viewer", "days": -1},
        {"name": "x", "role": "viewer", "days": 1e9},
    ):
        assert (await desk.ask("admin", "POST", "tokens", json=wrong)).status_code in (400, 404)


async def test_the_audit_is_read_and_verified(desk: Front, tmp_path: Path) -> None:
    assert (await desk.ask("admin", "GET", "audit")).status_code == 404
    sink = FolderSink(tmp_path / "audit", 1_000_000)
    sink.write([{"at": f"2026-01-01T00:00:0{number}Z", "what": "search", "text": "<b>"} for number in range(3)])
    sink.close()
    read = (await desk.ask("admin", "GET", "audit", params={"count": 2, "verify": True})).json()
    assert [one["n"] for one in read["lines"]] == [3, 2]
    assert [(one["lines"], one["trouble"]) for one in read["chains"]] == [(3, "")]
    path = next((tmp_path / "audit").glob("*.jsonl"))
    path.write_text(path.read_text().replace("<b>", "<i>", 1))
    read = (await desk.ask("admin", "GET", "audit", params={"verify": True})).json()
    assert "it was changed" in read["chains"][0]["trouble"]


async def test_the_demo_is_one_call_away(desk: Front) -> None:
    assert (await desk.ask("admin", "GET", "me")).json()["demo"] == ["bikes"]
    assert (await desk.ask("operator", "GET", "me")).json()["demo"] == []
    assert (await desk.ask("admin", "POST", "demo")).status_code == 204
    assert desk.camera("bikes").loop
