"""The tables as they were before there were migrations, and the cameras, which were a file.

What a catalog.db of that time has already is left alone.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, column, table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from proto.errors import Broken

revision = "0001"
down_revision = None

_NOT_OF_BEFORE = 2
"""Watchwords from before migrations refuse a catalog of this version: they would miss the cameras."""


def _name(length: int) -> TypeEngine[str]:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Create what is missing."""
    _create("meta", Column("name", _name(64), primary_key=True), Column("value", BigInteger, nullable=False))
    for name in ("declared_gaps", "merged_gaps"):
        _create(
            name,
            Column("camera", _name(64), primary_key=True),
            Column("reason", _name(16), primary_key=True),
            Column("log", _name(32), primary_key=True),
            Column("partition", Integer, primary_key=True),
            Column("anchor", BigInteger, primary_key=True),
            Column("first_offset", BigInteger, nullable=False),
            Column("last_offset", BigInteger, nullable=False),
            Column("start_ms", BigInteger, nullable=False),
            Column("end_ms", BigInteger, nullable=False),
            Column("frames", BigInteger, nullable=False),
            Column("length_class", Integer, nullable=False),
        )
        op.create_index(f"{name}_by_time", name, ["length_class", "start_ms"], if_not_exists=True)
        op.create_index(f"{name}_by_place", name, ["log", "partition", "last_offset"], if_not_exists=True)
    _create(
        "marks",
        Column("camera", _name(64), primary_key=True),
        Column("captured_ms", BigInteger, nullable=False),
        Column("log", String(32), nullable=False),
        Column("partition", Integer, nullable=False),
        Column("offset", BigInteger, nullable=False),
    )
    _create(
        "partition_marks",
        Column("log", _name(32), primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("next_offset", BigInteger, nullable=False),
        Column("broker_ms", BigInteger, nullable=False),
    )
    _create(
        "leases",
        Column("name", _name(256), primary_key=True),
        Column("holder", String(256), nullable=False),
        Column("taken_ms", BigInteger, nullable=False),
        Column("for_ms", BigInteger, nullable=False),
    )
    _create(
        "progress",
        Column("camera", _name(64), primary_key=True),
        Column("source", String, nullable=False),
        Column("run", BigInteger, nullable=False),
        Column("start_ms", BigInteger, nullable=False),
        Column("at_s", Float(53), nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("ended", Boolean, nullable=False),
    )
    _create(
        "backgrounds",
        Column("space", _name(16), primary_key=True),
        Column("camera", _name(64), primary_key=True),
        Column("view", BigInteger, nullable=False),
        Column("dimension", Integer, nullable=False),
        Column("lengths", String, nullable=False),
        Column("moments", String, nullable=False),
        Column("vectors", LargeBinary, nullable=False),
    )
    _create(
        "views",
        Column("camera", _name(64), primary_key=True),
        Column("view", BigInteger, nullable=False),
        Column("state", String(16), nullable=False),
        Column("since_ms", BigInteger, nullable=False),
    )
    _create(
        "cameras",
        Column("name", _name(64), primary_key=True),
        Column("settings", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        Column("change", BigInteger, nullable=False),
    )
    op.create_index("ix_cameras_change", "cameras", ["change"], if_not_exists=True)
    meta = table("meta", column("name"), column("value"))
    op.execute(meta.delete().where(meta.c.name.in_(["version", "cameras"])))
    op.bulk_insert(meta, [{"name": "version", "value": _NOT_OF_BEFORE}, {"name": "cameras", "value": 0}])


def downgrade() -> None:
    """There is no way back: the cameras would be lost."""
    raise Broken(
        "a catalog cannot go back to the version before its cameras were in it",
        todo="restore the backup that was made before the upgrade",
    )


def _create(name: str, *columns: Column[object]) -> None:
    op.create_table(name, *columns, if_not_exists=True)
