"""The SQL tables of the catalog."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table

VERSION = 1
"""Version of this layout. A higher version was made by a later Watchword. A new table needs no new version:
`open` makes it in an older file, and an older Watchword does not look at it."""

METADATA = MetaData()

META = Table(
    "meta",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)


def _gaps(name: str) -> Table:
    """A table of gaps. `anchor` tells gaps of one place apart: the first offset, or the start without a place."""
    return Table(
        name,
        METADATA,
        Column("camera", String(64), primary_key=True),
        Column("reason", String(16), primary_key=True),
        Column("log", String(32), primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("anchor", BigInteger, primary_key=True),
        Column("first_offset", BigInteger, nullable=False),
        Column("last_offset", BigInteger, nullable=False),
        Column("start_ms", BigInteger, nullable=False),
        Column("end_ms", BigInteger, nullable=False),
        Column("frames", BigInteger, nullable=False),
        Column("length_class", Integer, nullable=False),
        Index(f"{name}_by_time", "length_class", "start_ms"),
        Index(f"{name}_by_place", "log", "partition", "last_offset"),
    )


# Gaps as declared, and SHED gaps merged once no restart can ask for them.
DECLARED = _gaps("declared_gaps")
MERGED = _gaps("merged_gaps")

MARKS = Table(
    "marks",
    METADATA,
    Column("camera", String(64), primary_key=True),
    Column("captured_ms", BigInteger, nullable=False),
    Column("log", String(32), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
)

PARTITION_MARKS = Table(
    "partition_marks",
    METADATA,
    Column("log", String(32), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("broker_ms", BigInteger, nullable=False),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("name", String(256), primary_key=True),
    Column("holder", String(256), nullable=False),
    Column("taken_ms", BigInteger, nullable=False),
    Column("for_ms", BigInteger, nullable=False),
)

PROGRESS = Table(
    "progress",
    METADATA,
    Column("camera", String(64), primary_key=True),
    Column("source", String, nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("at_s", Float(53), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("ended", Boolean, nullable=False),
)

BACKGROUNDS = Table(
    "backgrounds",
    METADATA,
    Column("space", String(16), primary_key=True),
    Column("camera", String(64), primary_key=True),
    Column("view", BigInteger, nullable=False),
    Column("dimension", Integer, nullable=False),
    # How many rows each sample has, and the moments' ids, as JSON; the vectors one after another, as float16.
    Column("lengths", String, nullable=False),
    Column("moments", String, nullable=False),
    Column("vectors", LargeBinary, nullable=False),
)

VIEWS = Table(
    "views",
    METADATA,
    Column("camera", String(64), primary_key=True),
    Column("view", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
)
