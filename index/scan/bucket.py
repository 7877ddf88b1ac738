"""One bucket, as a process uses it. Blocks: it is called in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from index.filters import Filter, asked
from index.rows import MOST_ROWS_EACH, Bare, Row, bare_of, moments_from, scored
from index.scan.bases import load_base
from index.scan.masks import Numbers
from index.scan.rows import VECTORS, Rows
from index.scan.trouble import Missing
from index.scan.vectors import VectorFile
from index.scan.view import Part, Told, View
from index.store import Ask, Scored, best
from proto.errors import Mismatch, Transient
from proto.types import Moment, SpaceInfo

_FEW = 1_000
"""Up to so many rows are compared one by one: that is faster than a scan of the codes."""
_MOST_TIES = 1_000
"""The most rows beyond those asked for that are looked at because they are as near as the last one."""
_MOMENTS_AT_ONCE = 1_000
_TRIES = 20
"""A search begins anew when a row that it found was replaced before it was read."""


Found = TypeVar("Found")


class BucketRows:
    """The rows in one folder. Raises Missing when it is gone, also when another bucket came in its place."""

    def __init__(self, folder: Path, space: SpaceInfo, timeout_s: float, *, scans: bool = True) -> None:
        """Without `scans` no codes are loaded, and searches are slow."""
        self._folder = folder
        self._space = space
        self._timeout_s = timeout_s
        self._scans = scans
        self._reader: Rows | None = None
        self._writer: Rows | None = None
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._version = -1
        self._view = View()
        with self._reading:
            reader = self._reader = Rows(folder, timeout_s)
            self._inode = reader.inode
            self.dimension = reader.dimension()
            self.condemned = reader.condemned
        self.vectors = VectorFile(folder / VECTORS, self.dimension)

    def view(self) -> View:
        """The rows as they are now: every transaction that was committed before the call is in it."""
        with self._reading:
            reader = self._read_with()
            version = reader.version()
            if version != self._version:
                self._view = self._refreshed(reader)
                self._version = version
            return self._view

    def search(self, ask: Ask) -> list[Scored]:
        """The best moments that pass."""
        which = asked(ask)

        def attempt(view: View) -> list[Scored] | None:
            slots, stamps, scores = _nearest(view, which, ask, self.vectors)
            rows = self._told(slots, stamps, with_vectors=ask.with_vectors)
            if rows is None:
                return None
            hits = [scored(row, float(score), self._space.id) for row, score in zip(rows, scores, strict=True)]
            return best(hits, ask.limit)

        return self._until_steady(attempt)

    def read(self, which: Filter, most_rows: int) -> list[Moment] | None:
        """The moments that pass; None when they have `most_rows` rows."""

        def attempt(view: View) -> list[list[Moment]] | None:
            slots, stamps = _all(view, which)
            if len(slots) >= most_rows:
                return []
            rows = self._told(slots, stamps, with_vectors=True)
            return None if rows is None else [moments_from(rows, self._space.id)]

        return next(iter(self._until_steady(attempt)), None)

    def fetch(self, ids: Sequence[str]) -> list[Moment]:
        """The moments with these ids."""

        def attempt(_: View) -> list[Mapping[str, Any]] | None:
            with self._reading:
                found = np.array(self._read_with().slots_of(ids), np.int64).reshape(-1, 2)
            rows = self._told(found[:, 0], found[:, 1], with_vectors=True)
            return None if rows is None else list(rows)

        return moments_from(self._until_steady(attempt), self._space.id)

    def count(self, which: Filter) -> int:
        """How many moments pass."""
        parts = self.view().parts(which)
        return sum(int(np.count_nonzero(part.mask & (part.told.row == 0))) for part in parts)

    def rows(self, which: Filter, most: int) -> list[Bare]:
        """Up to `most` rows that pass."""

        def attempt(view: View) -> list[Row] | None:
            slots, stamps = _all(view, which)
            return self._told(slots[:most], stamps[:most], with_vectors=False)

        return [bare_of(row) for row in self._until_steady(attempt)]

    def store(self, moments: Sequence[Moment]) -> None:
        """Store them durably."""
        if self.dimension != self._space.dimension:
            raise Mismatch(
                f"{self._folder} has vectors of {self.dimension} numbers, not {self._space.dimension}",
                todo="encoder and index must run the same bundle",
            )
        with self._writing:
            writer = self._write_with()
            for first in range(0, len(moments), _MOMENTS_AT_ONCE):
                writer.store(moments[first : first + _MOMENTS_AT_ONCE])

    def remove(self, ids: Sequence[str]) -> None:
        """Delete the rows with these ids."""
        with self._writing:
            self._write_with().remove(ids)

    def advance(self) -> None:
        """Begin a new stamp."""
        with self._writing:
            self._write_with().advance()

    def install(self, stamp: int) -> None:
        """Have the codes of this stamp used."""
        with self._writing:
            self._write_with().install(stamp)

    def rest(self) -> None:
        """Close the connections until they are needed again. No effect while they are used."""
        for lock in (self._reading, self._writing):
            if lock.acquire(blocking=False):
                try:
                    self._close(reading=lock is self._reading)
                finally:
                    lock.release()

    def close(self) -> None:
        """Close the connections, when they are not used any more."""
        for lock in (self._reading, self._writing):
            with lock:
                self._close(reading=lock is self._reading)

    def _close(self, *, reading: bool) -> None:
        if reading and self._reader is not None:
            self._reader.close()
            self._reader, self._version = None, -1
        elif not reading and self._writer is not None:
            self._writer.close()
            self._writer = None

    def _read_with(self) -> Rows:
        self._reader = self._connected(self._reader)
        return self._reader

    def _write_with(self) -> Rows:
        self._writer = self._connected(self._writer)
        return self._writer

    def _connected(self, rows: Rows | None) -> Rows:
        rows = rows or Rows(self._folder, self._timeout_s)
        if rows.away or rows.inode != self._inode:
            rows.close()
            raise Missing(f"{self._folder} was dropped", todo="try again")
        return rows

    def _refreshed(self, reader: Rows) -> View:
        view = self._view
        while True:
            changes = reader.changes(view.stamp, view.codes, len(view.names.cameras), len(view.names.kinds))
            if changes.state.codes == view.codes:
                return view.after(changes)
            base = load_base(self._folder, changes.state.codes, with_codes=self._scans)
            view = view.on(base, changes.state.codes)

    def _told(self, slots: Numbers, stamps: Numbers, *, with_vectors: bool) -> list[Row] | None:
        """What is told of these rows, in this order; None when one of them is not there any more.

        The vectors are read first: a slot that still has its row afterwards had this row's vector all the time.
        """
        vectors = self.vectors.of(slots) if with_vectors else None
        with self._reading:
            told = self._read_with().told(slots.tolist())
        rows = [told.get(int(slot)) for slot in slots]
        found = [row for row, stamp in zip(rows, stamps, strict=True) if row is not None and row["stamp"] == stamp]
        if len(found) < len(slots):
            return None
        if vectors is not None:
            for row, vector in zip(found, vectors, strict=True):
                row["vector"] = vector
        return found

    def _until_steady(self, attempt: Callable[[View], list[Found] | None]) -> list[Found]:
        for _ in range(_TRIES):
            found = attempt(self.view())
            if found is not None:
                return found
        raise Transient(f"the rows in {self._folder} change faster than they are read", todo="try again")


def _all(view: View, which: Filter) -> tuple[Numbers, Numbers]:
    """Slots and stamps of the rows that pass."""
    parts = list(view.parts(which))
    slots = np.concatenate([part.told.slot[part.mask] for part in parts]) if parts else np.empty(0, np.int64)
    stamps = np.concatenate([part.told.stamp[part.mask] for part in parts]) if parts else np.empty(0, np.int64)
    return slots, stamps


def _nearest(view: View, which: Filter, ask: Ask, vectors: VectorFile) -> tuple[Numbers, Numbers, NDArray[np.float32]]:
    """Slots, stamps and scores of the nearest rows that pass: as many as the moments asked for may have, and all that
    are as near as the last of them."""
    some = [_of_part(part, ask, vectors) for part in view.parts(which)]
    if not some:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    told = [(part.told, places) for part, places, _ in some]
    scores = np.concatenate([found for _, _, found in some])

    def of(column: Callable[[Told], Numbers]) -> Numbers:
        return np.concatenate([column(rows)[places] for rows, places in told])

    starts, moments = of(lambda rows: rows.columns.start_ms), of(lambda rows: rows.moment)
    chosen = _first(scores, starts, moments, ask.limit)
    return of(lambda rows: rows.slot)[chosen], of(lambda rows: rows.stamp)[chosen], scores[chosen]


def _of_part(part: Part, ask: Ask, vectors: VectorFile) -> tuple[Part, Numbers, NDArray[np.float32]]:
    """The places in the part of the rows that may be the nearest, and their scores."""
    count = int(np.count_nonzero(part.mask))
    # However many of the nearest rows are of one moment: so many are of as many moments as are asked for.
    wanted = max(part.depth, MOST_ROWS_EACH * ask.limit)
    if part.codes is None or count <= max(_FEW, wanted):
        places = np.flatnonzero(part.mask)
    else:
        places = np.sort(part.codes.nearest(ask.vector, wanted, None if count == len(part.told) else part.mask))
    return part, places, vectors.scores(part.told.slot[places], ask.vector)


def _first(scores: NDArray[np.float32], starts: Numbers, moments: Numbers, limit: int) -> Numbers:
    """The places of the rows of the `limit` nearest moments, and of the rows that are as near as the last of these."""
    most = MOST_ROWS_EACH * limit
    among = np.arange(len(scores))
    if len(scores) > most:
        least = np.partition(scores, len(scores) - most)[len(scores) - most]
        among = np.flatnonzero(scores >= least)
    # Equal scores in the order of the moments' ids, which begin with their start.
    among = among[np.lexsort((starts[among], -scores[among]))]
    _, firsts = np.unique(moments[among], return_index=True)
    if len(firsts) > limit:
        last = np.sort(firsts)[limit - 1]
        among = among[scores[among] >= scores[among[last]]]
        among = among[: last + 1 + _MOST_TIES]
    return among
