"""The rows of one bucket in its folder: SQLite for what is told of them, one file for their vectors.

A row has a *slot*, the place of its vector in the file, and the *stamp* of the transaction that stored it. What a slot
holds under one stamp never changes. A transaction first writes and syncs the vectors, then commits, so a row that is
there has its vector whatever is killed. It writes only to slots that are new, or that an earlier transaction freed.

Several processes may read and write at once: SQLite's WAL lets one write at a time and readers go on.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from index.rows import Row, rows_of
from index.scan.tables import CHANGED, COLUMNS, DETAIL_NAMES, DETAILS, LAYOUT, ROW_VALUES, STORE_MOMENT, STORE_ROW
from index.scan.trouble import ROWS, Missing, translated
from proto.errors import Broken
from proto.types import Moment

VECTORS = "vectors.f32"
LEAST_FREE = 1_000
"""Slots that were freed are used again, the oldest first, while more than so many are free: a reader that is a little
behind does not meet another row in the slot of one that it just found."""


@dataclass(frozen=True, slots=True)
class State:
    """What one transaction left."""

    dimension: int
    slots: int
    """How many slots the file of vectors has."""
    stamp: int
    """Counts the transactions that changed rows."""
    codes: int
    """The stamp of the rows that have codes; 0 for none."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of the rows after a stamp."""

    state: State
    rows: NDArray[np.int64]
    """Rows that were stored, by slot, with COLUMNS."""
    freed: NDArray[np.int64]
    """Slots that have no row now."""
    cameras: list[str]
    """Names of cameras by code, from the first code that was not known."""
    kinds: list[frozenset[str]]


