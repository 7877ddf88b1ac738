"""Groups in a question become their cameras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.cameras import CameraRegistry
from catalog.known import KnownStatuses
from catalog.statuses import CameraStatus, Statuses
from catalog.store import Catalog, sqlite_url
from index.memory import MemoryStore
from proto.errors import Unknown
from proto.types import Camera, now_ms
from proto.v1 import query_pb2
from query.asking import Question
from query.client import QueryClient
from query.groups import with_members
from query.noting import asked_for
from query.service import serve_query
from query.settings import QuerySettings
from tests.contracts.moments import SPACE
from tests.query.fakes import MOMENTS, searcher

CAMERAS = [
    Camera("dock", "x", groups=("yard", "site-1")),
    Camera("gate", "x", groups=("yard",)),
    Camera("hall", "x", groups=("site-1",)),
    Camera("old", "x", watching=False, groups=("past",)),
    Camera("roof", "x"),
]


@pytest.mark.parametrize(
    ("cameras", "groups", "asked"),
    [
        ((), ("yard",), ("dock", "gate")),
        ((), ("yard", "site-1"), ("dock", "gate", "hall")),
        (("roof", "gate"), ("yard",), ("dock", "gate", "roof")),
        ((), ("past",), ("old",)),
        (("roof",), (), ("roof",)),
        ((), (), ()),
    ],
)
def test_a_question_is_about_the_cameras_of_its_groups_and_those_it_names(
    cameras: tuple[str, ...], groups: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    found = with_members(Question("x", cameras=cameras, groups=groups), CAMERAS)
    assert (found.cameras, found.groups) == (asked, ())


def test_a_group_without_cameras_is_an_error_and_never_all_cameras() -> None:
    for group in ("yrad", "", "x" * 10_000):
        with pytest.raises(Unknown, match=r"known here: .*yard"):
            with_members(Question("x", groups=("yard", group)), CAMERAS)
    with pytest.raises(Unknown, match="--group GROUP"):
        with_members(Question("x", groups=("yard",)), [])


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[QueryClient]:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    made = searcher(store, tmp_path)
    catalog = Catalog(sqlite_url(tmp_path / "catalog.db"))
    catalog.open()
    server = await serve_query(made, QuerySettings(), "127.0.0.1:0", statuses=KnownStatuses(Statuses(catalog)))
    async with QueryClient(server.address, 10.0) as client:
        yield client
    await server.stop(0)
    catalog.close()


async def test_a_group_that_was_made_just_now_can_be_asked(client: QueryClient, tmp_path: Path) -> None:
    await client.search(text="red truck", limit=5)  # what is known now is kept for a second
    catalog = Catalog(sqlite_url(tmp_path / "catalog.db"))
    registry = CameraRegistry(catalog)
    registry.change("gate", lambda camera: Camera(camera.name, camera.url, groups=("yard",)))
    hits = (await client.search(text="red truck", groups=["yard"])).hits
    assert hits and {hit.camera for hit in hits} == {"gate"}
    with pytest.raises(Unknown, match="'yrad': known here: yard"):
        await client.search(text="red truck", groups=["yrad"])
    catalog.close()


async def test_cameras_say_their_groups_and_how_they_are_doing(client: QueryClient, tmp_path: Path) -> None:
    catalog, now = Catalog(sqlite_url(tmp_path / "catalog.db")), now_ms()
    status = CameraStatus("gate", "failing", now - 5_000, now, "no camera answers", gop_frames=50, source_fps=25.0)
    Statuses(catalog).put_statuses([status])
    CameraRegistry(catalog).change("gate", lambda camera: Camera(camera.name, camera.url, groups=("yard",)))
    found = {one.name: one for one in await client.cameras()}
    assert list(found["gate"].groups) == ["yard"]
    told = found["gate"].status
    assert (told.state, told.since_ms, told.why, told.gop_s) == ("failing", now - 5_000, "no camera answers", 2.0)
    assert found["dock"].status.state == "unknown"
    catalog.close()


def test_however_many_groups_there_are_a_wrong_name_is_compared_with_few(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def matches(_: str, names: list[str], **__: object) -> list[str]:
        compared.append(len(names))
        return names[:1]

    monkeypatch.setattr("catalog.cameras.get_close_matches", matches)
    with pytest.raises(Unknown, match="known here"):
        with_members(Question("x", groups=("yrad",)), [Camera(f"c{n}", "x", groups=(f"g{n}",)) for n in range(5000)])
    assert compared and max(compared) <= 80


def test_the_audit_says_which_groups_were_asked_about() -> None:
    assert asked_for(query_pb2.SearchRequest(text="dog", groups=["yard"])) == {"text": "dog", "groups": ["yard"]}
