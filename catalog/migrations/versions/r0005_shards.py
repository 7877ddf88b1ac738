"""The map of shards: their names and addresses, and where cameras' moments lie."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, String, column, table

from proto.errors import Broken

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the tables, empty: the first process that starts fills them from its settings."""
    op.create_table(
        "shards",
        Column("name", String(32).with_variant(String(32, collation="C"), "postgresql"), primary_key=True),
        Column("address", String, nullable=False),
        Column("state", String(16), nullable=False),
        Column("marked", Boolean, nullable=False),
        Column("told", String, nullable=False),
        Column("seed", String, nullable=False),
        Column("place", Integer, nullable=False),
    )
    op.create_table(
        "shard_slots",
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("now", String(32), nullable=False),
        Column("also", String, nullable=False),
        Column("coming", String(32), nullable=False),
        Column("unsure", Boolean, nullable=False),
        Column("epoch", BigInteger, nullable=False),
    )
    op.create_index("ix_shard_slots_epoch", "shard_slots", ["epoch"])
    op.bulk_insert(table("meta", column("name"), column("value")), [{"name": "shards", "value": 0}])


def downgrade() -> None:
    """There is no way back: an earlier version would look for moments where they were before they were moved."""
    raise Broken(
        "a catalog cannot go back to the version before the map of shards was in it",
        todo="restore the backup that was made before the upgrade",
    )
