"""The tables of a bucket, and the statements that name all their columns."""

from __future__ import annotations

LAYOUT = 1

SCHEMA = """
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1), layout INTEGER NOT NULL, dimension INTEGER NOT NULL,
    slots INTEGER NOT NULL, stamp INTEGER NOT NULL, codes INTEGER NOT NULL, dropped INTEGER NOT NULL);
CREATE TABLE cameras (code INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE kinds (code INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE moments (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, camera INTEGER NOT NULL, start_ms INTEGER NOT NULL,
    peak_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, frames INTEGER NOT NULL, closed INTEGER NOT NULL,
    log TEXT NOT NULL, partition INTEGER NOT NULL, first_offset INTEGER NOT NULL, last_offset INTEGER NOT NULL,
    kinds INTEGER NOT NULL, objects TEXT NOT NULL, resume TEXT NOT NULL);
CREATE TABLE rows (
    slot INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, moment INTEGER NOT NULL, row INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, "left" REAL NOT NULL, top REAL NOT NULL, "right" REAL NOT NULL, bottom REAL NOT NULL,
    kind TEXT NOT NULL, since_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, score REAL NOT NULL);
CREATE INDEX rows_by_stamp ON rows (stamp);
CREATE INDEX rows_by_moment ON rows (moment);
CREATE TABLE free (slot INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, blank INTEGER NOT NULL);
CREATE INDEX free_by_stamp ON free (stamp, slot);
CREATE INDEX free_to_blank ON free (slot) WHERE blank = 0;
"""
_MOMENT = ("number", "id", "camera", "start_ms", "peak_ms", "end_ms", "frames", "closed", "log", "partition")
_MOMENT_FIELDS = (*_MOMENT, "first_offset", "last_offset", "kinds", "objects", "resume")
ROW_VALUES = ("row", "at_ms", "left", "top", "right", "bottom", "kind", "since_ms", "until_ms", "score")
STORE_MOMENT = (
    f"INSERT OR REPLACE INTO moments ({', '.join(_MOMENT_FIELDS)}) VALUES ({', '.join('?' * len(_MOMENT_FIELDS))})"  # noqa: S608
)
STORE_ROW = f"INSERT INTO rows VALUES ({', '.join('?' * (3 + len(ROW_VALUES)))})"  # noqa: S608
_TOLD = ("id", "start_ms", "peak_ms", "end_ms", "frames", "closed", "log", "partition", "first_offset", "last_offset")
DETAILS = f"""
    SELECT r.slot, r.stamp, {", ".join(f"m.{name}" for name in _TOLD)}, m.objects, m.resume,
           {", ".join(f'r."{name}"' for name in ROW_VALUES)}, c.name
    FROM json_each(?) AS asked CROSS JOIN rows r ON r.slot = asked.value JOIN moments m ON m.number = r.moment
    JOIN cameras c ON c.code = m.camera"""  # noqa: S608
DETAIL_NAMES = ("slot", "stamp", *_TOLD, "objects", "resume", *ROW_VALUES, "camera")

COLUMNS = ("slot", "stamp", "moment", "row", "camera", "start_ms", "end_ms", "kinds")
"""What is known of each row in memory."""
CHANGED = """
    SELECT r.slot, r.stamp, r.moment, r.row, m.camera, m.start_ms, m.end_ms, m.kinds
    FROM rows r JOIN moments m ON m.number = r.moment WHERE r.stamp > ? ORDER BY r.slot"""
