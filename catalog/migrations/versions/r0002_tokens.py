"""The tokens of those who may ask."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, String, column, table
from sqlalchemy.dialects.postgresql import JSONB

from proto.errors import Broken

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table, and begin to count its changes."""
    op.create_table(
        "tokens",
        Column("id", String(16).with_variant(String(16, collation="C"), "postgresql"), primary_key=True),
        Column("hash", String(64).with_variant(String(64, collation="C"), "postgresql"), nullable=False),
        Column("settings", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        Column("used_ms", BigInteger, nullable=False),
        Column("change", BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_tokens_change", "tokens", ["change"], if_not_exists=True)
    meta = table("meta", column("name"), column("value"))
    op.execute(meta.delete().where(meta.c.name == "tokens"))
    op.bulk_insert(meta, [{"name": "tokens", "value": 0}])


def downgrade() -> None:
    """There is no way back: the tokens would be lost."""
    raise Broken(
        "a catalog cannot go back to the version before there were tokens",
        todo="restore the backup that was made before the upgrade",
    )
