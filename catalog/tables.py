"""The SQL tables of the catalog."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

REVISION = "0008"
"""The newest file in catalog/migrations/versions. A higher one was made by a later Watchword."""
REVISION_TABLE = "watchword_version"
"""Where Alembic keeps it: under a name that no other program's tables have."""

METADATA = MetaData()


def name_of(length: int) -> TypeEngine[str]:
    """Text that is compared by its code points, as SQLite does, not by the rules of a language."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


META = Table(
    "meta",
    METADATA,
    Column("name", name_of(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)


FIRST_ROWS = [
    # Watchwords from before migrations refuse a catalog of this version: they would not look for the cameras here.
    {"name": "version", "value": 2},
    # Counts the changes of tokens.
    {"name": "tokens", "value": 0},
    # Counts the changes of the map of shards: its epoch.
    {"name": "shards", "value": 0},
    # Counts the changes of limits, erasures and holds, and numbers them.
    {"name": "life", "value": 0},
    # Counts the changes of cameras.
    {"name": "cameras", "value": 0},
]
"""What META has from the start."""


def _gaps(name: str) -> Table:
    """A table of gaps. `anchor` tells gaps of one place apart: the first offset, or the start without a place."""
    return Table(
        name,
        METADATA,
        Column("camera", name_of(64), primary_key=True),
        Column("reason", name_of(16), primary_key=True),
        Column("log", name_of(32), primary_key=True),
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
    Column("camera", name_of(64), primary_key=True),
    Column("captured_ms", BigInteger, nullable=False),
    Column("log", String(32), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
)

PARTITION_MARKS = Table(
    "partition_marks",
    METADATA,
    Column("log", name_of(32), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("broker_ms", BigInteger, nullable=False),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("name", name_of(256), primary_key=True),
    Column("holder", String(256), nullable=False),
    Column("taken_ms", BigInteger, nullable=False),
    Column("for_ms", BigInteger, nullable=False),
)

PROGRESS = Table(
    "progress",
    METADATA,
    Column("camera", name_of(64), primary_key=True),
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
    Column("space", name_of(16), primary_key=True),
    Column("camera", name_of(64), primary_key=True),
    Column("view", BigInteger, nullable=False),
    Column("dimension", Integer, nullable=False),
    # How many rows each sample has, and the moments' ids, as JSON; the vectors one after another, as float16.
    Column("lengths", String, nullable=False),
    Column("moments", String, nullable=False),
    Column("vectors", LargeBinary, nullable=False),
)

CAMERAS = Table(
    "cameras",
    METADATA,
    Column("name", name_of(64), primary_key=True),
    # `Camera` as JSON, so that a new field of it needs no migration.
    Column("settings", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    # The number of its last change: those of all cameras are counted in META as "cameras".
    Column("change", BigInteger, nullable=False, index=True),
)

VIEWS = Table(
    "views",
    METADATA,
    Column("camera", name_of(64), primary_key=True),
    Column("view", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", name_of(16), primary_key=True),
    # Of the whole token, which is nowhere kept: SHA-256 as hex digits.
    Column("hash", name_of(64), nullable=False),
    # `Token` as JSON, so that a new field of it needs no migration.
    Column("settings", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    # When it was last used, to a minute. No change: whoever reads tokens need not know.
    Column("used_ms", BigInteger, nullable=False),
    # The number of its last change: those of all tokens are counted in META as "tokens".
    Column("change", BigInteger, nullable=False, index=True),
)

RETENTION = Table(
    "retention",
    METADATA,
    # Empty: cameras without a limit of their own.
    Column("camera", name_of(64), primary_key=True),
    Column("days", Float(53), nullable=False),
)

# How many bytes a camera may take: an empty name, those without a limit of their own.
SIZE_LIMITS = Table(
    "size_limits",
    METADATA,
    Column("camera", name_of(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)

# What starts before it is beyond the camera's bytes.
FLOORS = Table(
    "floors",
    METADATA,
    Column("camera", name_of(64), primary_key=True),
    Column("floor_ms", BigInteger, nullable=False),
)

HOLDS = Table(
    "holds",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("camera", name_of(64), nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
    Column("placed_ms", BigInteger, nullable=False),
    # 0 while it is in force.
    Column("lifted_ms", BigInteger, nullable=False),
)

ERASURES = Table(
    "erasures",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("camera", name_of(64), nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("moment", String(32), nullable=False),
    Column("reason", String, nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    # 0 until it is carried out everywhere.
    Column("done_ms", BigInteger, nullable=False),
)

# What was done for an erasure, by store, and by place where a store is a machine's own.
ERASURE_WORK = Table(
    "erasure_work",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("store", name_of(32), primary_key=True),
    Column("place", name_of(256), primary_key=True),
    Column("removed", BigInteger, nullable=False),
    Column("begun_ms", BigInteger, nullable=False),
    Column("done_ms", BigInteger, nullable=False),
)

KEYS = Table(
    "keys",
    METADATA,
    Column("name", name_of(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

STATUSES = Table(
    "statuses",
    METADATA,
    Column("camera", name_of(64), primary_key=True),
    Column("told_ms", BigInteger, nullable=False),
    # `CameraStatus` as JSON, so that a new field of it needs no migration.
    Column("status", String, nullable=False),
    # Its cost once more: placing cameras reads that of all of them, often.
    Column("cost", Float(53), nullable=False, server_default="0"),
)

# The camera processes that live.
FLEET = Table(
    "fleet",
    METADATA,
    Column("holder", name_of(256), primary_key=True),
    Column("host", String(256), nullable=False),
    Column("site", name_of(64), nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("for_ms", BigInteger, nullable=False),
)

# Cameras that a camera process crashed on.
CRASHES = Table(
    "crashes",
    METADATA,
    Column("camera", name_of(64), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    # What the latest crash is known by.
    Column("mark", String(256), nullable=False),
)

SHARDS = Table(
    "shards",
    METADATA,
    Column("name", name_of(32), primary_key=True),
    Column("address", String, nullable=False),
    Column("state", String(16), nullable=False),
    Column("marked", Boolean, nullable=False),
    Column("told", String, nullable=False),
    Column("seed", String, nullable=False),
    Column("place", Integer, nullable=False),
)

SHARD_SLOTS = Table(
    "shard_slots",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("now", String(32), nullable=False),
    # Names of shards, with spaces between them.
    Column("also", String, nullable=False),
    Column("coming", String(32), nullable=False),
    Column("unsure", Boolean, nullable=False),
    # The number of its last change: those of the map are counted in META as "shards".
    Column("epoch", BigInteger, nullable=False, index=True),
)
