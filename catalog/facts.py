"""What a backup keeps of the catalog, and how that comes into another one. Tokens, keys, leases and states stay out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, false, select

from catalog.coverage import Coverage, Gap, Looked, Reason
from catalog.store import Catalog
from catalog.tables import BACKGROUNDS, CAMERAS, DECLARED, MARKS, MERGED, PARTITION_MARKS, PROGRESS, VIEWS
from proto.errors import Invalid

Fact = dict[str, Any]

_AT_ONCE = 10_000
_MERGED_AT_ONCE = 1000
_BYTES = "base64"

# In the order in which they are restored: cameras last, since they are watched as soon as they are there.
_TABLES = (BACKGROUNDS, DECLARED, MERGED, VIEWS, PROGRESS, PARTITION_MARKS, MARKS, CAMERAS)
TABLES = tuple(table.name for table in _TABLES)
"""What is kept, in the order in which it must be restored. The rules are not among it: `Life` has them."""


class Facts:
    """The facts of a catalog, as values for JSON. Methods block."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def read(self, keep: Callable[[str, list[Fact]], None]) -> dict[str, Looked]:
        """Hand every table to `keep`, in parts, all as of one instant; and how far each camera was looked at then."""
        with self._catalog.reading() as connection:
            for table in _TABLES:
                rows: list[Fact] = []
                for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings():
                    rows.append({name: _told(value) for name, value in row.items()})
                    if len(rows) == _AT_ONCE:
                        keep(table.name, rows)
                        rows = []
                if rows:
                    keep(table.name, rows)
            marks = [Looked(*row) for row in connection.execute(select(MARKS))]
        return {mark.camera: mark for mark in marks}

    def merge(self, name: str, facts: Sequence[Mapping[str, Any]]) -> None:
        """Add what is not there. What is there stays. Cameras are not added: that is the registry's."""
        table = next((one for one in _TABLES if one.name == name), None)
        if table is None or table is CAMERAS:
            raise Invalid(f"a backup has facts of {name[:40]!r}", todo="use the Watchword that made it, or a later one")
        rows = [_row(table, fact) for fact in facts]
        for first in range(0, len(rows), _MERGED_AT_ONCE):
            with self._catalog.writing() as connection:
                self._add(connection, table, rows[first : first + _MERGED_AT_ONCE])

    def merge_marks(self, facts: Sequence[Mapping[str, Any]], until_ms: int) -> int:
        """Add the marks of cameras that have none, and declare as lost what came after, until then; of how many."""
        rows = [_row(MARKS, fact) for fact in facts]
        known = Coverage(self._catalog).looked_until(frozenset(row["camera"] for row in rows))
        new = [row for row in rows if row["camera"] not in known]
        # First, so that it is declared also when the process ends between the two.
        self.declare_lost({row["camera"]: (row["captured_ms"], until_ms) for row in new})
        self.merge(MARKS.name, new)
        return len(new)

    def declare_lost(self, spans: Mapping[str, tuple[int, int]]) -> None:
        """Say of these cameras that nothing is known of them after the first instant, until the second."""
        gaps = [
            Gap(camera, Reason.LOST, begins_ms, ends_ms)
            for camera, (begins_ms, ends_ms) in sorted(spans.items())
            if begins_ms < ends_ms
        ]
        Coverage(self._catalog).declare(gaps)

    def _add(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        self._catalog.put(connection, table, rows, where=lambda _: false())


def _told(value: object) -> object:
    return {_BYTES: base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _row(table: Table, fact: Mapping[str, Any]) -> Fact:
    wanted = {column.name for column in table.columns}
    if set(fact) != wanted:
        raise Invalid(
            f"a backup's facts of {table.name} have other fields than this Watchword knows",
            todo="use the Watchword that made it, or a later one",
        )
    return {
        name: base64.b64decode(value[_BYTES]) if isinstance(value, dict) and set(value) == {_BYTES} else value
        for name, value in fact.items()
    }
