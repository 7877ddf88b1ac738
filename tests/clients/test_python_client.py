"""The Python client, sync and async, against a real query service."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

import watchword_client
from catalog.known_tokens import KnownTokens
from catalog.tokens import TokenRegistry
from proto import errors
from proto.access import Role
from proto.errors import Poison, Transient
from proto.rpc import on_the_wire
from proto.types import now_ms
from proto.v1 import query_pb2, query_pb2_grpc
from query.callers import TokenCallers
from query.service import QueryServer
from query.settings import QuerySettings
from tests.cameras.filming import numbers
from tests.clients.house import PICTURE, a_house
from tests.query.fakes import MOMENTS, catalog_in
from tests.tools.certificates import Root
from watchword_client import AsyncClient, Client, Found, Tls

AT_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GATE = MOMENTS[0].id
README = Path(__file__).parents[2] / "clients/python/README.md"

Ask = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.long


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[QueryServer]:
    async with a_house(tmp_path) as server:
        yield server


def asking(kind: str, address: str, **how: Any) -> Ask:
    """Calls a method of a client by its name, whichever of the two it is."""

    async def ask(name: str, *args: Any, **more: Any) -> Any:
        if kind == "async":
            async with AsyncClient(address, **how) as client:
                return await getattr(client, name)(*args, **more)
        with Client(address, **how) as client:
            return await asyncio.to_thread(getattr(client, name), *args, **more)

    return ask


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: QueryServer) -> Ask:
    return asking(request.param, server.address)


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, str]:
        found = inspect.getmembers(kind, lambda one: inspect.isfunction(one) and not one.__name__.startswith("_"))
        return {name: str(inspect.signature(call)) for name, call in found}

    assert calls(Client) == calls(AsyncClient)


def test_the_errors_are_those_of_the_service() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.WatchwordError):
            mine = getattr(watchword_client, name)
            assert {base.__name__ for base in kind.__mro__} <= {base.__name__ for base in mine.__mro__}


async def test_words_a_picture_and_a_moment_are_questions(ask: Ask, tmp_path: Path) -> None:
    found: Found = await ask("search", "red truck gate", limit=2)
    best = found.hits[0]
    assert (best.moment_id, best.camera, best.start, best.end) == (GATE, "gate", AT_NOON, AT_NOON + timedelta(0, 2))
    assert (len(found.hits), found.confident, best.recorded, best.box) == (2, False, True, best.box)
    assert found.space and found.took_s > 0
    (tmp_path / "dog.jpg").write_bytes(b"jpeg:dog")
    for picture in (b"jpeg:dog", tmp_path / "dog.jpg", str(tmp_path / "dog.jpg")):
        assert (await ask("search_picture", picture)).hits[0].start == AT_NOON + timedelta(minutes=1)
    for moment in (best, GATE):
        like = await ask("more_like", moment)
        assert like.hits and GATE not in {hit.moment_id for hit in like.hits}


async def test_filters_narrow_and_order(ask: Ask) -> None:
    found = await ask("search", "truck", cameras="dock", by_time=True, all_moments=True)
    assert [(hit.camera, hit.start) for hit in found.hits] == [
        ("dock", AT_NOON),
        ("dock", AT_NOON + timedelta(minutes=2)),
    ]
    later = await ask("search", "truck", start=AT_NOON + timedelta(minutes=1), end=AT_NOON + timedelta(minutes=2))
    assert {hit.start for hit in later.hits} == {AT_NOON + timedelta(minutes=1)}
    assert (await ask("search", "truck", min_confidence=1.0)).hits == ()


async def test_pages_are_of_one_answer(ask: Ask) -> None:
    found = await ask("search", "truck", limit=100)
    pages = list(found.pages(3))
    assert [len(page) for page in pages] == [3, 1]
    assert sum(pages, ()) == found.hits
    with pytest.raises(watchword_client.Invalid):
        found.pages(0)


async def test_pictures_and_clips_are_saved_whole(ask: Ask, tmp_path: Path) -> None:
    picture = await ask("thumbnail", GATE)
    assert (picture.jpeg, picture.at) == (PICTURE, None)
    wanted = tmp_path / "clips" / "gate.mp4"
    wanted.parent.mkdir()
    clip = await ask("save_clip", wanted, camera="gate", start=AT_NOON, end=AT_NOON + timedelta(seconds=1))
    assert (clip.camera, clip.start, clip.missing) == ("gate", AT_NOON - timedelta(seconds=1), ())
    assert wanted.stat().st_size == clip.bytes
    assert numbers(wanted.read_bytes()) == list(range(10, 30))
    with pytest.raises(watchword_client.Unknown):
        await ask("save_clip", wanted, moment=MOMENTS[3].id)
    assert (wanted.stat().st_size, list(wanted.parent.iterdir())) == (clip.bytes, [wanted])


async def test_cameras_and_coverage_are_told(ask: Ask) -> None:
    known = await ask("known")
    assert [camera.name for camera in known.cameras] == ["dock", "gate", "gate-2"]
    assert {camera.status.state for camera in known.cameras} == {"unknown"}
    assert known.cameras[0].status.told is None
    coverage = await ask("coverage", cameras=["gate"])
    assert not coverage.unknown
    assert set(coverage.looked_until) <= {"gate"}


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("search", ("a",), {"camera": "gate"}, "there is no filter camera"),
    ("coverage", (), {"limit": 3}, "there is no filter limit"),
    ("search", ("a",), {"start": datetime(2026, 1, 1)}, "has no time zone"),
    ("search", ("a",), {"start": 3}, "3 has no time zone"),
    ("search", ("\ud800",), {}, "cannot be sent"),
    ("search", (3,), {}, "cannot be sent"),
    ("search", ("a",), {"limit": -1}, "cannot be sent"),
    ("search_picture", ("/nowhere.jpg",), {}, "/nowhere.jpg cannot be read"),
    ("save_clip", ("a.mp4",), {}, "give either"),
    ("save_clip", ("a.mp4",), {"camera": "gate"}, "give start and end"),
    ("save_clip", ("a.mp4",), {"moment": GATE, "start": AT_NOON}, "its own start"),
    ("save_clip", ("/nowhere/a.mp4",), {"moment": GATE}, "/nowhere/a.mp4 cannot be written"),
    ("search", (" ",), {}, "say in words what to look for"),
    ("search_picture", (b"x",), {}, "not a picture"),
]


async def test_what_cannot_be_asked_says_why(ask: Ask) -> None:
    for name, args, more, says in WRONG:
        with pytest.raises(watchword_client.Invalid) as refused:
            await ask(name, *args, **more)
        assert says in str(refused.value)


async def test_an_error_carries_what_to_do_and_why(ask: Ask) -> None:
    with pytest.raises(watchword_client.Unknown) as unknown:
        await ask("search", "dog", cameras=["gaet"])
    assert "gaet" in unknown.value.message and "gate" in unknown.value.todo
    assert unknown.value.reason == "unknown"


class Flaky(query_pb2_grpc.QueryServicer):
    """Refuses some calls with an error. Then answers; a clip stops coming after its head."""

    def __init__(self) -> None:
        self.refuses: list[errors.WatchwordError] = []
        self.calls = 0

    async def Search(self, request: Any, context: Any) -> query_pb2.SearchReply:  # noqa: N802
        self.calls += 1
        if self.refuses:
            code, details, metadata = on_the_wire(self.refuses.pop(0))
            await context.abort(code, details, metadata)
        return query_pb2.SearchReply(threshold=0.5)

    async def Clip(self, request: Any, context: Any) -> AsyncIterator[query_pb2.ClipPart]:  # noqa: N802
        yield query_pb2.ClipPart(head=query_pb2.ClipHead(bytes=10))
        if request.moment_id == "stalls":
            await asyncio.Event().wait()
        yield query_pb2.ClipPart(data=b"half")

    async def Cameras(self, request: Any, context: Any) -> query_pb2.CamerasReply:  # noqa: N802
        return query_pb2.CamerasReply()

    async def Thumbnail(self, request: Any, context: Any) -> query_pb2.ThumbnailReply:  # noqa: N802
        return query_pb2.ThumbnailReply()


@pytest.fixture
async def flaky() -> AsyncIterator[tuple[Flaky, str]]:
    server, service = grpc.aio.server(), Flaky()
    query_pb2_grpc.add_QueryServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield service, f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_what_passes_is_tried_again_and_what_is_wrong_is_not(flaky: tuple[Flaky, str], kind: str) -> None:
    service, address = flaky
    service.refuses = [Transient("away"), Transient("still away")]
    assert (await asking(kind, address)("search", "a")).threshold == 0.5
    assert service.calls == 3
    service.refuses = [Poison("too_large", "wrong ü", todo="change ü")]
    with pytest.raises(watchword_client.Poison, match="wrong ü: change ü") as refused:
        await asking(kind, address)("search", "a")
    assert (refused.value.reason, refused.value.todo, service.calls) == ("too_large", "change ü", 4)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_clip_that_stops_or_ends_early_leaves_no_file(
    flaky: tuple[Flaky, str], kind: str, tmp_path: Path
) -> None:
    ask = asking(kind, flaky[1], timeout_s=0.3)
    with pytest.raises(watchword_client.Late, match="stopped coming"):
        await ask("save_clip", tmp_path / "a.mp4", moment="stalls")
    with pytest.raises(watchword_client.Transient, match="ended early"):
        await ask("save_clip", tmp_path / "a.mp4", moment="ends")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_call_to_nobody_ends_within_its_deadline(kind: str) -> None:
    with pytest.raises((watchword_client.Transient, watchword_client.Late)) as away:
        await asking(kind, "127.0.0.1:1", timeout_s=0.2)("search", "a")
    assert away.value.todo


async def test_a_closed_client_says_so(server: QueryServer) -> None:
    client, other = Client(server.address), AsyncClient(server.address)
    client.close()
    await other.close()
    for call in (lambda: client.search("a"), lambda: client.save_clip("a.mp4", moment=GATE)):
        with pytest.raises(watchword_client.Invalid, match="is the client closed"):
            call()
    for asked in (other.search("a"), other.save_clip("a.mp4", moment=GATE)):
        with pytest.raises(watchword_client.Invalid, match="is the client closed"):
            await asked


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_tokens_and_certificates_of_both_sides_open_the_door(tmp_path: Path, kind: str) -> None:
    root = Root(tmp_path)
    certificate, key = root.sign("server")
    mine = root.sign("me")
    settings = QuerySettings(certificate=str(certificate), key=str(key), client_ca=str(root.file))
    tokens = TokenRegistry(catalog_in(tmp_path))
    _, token = tokens.create("dock", Role.VIEWER, ("dock",), now_ms())
    callers = TokenCallers(KnownTokens(tokens, 600), needed=True)
    await callers.start()
    async with a_house(tmp_path, settings, callers=callers) as server:
        whole = {"token": token, "tls": Tls(root.file, *mine)}
        known = await asking(kind, server.address, **whole)("known")
        assert [camera.name for camera in known.cameras] == ["dock"]
        with pytest.raises(watchword_client.Unauthenticated):
            await asking(kind, server.address, **whole | {"token": "ww_forged"})("known")
        for tls in (Tls(root.file), Tls(), None):
            with pytest.raises((watchword_client.Transient, watchword_client.Late)):
                await asking(kind, server.address, token=token, tls=tls, timeout_s=0.3)("known")
    await callers.stop()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"token": "a b"}, "cannot be a token"),
        ({"tls": Tls("/nowhere.pem")}, "cannot be read"),
        ({"tls": Tls(__file__)}, "is no PEM file"),
        ({"tls": Tls(certificate="a")}, "certificate and key go together"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_client_that_cannot_be_says_why(how: dict[str, Any], says: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(watchword_client.Invalid, match=says):
            kind("127.0.0.1:1", **how)


def readme() -> str:
    """The examples of the README, one after another."""
    return "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))


async def test_the_examples_of_the_readme_run(server: QueryServer, tmp_path: Path) -> None:
    script = readme().replace("127.0.0.1:8700", server.address)
    # The one query service of the test runs in this process; the examples run in one that has the client only.
    environment = {"PYTHONPATH": str(README.parent), "GRPC_VERBOSITY": "ERROR"}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", script),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await child.communicate()
    assert (child.returncode, err.decode()) == (0, "")
    said = out.decode()
    assert "nothing matches with confidence" in said
    assert "Unknown\nunknown\n" in said
    assert (tmp_path / "hit.jpg").read_bytes() == PICTURE
    assert (tmp_path / "hit.mp4").exists(), said
