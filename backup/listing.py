"""Which moments have pictures, ordered by time. On disk, since there may be tens of millions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from backup.slices import Slice


class Listing:
    """What a listing of pictures said. Blocks; one thread at a time."""

    def __init__(self, listed: Iterable[tuple[str, int, int]]) -> None:
        """`listed` gives a moment, how many entries it has, and when the latest of these was written."""
        # An empty name is a file that SQLite removes by itself, also when the process is killed.
        self._found = sqlite3.connect("", check_same_thread=False)
        self._found.execute("CREATE TABLE pictured (moment TEXT PRIMARY KEY, entries, written_ns) WITHOUT ROWID")
        self._found.executemany("INSERT OR REPLACE INTO pictured VALUES (?, ?, ?)", listed)

    def spans(self) -> list[tuple[int, int]]:
        """The times that have pictures, one for each that begins then: by hours."""
        hours = self._found.execute("SELECT DISTINCT substr(moment, 1, 9) FROM pictured").fetchall()
        return [(int(hour, 16) << 20, (int(hour, 16) + 1) << 20) for (hour,) in hours]

    def count(self, part: Slice) -> int:
        """How many moments that begin then have pictures."""
        query = "SELECT count(*) FROM pictured WHERE moment >= ? AND moment < ?"
        found: tuple[int] = self._found.execute(query, _ends(part)).fetchone()
        return found[0]

    def of(self, part: Slice) -> list[tuple[str, str]]:
        """The moments that begin then and have pictures, and what changes with these."""
        query = "SELECT moment, entries, written_ns FROM pictured WHERE moment >= ? AND moment < ? ORDER BY moment"
        return [(moment, f"{entries}:{ns}") for moment, entries, ns in self._found.execute(query, _ends(part))]

    def close(self) -> None:
        """Remove it."""
        self._found.close()


def _ends(part: Slice) -> tuple[str, str]:
    return f"{part.start_ms:014x}", f"{part.end_ms:014x}"
