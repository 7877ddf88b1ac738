from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cameras.notes import Notes
from catalog.coverage import Gap, Reason
from catalog.progress import Progress
from catalog.views import CameraView
from tests.cameras.rig import AWAY, START_MS, Facts, until

PROGRESS = Progress("gate", "clip.mp4", 7, START_MS, 1.5, 3, ended=False)
GAP = Gap("gate", Reason.LOST, START_MS, START_MS + 500, 2)


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


async def test_what_cannot_be_written_is_written_later(facts: Facts, caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes(facts, facts, facts)
    facts.trouble = AWAY
    notes.gap(GAP)
    notes.progress(PROGRESS)
    for _ in range(3):
        await notes.write()
    notes.gap(replace(GAP, end_ms=START_MS + 900, frames=3))
    notes.progress(replace(PROGRESS, sequence=9))
    facts.trouble = None
    await notes.write()
    assert [(gap.end_ms, gap.frames) for gap in facts.gaps()] == [(START_MS + 900, 3)]
    assert facts.get("gate") == replace(PROGRESS, sequence=9)
    assert len(caplog.records) == 2  # once that it is away, once that it is back


async def test_what_was_written_is_not_written_again(facts: Facts) -> None:
    notes = Notes(facts, facts, facts)
    notes.gap(GAP)
    await notes.write()
    await notes.write()
    assert facts.declared == [GAP]


async def test_the_latest_progress_is_known_before_it_is_written(facts: Facts) -> None:
    notes = Notes(facts, facts, facts)
    notes.begin(PROGRESS)
    assert facts.get("gate") == PROGRESS
    notes.progress(replace(PROGRESS, sequence=9))
    assert notes.progress_of("gate") == replace(PROGRESS, sequence=9)
    notes.forget("gate")
    assert notes.progress_of("gate") is None
    await notes.write()
    assert facts.get("gate") is None


async def test_gaps_that_wait_for_long_become_fewer_and_lose_no_frame(facts: Facts) -> None:
    notes = Notes(facts, facts, facts)
    for number in range(5000):
        start_ms = START_MS + number * 100_000
        notes.gap(Gap("gate", Reason.LOST, start_ms, start_ms + 500, 2))
    notes.gap(Gap("gate", Reason.LOST, START_MS + 4999 * 100_000, START_MS + 4999 * 100_000 + 900, 3))
    await notes.write()
    assert len(facts.declared) <= 1001
    assert sum(gap.frames for gap in facts.declared) == 10_001
    assert (facts.declared[0].start_ms, facts.declared[-1].end_ms) == (START_MS, START_MS + 4999 * 100_000 + 900)


async def test_a_write_that_was_given_up_does_not_come_after_a_later_one(facts: Facts) -> None:
    began, release = threading.Event(), threading.Event()
    put: list[int] = []

    class Slow(Facts):
        def put(self, progress: Progress) -> None:
            began.set()
            release.wait(60)
            put.append(progress.sequence)

    slow = Slow(facts.path)
    notes = Notes(slow, slow, slow)
    notes.progress(PROGRESS)
    first = asyncio.create_task(notes.write())
    await until(began.is_set, "the first write began")
    first.cancel()
    notes.progress(replace(PROGRESS, sequence=9))
    second = asyncio.create_task(notes.write())
    await asyncio.wait({first})
    release.set()
    await second
    slow.catalog.close()
    assert put == [3, 9]


async def test_the_latest_view_waits_until_the_catalog_is_back_and_is_known_before(facts: Facts) -> None:
    notes = Notes(facts, facts, facts)
    facts.trouble = AWAY
    for number in (1, 2):
        notes.view(CameraView("gate", number, "turned", START_MS))
        await notes.write()
    assert notes.view_of("gate") == CameraView("gate", 2, "turned", START_MS)
    facts.trouble = None
    await notes.write()
    assert facts.view_of("gate") == CameraView("gate", 2, "turned", START_MS)


async def test_a_view_that_waits_is_not_written_once_another_process_has_the_camera(facts: Facts) -> None:
    notes = Notes(facts, facts, facts)
    notes.view(CameraView("gate", 1, "turned", START_MS))
    notes.discard("gate")
    await notes.write()
    assert facts.view_of("gate") is None
