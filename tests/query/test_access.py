"""What a caller with a scope is told does not depend on any other camera. On the twins in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage, Gap, Looked, Reason
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from proto.access import EVERYTHING, Scope
from proto.errors import WatchwordError
from proto.types import Camera, SpaceInfo, Vector
from query.asking import Question
from query.cache import VectorCache, _key
from query.reply import reply_of
from query.search import Searcher
from query.settings import RedisSettings
from tests.contracts.moments import LOG, MINUTE, NOON, SPACE, moment
from tests.query.fakes import WordEncoder, catalog_in, searcher, vector_of

LOOP = asyncio.new_event_loop()
run = LOOP.run_until_complete
CAMERAS = ("dock", "gate", "gate-2", "yard")
GROUPS = {"dock": ("water", "site"), "gate": ("front", "site"), "gate-2": ("front", "back"), "yard": ()}
SCOPES = [frozenset(names) for names in (("gate",), ("dock", "yard"), ("nowhere",))]
TEXTS = ("red truck", "dog", "bicycle night")


class Warm(VectorCache):
    """A cache in memory, with the keys of the real one."""

    def __init__(self) -> None:
        super().__init__(RedisSettings())
        self.kept: dict[str, Vector] = {}

    async def get(self, space: SpaceInfo, text: str, scope: Scope = EVERYTHING) -> Vector | None:
        return self.kept.get(_key(space, text, scope))

    async def put(self, space: SpaceInfo, text: str, vector: Vector, scope: Scope = EVERYTHING) -> None:
        self.kept[_key(space, text, scope)] = vector


def moments_of(camera: str) -> list[Any]:
    texts = ("red truck", "dog rain", "bicycle night", camera.replace("-", " "))
    return [
        moment(camera, NOON + n * 5 * MINUTE, vector=vector_of(text), objects=(("dog", 1 + n),) if n else ())
        for n, text in enumerate(texts)
    ]


IDS = [one.id for camera in CAMERAS for one in moments_of(camera)] + ["f" * 32]


def world(folder: Path, cameras: frozenset[str]) -> Searcher:
    """A house with these cameras, and everything that is known of them."""
    catalog = catalog_in(folder)
    registry, coverage = CameraRegistry(catalog), Coverage(catalog)
    registry.add_missing(Camera(name, f"{name}.mp4", groups=GROUPS[name]) for name in sorted(cameras))
    coverage.declare([Gap(name, Reason.AWAY, NOON, NOON + MINUTE, 7 + len(name)) for name in sorted(cameras)])
    coverage.declare([Gap("", Reason.EXPIRED, NOON, NOON + MINUTE, 100 * len(cameras))])
    coverage.looked([Looked(name, NOON + len(name), LOG, 0, 1) for name in sorted(cameras)], {})
    store, pictures = MemoryStore(SPACE), Thumbnails(FolderObjects(folder / "thumbnails"))
    run(store.upsert([one for name in cameras for one in moments_of(name)]))
    for name in sorted(cameras):
        pictures.put(moments_of(name)[0].id, name.encode())
    return searcher(
        store, folder, encoder=WordEncoder(), cache=Warm(), coverage=coverage, cameras=registry, kinds=["dog"]
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    """All cameras, in which somebody who may see everything asked every question before."""
    whole = world(tmp_path_factory.mktemp("whole"), frozenset(CAMERAS))
    for text in TEXTS:
        run(whole.search(Question(text=text), timeout_s=5))
    for one in IDS[:-1]:
        run(_outcome(whole.thumbnail(one, None, EVERYTHING)))
    return whole


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[frozenset[str], Searcher]:
    """For each scope a house without all other cameras."""
    return {scope: world(tmp_path_factory.mktemp("part"), scope & frozenset(CAMERAS)) for scope in SCOPES}


async def _outcome(call: Any) -> Any:
    """What a caller can tell of an answer, apart from its time."""
    try:
        found = await call
    except WatchwordError as error:
        return type(error).__name__, error.message, error.todo
    if hasattr(found, "answer"):
        reply = reply_of(found)
        for name in ("total_ms", "embed_ms", "index_ms"):
            reply.timing.ClearField(name)
        return str(reply)
    return found


NAMES = st.lists(st.sampled_from([*CAMERAS, "gaet", "", "x" * 300]), max_size=3).map(tuple)
IDENTITIES = st.sampled_from([*IDS, "../../etc/passwd", "", "F" * 32])
TIMES = st.sampled_from([(0, 0), (NOON, NOON + MINUTE), (NOON - 5 * MINUTE, NOON + 30 * MINUTE), (0, 1), (5, 2)])
FILTERS = st.fixed_dictionaries(
    {
        "cameras": NAMES,
        "groups": st.lists(st.sampled_from(["site", "front", "back", "water", "sit"]), max_size=2).map(tuple),
        "limit": st.integers(0, 12),
        "objects": st.sampled_from([(), ("dog",), ("cat",)]),
        "min_confidence": st.sampled_from([0.0, 0.3, 0.9]),
        "all_moments": st.booleans(),
        "by_time": st.booleans(),
    }
)
QUESTIONS = st.one_of(
    st.sampled_from(TEXTS).map(lambda text: {"text": text}),
    IDENTITIES.map(lambda one: {"moment_id": one}),
    st.sampled_from([b"jpeg:dog", b"nonsense"]).map(lambda image: {"image": image}),
)
Asked = Callable[[Searcher, Scope], Any]


def _search(question: dict[str, Any], filters: dict[str, Any], times: tuple[int, int]) -> Asked:
    asked = Question(**question, **filters, start_ms=times[0], end_ms=times[1])
    return lambda house, scope: house.search(
        Question(**{name: getattr(asked, name) for name in asked.__slots__ if name != "scope"}, scope=scope),
        timeout_s=5,
    )


CALLS: st.SearchStrategy[Asked] = st.one_of(
    st.builds(_search, QUESTIONS, FILTERS, TIMES),
    IDENTITIES.map(lambda one: lambda house, scope: house.thumbnail(one, None, scope)),
    IDENTITIES.map(lambda one: lambda house, scope: house.thumbnail(one, NOON, scope)),
    IDENTITIES.map(lambda one: lambda house, scope: house.moment(one, scope)),
    NAMES.map(lambda names: lambda house, scope: house.check_cameras(names, scope)),
    st.just(lambda house, scope: house.cameras(scope)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scope=st.sampled_from(SCOPES), calls=st.lists(CALLS, min_size=1, max_size=4))
def test_an_answer_is_that_of_a_house_without_the_cameras_that_may_not_be_seen(
    house: Searcher, parts: dict[frozenset[str], Searcher], scope: frozenset[str], calls: list[Asked]
) -> None:
    for call in calls:
        here = run(_outcome(call(house, Scope(scope))))
        there = run(_outcome(call(parts[scope], Scope(scope))))
        assert here == there


@pytest.mark.parametrize("scope", [Scope(names) for names in SCOPES])
def test_hits_pictures_and_names_are_of_the_scope_alone(house: Searcher, scope: Scope) -> None:
    found = run(house.search(Question(text="dog", limit=100, all_moments=True, scope=scope), timeout_s=5))
    assert scope.cameras is not None
    seen = scope.cameras & frozenset(CAMERAS)
    assert {hit.best.scored.span.camera for hit in found.hits} == seen
    assert len(found.hits) == 4 * len(seen)
    assert {camera.name for camera in run(house.cameras(scope))} == seen
    assert {gap.camera for gap in found.coverage.gaps} <= seen | {""}
    assert all(gap.frames == 0 for gap in found.coverage.gaps if not gap.camera)
    assert {mark.camera for mark in found.coverage.watermarks} == seen


def test_nothing_that_may_be_seen_is_not_everything() -> None:
    assert Scope(frozenset()).narrowed(()) == frozenset()
    assert Scope(frozenset({"gate"})).narrowed(("dock",)) == frozenset()
    assert Scope().narrowed(()) is None
    assert Question(text="x", scope=Scope(frozenset())).seen == frozenset()


def test_one_constructor_makes_the_keys_of_all_scopes() -> None:
    scopes = [
        EVERYTHING,
        Scope(frozenset()),
        Scope(frozenset({"a"})),
        Scope(frozenset({"a", "b"})),
        Scope(frozenset({"a\nb"})),
    ]
    assert len({_key(SPACE, "dog", scope) for scope in scopes}) >= 4
    assert _key(SPACE, "dog", Scope(frozenset({"b", "a"}))) == _key(SPACE, " dog ", Scope(frozenset({"a", "b"})))
