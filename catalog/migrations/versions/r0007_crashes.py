"""Cameras that a camera process crashed on."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table, empty."""
    op.create_table(
        "crashes",
        Column("camera", String(64).with_variant(String(64, collation="C"), "postgresql"), primary_key=True),
        Column("count", BigInteger, nullable=False),
        Column("at_ms", BigInteger, nullable=False),
        Column("mark", String(256), nullable=False),
    )


def downgrade() -> None:
    """Drop it: processes of the earlier version know nothing of it."""
    op.drop_table("crashes")
