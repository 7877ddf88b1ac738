"""Limits, erasures, holds, what was done for an erasure, and the key that receipts are signed with."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Float, LargeBinary, String, column, table
from sqlalchemy.types import TypeEngine

from proto.errors import Broken

revision = "0003"
down_revision = "0002"


def _name(length: int) -> TypeEngine[str]:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables, and the counter of their changes."""
    op.create_table(
        "retention", Column("camera", _name(64), primary_key=True), Column("days", Float(53), nullable=False)
    )
    op.create_table(
        "holds",
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        Column("camera", _name(64), nullable=False),
        Column("start_ms", BigInteger, nullable=False),
        Column("end_ms", BigInteger, nullable=False),
        Column("reason", String, nullable=False),
        Column("placed_ms", BigInteger, nullable=False),
        Column("lifted_ms", BigInteger, nullable=False),
    )
    op.create_table(
        "erasures",
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        Column("camera", _name(64), nullable=False),
        Column("start_ms", BigInteger, nullable=False),
        Column("end_ms", BigInteger, nullable=False),
        Column("moment", String(32), nullable=False),
        Column("reason", String, nullable=False),
        Column("asked_ms", BigInteger, nullable=False),
        Column("done_ms", BigInteger, nullable=False),
    )
    op.create_table(
        "erasure_work",
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        Column("store", _name(32), primary_key=True),
        Column("place", _name(256), primary_key=True),
        Column("removed", BigInteger, nullable=False),
        Column("begun_ms", BigInteger, nullable=False),
        Column("done_ms", BigInteger, nullable=False),
    )
    op.create_table("keys", Column("name", _name(64), primary_key=True), Column("value", LargeBinary, nullable=False))
    op.bulk_insert(table("meta", column("name"), column("value")), [{"name": "life", "value": 0}])


def downgrade() -> None:
    """There is no way back: what was erased would be shown again."""
    raise Broken(
        "a catalog cannot go back to the version before erasures were in it",
        todo="restore the backup that was made before the upgrade",
    )
