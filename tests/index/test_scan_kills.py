"""The index in a folder: kills, several processes, and folders that are damaged."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from index.filters import Filter
from index.opening import new_removal, new_store
from index.scan import rows
from index.scan.store import ScanStore
from index.scan.trouble import ROWS
from index.store import Ask
from proto.errors import Overloaded, WatchwordError
from proto.types import Moment
from tests.contracts.moments import NOON, SPACE, moment, unit
from tests.index.scan_writer import folder_in, stored
from tests.index.test_scan import at, filled, settings_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


class Writers:
    """The process that forks writers, and what it told."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.index.scan_writer", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.acknowledged: dict[tuple[str, int], int] = {}
        """How many batches of each writer were, by writer and round."""

    def begin(self, writer: str, turn: int) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{writer} {turn}\n")
        self._process.stdin.flush()
        while True:
            word, *rest = self._line()
            if word == "began":
                return int(rest[0])

    def until(self, writer: str, turn: int, batches: int) -> None:
        while self.acknowledged.get((writer, turn), 0) < batches:
            self._line()

    def end(self) -> None:
        """Read what is left, once all writers are dead."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        while self._line():
            pass
        assert self._process.wait(30) == 0
        self.close()

    def close(self) -> None:
        """End the process, and with it its writers."""
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _line(self) -> list[str]:
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        if words and words[0] == "stored":
            self.acknowledged[words[1], int(words[2])] = int(words[3]) + 1
        return words


@pytest.fixture
def writers(folder: Path) -> Iterator[Writers]:
    started = Writers(folder)
    yield started
    started.close()


@pytest.mark.long
def test_what_was_acknowledged_outlives_twenty_kills(folder: Path, writers: Writers) -> None:
    """Two writers are killed while they store, again and again, one of them while it makes codes."""
    numbers = random.Random(1)
    for turn in range(10):
        children = [(name, writers.begin(name, turn)) for name in ("plain", "builder")]
        for name, child in children:
            writers.until(name, turn, numbers.randrange(1, 8))
            os.kill(child, signal.SIGKILL)
    writers.end()
    assert len(writers.acknowledged) == 20
    found = {one.id: one for one in everything(folder)}
    for (name, turn), batches in writers.acknowledged.items():
        # The batch that was under way may be there too.
        later = stored(name, turn, batches + 1)
        for one in stored(name, turn, batches).values():
            kept = found[one.id]
            (expected,) = {m.frames: m for m in (one, later[one.id]) if m.frames == kept.frames}.values()
            np.testing.assert_array_equal(kept.vector, expected.vector)
            np.testing.assert_array_equal(kept.regions[0].vector, expected.regions[0].vector)


def everything(folder: Path) -> list[Moment]:
    bucket = at(folder)
    try:
        return bucket.read(Filter(), 1_000_000) or []
    finally:
        bucket.close()


@pytest.mark.long
async def test_what_is_stored_while_another_process_drops_the_bucket_is_there_or_came_before(
    folder: Path, writers: Writers
) -> None:
    child = writers.begin("plain", 0)
    writers.until("plain", 0, 1)
    removal = new_removal(settings_of(folder))
    for _ in range(5):
        (holding,) = (await removal.holdings()).known
        await removal.drop(holding)
        writers.until("plain", 0, writers.acknowledged["plain", 0] + 2)
    os.kill(child, signal.SIGKILL)
    writers.end()
    last = stored("plain", 0, writers.acknowledged["plain", 0])
    newest = max(one.frames for one in last.values())
    found = {one.id for one in everything(folder)}
    assert {one.id for one in last.values() if one.frames == newest} <= found
    await removal.close()


@pytest.mark.long
async def test_a_drop_that_was_killed_is_finished_by_whoever_comes_next(folder: Path) -> None:
    store, _ = await filled(folder, 20)
    condemned = rows.Rows(folder_in(folder), 5.0)
    condemned.condemn()
    condemned.close()
    (folder / SPACE.id / ".gone-1").mkdir()
    await store.close()
    store = new_store(SPACE, settings_of(folder))
    await store.open()
    assert not (folder / SPACE.id / ".gone-1").exists()
    assert await store.count() == 0
    assert await store.upsert([moment("gate")]) == {}
    assert await store.count() == 1
    await store.close()


# ---- bad folders ----


@pytest.mark.long
@pytest.mark.parametrize(
    ("harm", "told"),
    [("layout", "the version of Watchword that wrote it"), ("garbage", "backup"), ("dimension", "same bundle")],
)
async def test_a_folder_that_cannot_be_read_says_what_to_do(folder: Path, harm: str, told: str) -> None:
    store, _ = await filled(folder, 20)
    await store.close()
    file = folder_in(folder) / ROWS
    if harm == "garbage":
        for path in file.parent.glob("rows.db*"):
            path.write_bytes(b"no database" * 1000)
    else:
        with sqlite3.connect(file) as db:
            db.execute(f"UPDATE state SET {harm} = 8")
        db.close()
    store = new_store(SPACE, settings_of(folder))
    failed = await store.upsert([moment("gate")])
    (error,) = failed.values()
    assert told in error.todo
    await store.close()


async def test_a_folder_that_cannot_be_made_is_told(folder: Path) -> None:
    (folder / "file").touch()
    store = new_store(SPACE, settings_of(folder / "file" / "index"))
    with pytest.raises(WatchwordError, match="cannot be used") as caught:
        await store.open()
    assert caught.value.todo
    await store.close()


async def test_a_bucket_that_cannot_be_opened_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ScanStore(SPACE, settings_of(tmp_path))
    assert not await store.upsert([moment("gate", NOON)])
    await store.close()
    store = ScanStore(SPACE, settings_of(tmp_path))

    def no_file(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    monkeypatch.setattr("index.scan.rows.sqlite3.connect", no_file)
    for call in (store.search(Ask(unit(1), 5)), store.count(), store.between(frozenset({"gate"}), NOON - 1, NOON + 1)):
        with pytest.raises(Overloaded, match="unable to open"):
            await call
    await store.close()
