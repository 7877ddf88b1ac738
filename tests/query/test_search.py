"""What a Searcher does before, beside and after the index."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage, Gap, Looked, Reason
from catalog.progress import Progress, Progresses
from index.memory import MemoryStore
from index.store import Answer, Ask, Unsearched
from proto.access import EVERYTHING
from proto.errors import Broken, Transient
from proto.types import Camera, now_ms
from query.asking import Question
from query.coverage import Watermark
from query.search import Found
from query.settings import QuerySettings
from tests.contracts.moments import DAY, HOUR, LOG, MINUTE, NOON, SPACE, until
from tests.query.fakes import MOMENTS, WordEncoder, catalog_in, coverage_in, searcher


def ids(found: Found) -> list[str]:
    return [hit.best.scored.span.id for hit in found.hits]


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    return store


async def test_identical_questions_in_flight_are_embedded_once(store: MemoryStore, tmp_path: Path) -> None:
    encoder = WordEncoder()
    asker = searcher(store, tmp_path, encoder=encoder)
    found = await asyncio.gather(*(asker.search(Question(text=" red  truck"), timeout_s=5) for _ in range(10)))
    assert encoder.asked == ["red truck"]
    assert all(ids(one) == ids(found[0]) for one in found)


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(store: MemoryStore, tmp_path: Path) -> None:
    encoder = WordEncoder()
    go = asyncio.Event()
    encoder.before = go.wait  # type: ignore[assignment]
    asker = searcher(store, tmp_path, encoder=encoder)
    first, second = (asyncio.create_task(asker.search(Question(text="dog"), timeout_s=5)) for _ in range(2))
    await until(lambda: encoder.asked == ["dog"])
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert ids(await second)[0] == MOMENTS[1].id
    assert first.cancelled()
    assert encoder.asked == ["dog"]


async def test_a_failure_is_not_kept(store: MemoryStore, tmp_path: Path) -> None:
    encoder = WordEncoder()

    async def away() -> None:
        raise Transient("away")

    encoder.before = away
    asker = searcher(store, tmp_path, encoder=encoder)
    with pytest.raises(Transient):
        await asker.search(Question(text="dog"), timeout_s=5)
    encoder.before = lambda: asyncio.sleep(0)
    assert (await asker.search(Question(text="dog"), timeout_s=5)).hits


DOG = Question(text="dog")


class HungCoverage(Coverage):
    """Lies on a disk that hangs until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.reads = 0

    def looked_until(self, cameras: frozenset[str] | None = None) -> dict[str, int]:
        self.reads += 1
        self.let_go.wait(60)
        return {}

    def gaps(self, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> list[Gap]:
        return []


@pytest.fixture
def hung() -> Iterator[HungCoverage]:
    coverage = HungCoverage()
    yield coverage
    coverage.let_go.set()


def with_live_camera(folder: Path) -> CameraRegistry:
    cameras = CameraRegistry(catalog_in(folder))
    cameras.add(Camera("gate", "rtsp://gate/1"))
    return cameras


async def test_an_answer_that_missed_nothing_is_whole(store: MemoryStore, tmp_path: Path) -> None:
    found = await searcher(store, tmp_path).search(DOG, timeout_s=5)
    assert not found.partial
    assert (found.coverage.gaps, found.coverage.watermarks, found.coverage.unknown) == ([], [], False)


async def test_a_gap_in_the_asked_time_of_an_asked_camera_makes_the_answer_partial(
    store: MemoryStore, tmp_path: Path
) -> None:
    gap = Gap("gate", Reason.AWAY, NOON, NOON + MINUTE)
    coverage_in(tmp_path).declare([gap])
    asker = searcher(store, tmp_path)
    for asked, is_partial in (
        (DOG, True),
        (replace(DOG, cameras=("gate",)), True),
        (replace(DOG, start_ms=NOON + MINUTE, end_ms=NOON + HOUR), True),
        (replace(DOG, cameras=("dock",)), False),
        (replace(DOG, start_ms=NOON + MINUTE + 1), False),
        (replace(DOG, end_ms=NOON), False),
    ):
        found = await asker.search(asked, timeout_s=5)
        assert (found.partial, list(found.coverage.gaps)) == (is_partial, [gap] if is_partial else [])


async def test_frames_of_any_camera_that_expired_make_every_answer_of_that_time_partial(
    store: MemoryStore, tmp_path: Path
) -> None:
    coverage_in(tmp_path).declare([Gap("", Reason.EXPIRED, NOON, NOON + MINUTE, 6995, LOG, 0, 5, 6999)])
    found = await searcher(store, tmp_path).search(replace(DOG, cameras=("dock",)), timeout_s=5)
    assert found.partial
    assert [(gap.reason, gap.frames) for gap in found.coverage.gaps] == [("expired", 6995)]


async def test_a_live_camera_that_is_behind_makes_the_answer_partial_until_it_caught_up(
    store: MemoryStore, tmp_path: Path
) -> None:
    coverage, now = coverage_in(tmp_path), now_ms()
    asker = searcher(store, tmp_path, cameras=with_live_camera(tmp_path))
    coverage.looked([Looked("gate", now - HOUR, LOG, 0, 1)], {})
    found = await asker.search(DOG, timeout_s=5)
    assert found.partial
    (gap,) = found.coverage.gaps
    assert (gap.camera, gap.reason, gap.start_ms, gap.end_ms >= now) == ("gate", "waiting", now - HOUR, True)
    assert found.coverage.watermarks == [Watermark("gate", now - HOUR)]
    assert not (await asker.search(replace(DOG, end_ms=now - HOUR), timeout_s=5)).partial
    coverage.looked([Looked("gate", now, LOG, 0, 2)], {})
    assert not (await asker.search(DOG, timeout_s=5)).partial


async def test_how_old_a_mark_may_be_is_a_setting(store: MemoryStore, tmp_path: Path) -> None:
    coverage_in(tmp_path).looked([Looked("gate", now_ms() - HOUR, LOG, 0, 1)], {})
    cameras = with_live_camera(tmp_path)
    patient = searcher(store, tmp_path, cameras=cameras, settings=QuerySettings(behind_s=7200))
    assert not (await patient.search(DOG, timeout_s=5)).partial


async def test_a_new_camera_with_which_nobody_kept_up_is_told_also_of_a_time_that_is_over(
    store: MemoryStore, tmp_path: Path
) -> None:
    now = now_ms()
    coverage_in(tmp_path).declare([Gap("gate", Reason.AWAY, now - DAY, now - DAY + MINUTE)])
    asker = searcher(store, tmp_path, cameras=with_live_camera(tmp_path))
    found = await asker.search(replace(DOG, start_ms=now - 2 * HOUR, end_ms=now - HOUR), timeout_s=5)
    assert found.coverage.gaps == [Gap("gate", Reason.WAITING, now - DAY + MINUTE, now - HOUR)]


async def test_a_camera_that_was_opened_and_never_looked_at_is_told_of_a_time_since_then(
    store: MemoryStore, tmp_path: Path
) -> None:
    coverage, now = coverage_in(tmp_path), now_ms()
    Progresses(coverage._catalog).put(Progress("gate", "live", now - DAY, 0, now / 1000, 0, ended=False))
    asker = searcher(store, tmp_path, cameras=with_live_camera(tmp_path))
    found = await asker.search(replace(DOG, start_ms=now - 2 * HOUR, end_ms=now - HOUR), timeout_s=5)
    assert found.coverage.gaps == [Gap("gate", Reason.WAITING, now - DAY, now - HOUR)]
    assert not (await asker.search(replace(DOG, end_ms=now - DAY), timeout_s=5)).partial


async def test_a_catalog_that_hangs_takes_half_of_the_time_and_the_answer_says_so(
    store: MemoryStore, tmp_path: Path, hung: HungCoverage
) -> None:
    asker = searcher(store, tmp_path, coverage=hung)
    async with asyncio.timeout(1.0):
        found = await asker.search(DOG, timeout_s=1.0)
    assert found.hits
    assert (found.partial, found.coverage.unknown, found.coverage.gaps) == (True, True, ())


async def test_searches_on_a_catalog_that_hangs_take_no_more_than_a_few_threads_and_no_one_elses(
    store: MemoryStore, tmp_path: Path, hung: HungCoverage
) -> None:
    asker = searcher(store, tmp_path, coverage=hung)
    found = await asyncio.gather(*(asker.search(DOG, timeout_s=0.2) for _ in range(50)))
    assert all(one.coverage.unknown and one.hits for one in found)
    assert hung.reads == 8
    assert len(await asker.cameras(EVERYTHING)) == 3  # Is asked in the threads that everybody shares.
    hung.let_go.set()
    assert not (await asker.search(DOG, timeout_s=5)).coverage.unknown


async def test_a_broken_catalog_is_told_in_the_answer_and_logged_once(
    store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    coverage = coverage_in(tmp_path)
    asker = searcher(store, tmp_path, coverage=coverage)
    with coverage._catalog.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE marks RENAME TO elsewhere")
    with caplog.at_level(logging.INFO, "watchword.query"):
        for _ in range(3):
            found = await asker.search(DOG, timeout_s=5)
            assert (found.partial, found.coverage.unknown, len(found.hits)) == (True, True, 4)
        with coverage._catalog.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO marks")
        assert not (await asker.search(DOG, timeout_s=5)).partial
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "no such table: marks" in caplog.messages[0]


class StoreThatMisses(MemoryStore):
    """Answers, and says what it did not search."""

    def __init__(self, missed: Answer) -> None:
        super().__init__(SPACE)
        self._missed = missed

    async def search(self, ask: Ask) -> Answer:
        return self._missed


@pytest.mark.parametrize(
    "missed",
    [
        Answer([], shards_missing=["http://m1"]),
        Answer([], unsearched=[Unsearched("http://m1", NOON, NOON + DAY)]),
        Answer([], spaces=["f" * 16]),
    ],
    ids=["a shard", "a part of a shard", "another space"],
)
async def test_what_the_index_did_not_search_makes_the_answer_partial(missed: Answer, tmp_path: Path) -> None:
    found = await searcher(StoreThatMisses(missed), tmp_path).search(DOG, timeout_s=5)
    assert found.partial


class StoreThatFails(MemoryStore):
    async def search(self, ask: Ask) -> Answer:
        raise Broken("the index is gone")


async def test_a_failing_index_fails_the_search_at_once_though_the_catalog_hangs(
    tmp_path: Path, hung: HungCoverage
) -> None:
    async with asyncio.timeout(0.5):
        with pytest.raises(Broken, match="the index is gone"):
            await searcher(StoreThatFails(SPACE), tmp_path, coverage=hung).search(DOG, timeout_s=60)


def told(part: str) -> tuple[float, float]:
    """How often this part of a search was told, and its seconds in all."""
    count, seconds = (
        REGISTRY.get_sample_value(f"watchword_query_part_seconds_{what}", {"part": part}) or 0.0
        for what in ("count", "sum")
    )
    return count, seconds


async def test_every_part_of_a_search_is_told_once(store: MemoryStore, tmp_path: Path) -> None:
    parts = ("embed", "index", "judge", "coverage")
    before = {part: told(part) for part in parts}
    found = await searcher(store, tmp_path).search(DOG, timeout_s=5)
    after = {part: told(part) for part in parts}
    assert all(after[part][0] == before[part][0] + 1 for part in parts)
    spent = {part: after[part][1] - before[part][1] for part in parts}
    assert 0 < spent["embed"] <= found.embed_s
    assert 0 < spent["index"] + spent["judge"] <= found.index_s


async def test_the_time_of_an_encoder_that_fails_is_told_too(store: MemoryStore, tmp_path: Path) -> None:
    encoder = WordEncoder()

    async def away() -> None:
        raise Transient("away")

    encoder.before = away
    before = told("embed")[0]
    with pytest.raises(Transient):
        await searcher(store, tmp_path, encoder=encoder).search(DOG, timeout_s=5)
    assert told("embed")[0] == before + 1
