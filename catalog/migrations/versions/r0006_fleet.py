"""The fleet: which camera processes live, and what each camera costs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Float, String

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table, empty. What a camera costs is not known until its status is told again."""
    op.create_table(
        "fleet",
        Column("holder", String(256).with_variant(String(256, collation="C"), "postgresql"), primary_key=True),
        Column("host", String(256), nullable=False),
        Column("site", String(64).with_variant(String(64, collation="C"), "postgresql"), nullable=False),
        Column("seen_ms", BigInteger, nullable=False),
        Column("for_ms", BigInteger, nullable=False),
    )
    op.add_column("statuses", Column("cost", Float(53), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop both: processes of the earlier version tell neither."""
    op.drop_column("statuses", "cost")
    op.drop_table("fleet")
