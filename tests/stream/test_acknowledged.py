"""An index that lost what it had acknowledged gets it again after its outage."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from proto.errors import Overloaded, Transient
from proto.retry import Backoff
from proto.types import Box, Region
from stream.acknowledged import Acknowledged, forgotten
from stream.consumer import Mark
from stream.moments import Write
from tests.contracts.moments import NOON, moment
from tests.stream.rig import until
from tests.stream.test_writer import Desk, desk


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.writer._PAUSES", Backoff(1e-4, 1e-3))


def write(camera: str, frames: int, offset: int, *, closed: bool = False) -> Write:
    return Write(moment(camera, NOON, frames=frames, closed=closed), None, (Mark(0, offset),))


async def outage(at: Desk) -> None:
    """The shard is away, which the lane notices by a write of another camera, and comes back."""
    at.store.away["a"] = Transient("away")
    calls = len(at.store.calls)
    await at.writer.write([write("a-2", 1, 9)])
    await until(lambda: len(at.store.calls) > calls + 1, "it was tried")
    del at.store.away["a"]


async def test_a_version_that_the_index_lost_in_an_outage_is_stored_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        first, second = write("a-1", 1, 5), write("a-1", 8, 6, closed=True)
        for told in (first, second):
            await at.writer.write([told])
            await at.writer.flushed()
        await at.store.upsert([first.moment])  # what a server has that lost its newest writes
        await outage(at)
        await at.writer.flushed()
        assert at.frames() == {"a-1": 8, "a-2": 1}
        assert at.done == [5, 6, 9]


async def test_a_moment_that_the_index_lost_whole_is_stored_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.writer.write([write("a-1", 3, 5, closed=True)])
        await at.writer.flushed()
        at.store._moments.clear()
        await outage(at)
        await at.writer.flushed()
        assert at.frames() == {"a-1": 3, "a-2": 1}


async def test_nothing_that_was_written_counts_as_stored_until_it_was_read_back(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        reads = asyncio.Event()
        fetch = at.store.fetch

        async def held(ids: list[str]) -> object:
            await reads.wait()
            return await fetch(ids)

        at.store.fetch = held  # type: ignore[method-assign, assignment]
        await outage(at)
        await until(lambda: at.frames() == {"a-2": 1}, "it is written")
        assert at.done == []
        reads.set()
        await at.writer.flushed()
        assert at.done == [9]


async def test_an_index_that_is_only_full_is_not_read_back(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.store.fetch = None  # type: ignore[method-assign, assignment]
        at.store.away["a"] = Overloaded("full")
        await at.writer.write([write("a-1", 1, 5)])
        await until(lambda: len(at.store.calls) > 2, "it was tried")
        del at.store.away["a"]
        await at.writer.flushed()
        assert at.done == [5]


async def test_an_index_that_never_shows_a_moment_holds_nothing_up_for_ever(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:

        async def nothing(_: list[str]) -> list[object]:
            return []

        at.store.fetch = nothing  # type: ignore[method-assign, assignment]
        await outage(at)
        await at.writer.flushed()
        assert at.done == [9]


def test_less_is_an_older_version_a_missing_moment_or_fewer_regions() -> None:
    told = write("a-1", 4, 1)
    there = told.moment
    closed = replace(told, moment=replace(there, closed=True))
    framed = replace(told, moment=replace(there, regions=(Region(NOON, Box(0, 0, 0.5, 0.5), there.vector),)))
    assert forgotten([told], [there]) == []
    assert forgotten([told], []) == [told]
    assert forgotten([told], [replace(there, frames=3)]) == [told]
    assert forgotten([told], [replace(there, frames=5)]) == []
    assert forgotten([closed], [there]) == [closed]
    assert forgotten([framed], [there]) == [framed]


def test_only_the_newest_version_of_what_was_acknowledged_lately_is_kept() -> None:
    lately = Acknowledged(most=2)
    one, two, three, newer = (write(f"a-{number % 7}", number, 1) for number in (1, 2, 3, 8))
    lately.note([one], 0.0, -60.0)
    lately.note([newer, two], 10.0, -50.0)
    assert [kept.moment.frames for kept in lately.all()] == [8, 2]
    lately.note([three], 20.0, -40.0)
    assert [kept.moment.frames for kept in lately.all()] == [2, 3]
    lately.note([], 100.0, 15.0)
    assert [(kept.moment.frames, kept.finishes) for kept in lately.all()] == [(3, ())]