class Rows:
    """One connection to the rows of a bucket. Used by one thread at a time. Raises only WatchwordErrors."""

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self._folder = folder
        with translated(folder):
            uri = f"file:{quote(str(folder / ROWS))}?mode=rw"
            self.inode = (folder / ROWS).stat().st_ino
            self._db = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)
            # What was acknowledged outlives the power; what was removed is overwritten.
            for line in ("synchronous = FULL", "secure_delete = ON", "cache_size = -8000"):
                self._db.execute(f"PRAGMA {line}")
            (layout,) = self._one("SELECT layout FROM state")
            if layout != LAYOUT:
                raise Broken(
                    f"{folder} has the layout {layout}, not {LAYOUT}",
                    todo="run the version of Watchword that wrote it, or name another folder",
                )
            self._vectors = os.open(folder / VECTORS, os.O_RDWR)

    @property
    def away(self) -> bool:
        """Whether the folder was removed since, also when another one took its place."""
        try:
            return (self._folder / ROWS).stat().st_ino != self.inode
        except OSError:
            return True

    def dimension(self) -> int:
        """How many numbers a vector has."""
        with translated(self._folder):
            return self._state().dimension

    def version(self) -> int:
        """Another number when a transaction of another connection was committed."""
        with translated(self._folder):
            return int(self._one("PRAGMA data_version")[0])

    def changes(self, since: int, codes: int, cameras: int, kinds: int) -> Changes:
        """What changed after the stamp `since`, in one snapshot; after that of the codes where these are not `codes`.

        `cameras` and `kinds` are how many of these are known.
        """
        with translated(self._folder), self._reading():
            state = self._state()
            first = since if state.codes == codes else state.codes
            rows = np.array(self._db.execute(CHANGED, (first,)).fetchall(), np.int64).reshape(-1, len(COLUMNS))
            freed = self._db.execute("SELECT slot FROM free WHERE stamp > ? ORDER BY slot", (first,)).fetchall()
            names = self._db.execute("SELECT name FROM cameras WHERE code >= ? ORDER BY code", (cameras,))
            sets = self._db.execute("SELECT names FROM kinds WHERE code >= ? ORDER BY code", (kinds,))
            return Changes(
                state,
                rows,
                np.array(freed, np.int64).reshape(-1),
                [name for (name,) in names],
                [frozenset(filter(None, names.split(","))) for (names,) in sets],
            )

    def told(self, slots: Iterable[int]) -> dict[int, Row]:
        """All that is told of the rows in these slots but their vectors, by slot; empty slots are left out."""
        with translated(self._folder):
            found = self._db.execute(DETAILS, (json.dumps([int(slot) for slot in slots]),)).fetchall()
        rows = (dict(zip(DETAIL_NAMES, values, strict=True)) for values in found)
        return {row["slot"]: _row(row) for row in rows}

    def slots_of(self, ids: Sequence[str]) -> list[tuple[int, int]]:
        """Slot and stamp of each row of the moments with these ids."""
        ask = (
            "SELECT slot, stamp FROM json_each(?) a CROSS JOIN moments m ON m.id = a.value "
            "JOIN rows r ON r.moment = m.number"
        )
        with translated(self._folder):
            return self._db.execute(ask, (json.dumps(list(ids)),)).fetchall()

    def store(self, moments: Sequence[Moment]) -> None:
        """Store them durably, in the place of what has their ids."""
        with translated(self._folder), self._writing() as state:
            cameras = self._codes("cameras", "name", {one.camera for one in moments})
            kinds = self._codes("kinds", "names", {_kinds(one) for one in moments})
            numbers = self._numbers([one.id for one in moments])
            told = [(numbers[one.id], one, rows_of(one)) for one in moments]
            slots = self._allot(sum(len(rows) for _, _, rows in told), state)
            stamp = state.stamp + 1
            self._free([number for number, _, _ in told], stamp)
            self._db.executemany(
                STORE_MOMENT,
                [(number, *_moment_values(one, cameras[one.camera], kinds[_kinds(one)])) for number, one, _ in told],
            )
            every = [(number, row) for number, _, rows in told for row in rows]
            self._write(slots, np.stack([row["vector"] for _, row in every]).astype("<f4", copy=False))
            self._db.executemany(
                STORE_ROW,
                [
                    (int(slot), stamp, number, *(row[name] for name in ROW_VALUES))
                    for slot, (number, row) in zip(slots, every, strict=True)
                ],
            )
            self._db.execute("UPDATE state SET stamp = ?, slots = max(slots, ?)", (stamp, int(slots.max()) + 1))

    def remove(self, row_ids: Sequence[str]) -> None:
        """Delete the rows with these ids, with that of a whole picture all of its moment, and their vectors."""
        whole = [name for name in row_ids if "." not in name]
        parts = [name.partition(".")[::2] for name in row_ids if "." in name]
        with translated(self._folder), self._writing() as state:
            stamp = state.stamp + 1
            numbers = self._db.execute(
                "SELECT m.number FROM json_each(?) a CROSS JOIN moments m ON m.id = a.value", (json.dumps(whole),)
            ).fetchall()
            self._free([number for (number,) in numbers], stamp)
            self._db.executemany("DELETE FROM moments WHERE number = ?", numbers)
            for name, number in parts:
                which = "row = ? AND moment = (SELECT number FROM moments WHERE id = ?)"
                self._free_where(which, (int(number), name), stamp)
            self._db.execute("UPDATE state SET stamp = ?", (stamp,))
        self.blank()

    def blank(self) -> None:
        """Overwrite the vectors of rows that are no more. After a kill the next removal does it."""
        with translated(self._folder), self._writing():
            slots = np.array(self._db.execute("SELECT slot FROM free WHERE blank = 0").fetchall(), np.int64).reshape(-1)
            if len(slots):
                self._write(np.sort(slots), np.zeros((len(slots), self._state().dimension), "<f4"))
                self._db.execute("UPDATE free SET blank = 1 WHERE blank = 0")

    def advance(self) -> None:
        """Begin a new stamp, without changing a row."""
        with translated(self._folder), self._writing():
            self._db.execute("UPDATE state SET stamp = stamp + 1")

    def install(self, codes: int) -> None:
        """Have the codes of this stamp used from now on."""
        with translated(self._folder), self._writing():
            self._db.execute("UPDATE state SET codes = ?", (codes,))

    def condemn(self) -> None:
        """Say that the bucket is dropped: nothing is written to it from now on."""
        with translated(self._folder), suppress(Missing), self._writing():
            self._db.execute("UPDATE state SET dropped = 1")

    @property
    def condemned(self) -> bool:
        """Whether it was dropped, perhaps by a process that was killed meanwhile."""
        with translated(self._folder):
            return bool(self._one("SELECT dropped FROM state")[0])

    def close(self) -> None:
        """Close it. May be called twice."""
        self._db.close()
        with suppress(OSError):
            os.close(self._vectors)
        self._vectors = -1

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[State]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._one("SELECT dropped FROM state")[0]:
                raise Missing(f"{self._folder} was dropped", todo="try again")
            yield self._state()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _state(self) -> State:
        return State(*self._one("SELECT dimension, slots, stamp, codes FROM state"))

    def _one(self, ask: str, values: Sequence[object] = ()) -> tuple[Any, ...]:
        found: tuple[Any, ...] | None = self._db.execute(ask, values).fetchone()
        if found is None:
            raise Broken(f"{self._folder} lacks its state", todo="restore the folder from a backup, or move it away")
        return found

    def _codes(self, table: str, column: str, words: set[str]) -> dict[str, int]:
        """The code of each word, counted from 0; new words get one."""
        known = {}
        for word in sorted(words):
            ask = f"SELECT code FROM {table} WHERE {column} = ?"  # noqa: S608
            found = self._db.execute(ask, (word,)).fetchone()
            if found is None:
                add = f"INSERT INTO {table} SELECT count(*), ? FROM {table}"  # noqa: S608
                self._db.execute(add, (word,))
                found = self._db.execute(ask, (word,)).fetchone()
            known[word] = int(found[0])
        return known

    def _numbers(self, ids: Sequence[str]) -> dict[str, int]:
        """A number for each moment: the one that it has, or a new one."""
        found = self._db.execute(
            "SELECT m.id, m.number FROM json_each(?) a CROSS JOIN moments m ON m.id = a.value", (json.dumps(list(ids)),)
        )
        known = {name: int(number) for name, number in found}
        (following,) = self._one("SELECT coalesce(max(number), -1) + 1 FROM moments")
        for name in ids:
            if name not in known:
                known[name] = following
                following += 1
        return known

    def _allot(self, count: int, state: State) -> NDArray[np.int64]:
        """So many slots, in order. None is of a row that this transaction frees: it may yet be rolled back."""
        (free,) = self._one("SELECT count(*) FROM free")
        again = self._db.execute(
            "SELECT slot FROM free ORDER BY stamp, slot LIMIT ?", (max(0, min(count, free - LEAST_FREE)),)
        ).fetchall()
        self._db.executemany("DELETE FROM free WHERE slot = ?", again)
        new = np.arange(state.slots, state.slots + count - len(again))
        return np.sort(np.concatenate([np.array(again, np.int64).reshape(-1), new]))

    def _free(self, moments: Sequence[int], stamp: int) -> None:
        for first in range(0, len(moments), 10_000):
            some = json.dumps(list(moments[first : first + 10_000]))
            self._free_where("moment IN (SELECT value FROM json_each(?))", (some,), stamp)

    def _free_where(self, which: str, values: Sequence[object], stamp: int) -> None:
        self._db.execute(f"INSERT INTO free SELECT slot, {int(stamp)}, 0 FROM rows WHERE {which}", values)  # noqa: S608
        self._db.execute(f"DELETE FROM rows WHERE {which}", values)  # noqa: S608

    def _write(self, slots: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Write vectors to these slots, which are in order, and have them on the disk."""
        each = vectors.shape[1] * vectors.itemsize
        breaks = np.flatnonzero(np.diff(slots) != 1) + 1
        for first, last in zip([0, *breaks], [*breaks, len(slots)], strict=True):
            left, offset = memoryview(vectors[first:last].tobytes()), int(slots[first]) * each
            while left:
                written = os.pwrite(self._vectors, left, offset)
                left, offset = left[written:], offset + written
        os.fdatasync(self._vectors)


def _kinds(moment: Moment) -> str:
    return ",".join(kind for kind, _ in moment.objects)


def _moment_values(one: Moment, camera: int, kinds: int) -> tuple[object, ...]:
    """What follows its number."""
    return (
        *(one.id, camera, one.start_ms, one.peak_ms, one.end_ms, one.frames, int(one.closed), one.log, one.partition),
        *(one.first_offset, one.last_offset, kinds, json.dumps(dict(one.objects)), one.resume),
    )


def _row(row: Row) -> Row:
    number = row["row"]
    return row | {
        "id": f"{row['id']}.{number}" if number else row["id"],
        "closed": bool(row["closed"]),
        "objects": json.loads(row["objects"]),
        "resume": "" if number else row["resume"],
    }
