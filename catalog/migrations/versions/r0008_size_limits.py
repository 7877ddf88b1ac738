"""Limits in bytes, and what they come to for each camera."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the tables, empty."""
    for table, value in (("size_limits", "bytes"), ("floors", "floor_ms")):
        op.create_table(
            table,
            Column("camera", String(64).with_variant(String(64, collation="C"), "postgresql"), primary_key=True),
            Column(value, BigInteger, nullable=False),
        )


def downgrade() -> None:
    """Drop them: processes of the earlier version show again what was hidden and is not removed yet."""
    op.drop_table("floors")
    op.drop_table("size_limits")
