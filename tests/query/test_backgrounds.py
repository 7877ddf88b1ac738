"""Reading backgrounds: kept in memory for some seconds, and never what an answer waits for."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from catalog.backgrounds import Background, Backgrounds
from catalog.store import Catalog, sqlite_url
from proto.errors import Transient
from query.backgrounds import BackgroundReader
from query.confidence import Known
from tests.contracts.moments import SPACE, unit, until


def of(camera: str, moments: int = 4, rows: int = 2, dimension: int = SPACE.dimension) -> Background:
    samples = tuple(np.stack([unit(n * 10 + row, dimension) for row in range(rows)]) for n in range(moments))
    return Background(camera, 0, samples)


class Counted(Backgrounds):
    """Backgrounds in memory that count how often they are read; reads wait until `go` is set."""

    def __init__(self, *every: Background) -> None:
        self.every = {one.camera: one for one in every}
        self.asked: list[frozenset[str] | None] = []
        self.go = threading.Event()
        self.go.set()
        self.fails = False

    def get(self, space: str, cameras: frozenset[str] | None = None) -> list[Background]:
        self.asked.append(cameras)
        self.go.wait(60)
        if self.fails:
            raise Transient("the catalog is busy")
        return [one for name, one in self.every.items() if cameras is None or name in cameras]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hung() -> Iterator[Counted]:
    backgrounds = Counted(of("gate"))
    backgrounds.go.clear()
    yield backgrounds
    backgrounds.go.set()


def shapes(known: Known) -> tuple[tuple[int, int] | None, dict[str, tuple[int, int]]]:
    """Rows and moments of the pool and of each camera."""
    pool = None if known.pool is None else (len(known.pool.rows), len(known.pool.starts))
    return pool, {name: (len(one.rows), len(one.starts)) for name, one in known.cameras.items()}


async def test_the_pool_and_the_cameras_own_are_read_from_the_catalog(tmp_path: Path) -> None:
    catalog = Catalog(sqlite_url(tmp_path / "catalog.db"))
    catalog.open()
    backgrounds = Backgrounds(catalog)
    for camera in ("gate", "dock"):
        backgrounds.put(SPACE.id, of(camera))
    known = await BackgroundReader(backgrounds, SPACE).known(["gate", "nobody"], None, 5.0)
    assert shapes(known) == ((16, 8), {"gate": (8, 4)})
    catalog.close()


async def test_what_was_read_serves_for_some_seconds_and_is_then_read_again_beside_the_answer() -> None:
    backgrounds, clock = Counted(of("gate")), Clock()
    reader = BackgroundReader(backgrounds, SPACE, clock=clock)
    for _ in range(3):
        await reader.known(["gate"], None, 5.0)
    assert set(backgrounds.asked) == {None, frozenset({"gate"})}
    assert len(backgrounds.asked) == 2
    clock.now += 20
    backgrounds.every["gate"] = of("gate", moments=7)
    backgrounds.go.clear()
    assert shapes(await reader.known(["gate"], None, 5.0))[1] == {"gate": (8, 4)}
    backgrounds.go.set()
    await until(lambda: len(reader._reading) == 0)
    assert shapes(await reader.known(["gate"], None, 5.0))[1] == {"gate": (14, 7)}
    assert len(backgrounds.asked) == 4


async def test_a_catalog_that_hangs_delays_the_first_answers_a_little_and_no_later_one(hung: Counted) -> None:
    clock = Clock()
    reader = BackgroundReader(hung, SPACE, clock=clock)
    assert shapes(await reader.known(["gate"], None, 0.01)) == (None, {})
    clock.now += 1000
    async with asyncio.timeout(5):
        assert shapes(await reader.known(["gate"], None, 600.0)) == (None, {})
    for number in range(50):
        await reader.known([f"camera-{number}"], None, 0.001)
    assert len(reader._reading) <= 8
    assert len(hung.asked) <= 2
    await reader.stop()


async def test_a_catalog_that_fails_is_told_once_and_forgiven(caplog: pytest.LogCaptureFixture) -> None:
    backgrounds, clock = Counted(of("gate")), Clock()
    backgrounds.fails = True
    reader = BackgroundReader(backgrounds, SPACE, clock=clock)
    with caplog.at_level(logging.INFO, "watchword.query"):
        for _ in range(3):
            assert shapes(await reader.known(["gate"], None, 5.0)) == (None, {})
        backgrounds.fails = False
        assert shapes(await reader.known(["gate"], None, 5.0)) == ((8, 4), {"gate": (8, 4)})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_background_that_cannot_be_read_again_for_minutes_counts_no_more() -> None:
    backgrounds, clock = Counted(of("gate")), Clock()
    reader = BackgroundReader(backgrounds, SPACE, clock=clock)
    await reader.known(["gate"], None, 5.0)
    backgrounds.fails = True
    clock.now += 100
    assert shapes(await reader.known(["gate"], None, 5.0)) == ((8, 4), {"gate": (8, 4)})
    clock.now += 300
    assert shapes(await reader.known(["gate"], None, 5.0)) == (None, {})


async def test_the_pool_is_bounded_and_takes_from_every_camera() -> None:
    backgrounds = Counted(*(of(f"camera-{n:03}", moments=32, rows=1) for n in range(200)))
    known = await BackgroundReader(backgrounds, SPACE).known([], None, 10.0)
    assert shapes(known)[0] == (400, 400)


async def test_rows_of_another_dimension_are_left_out() -> None:
    backgrounds = Counted(of("gate", dimension=SPACE.dimension + 1), of("dock"))
    known = await BackgroundReader(backgrounds, SPACE).known(["gate", "dock"], None, 5.0)
    assert shapes(known) == ((8, 4), {"dock": (8, 4)})


async def test_memory_for_single_cameras_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one = of("x")
    monkeypatch.setattr("query.backgrounds._MOST_BYTES", 5 * 8 * SPACE.dimension * 4)
    backgrounds = Counted(*(Background(f"camera-{n}", 0, one.samples) for n in range(30)))
    reader = BackgroundReader(backgrounds, SPACE)
    for number in range(30):
        known = await reader.known([f"camera-{number}"], None, 5.0)
        assert shapes(known)[1] == {f"camera-{number}": (8, 4)}
    assert len(reader._shelf.by_camera) == 5


async def test_questions_at_once_share_a_read() -> None:
    backgrounds = Counted(of("gate"))
    reader = BackgroundReader(backgrounds, SPACE)
    found = await asyncio.gather(*(reader.known(["gate"], None, 5.0) for _ in range(20)))
    assert all(shapes(known)[1] for known in found)
    assert len(backgrounds.asked) == 2
