"""How each camera is doing."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """A table for what camera processes tell of their cameras."""
    op.create_table(
        "statuses",
        Column("camera", String(64).with_variant(String(64, collation="C"), "postgresql"), primary_key=True),
        Column("told_ms", BigInteger, nullable=False),
        Column("status", String, nullable=False),
        if_not_exists=True,
    )


def downgrade() -> None:
    """What it holds is told anew."""
    op.drop_table("statuses")
