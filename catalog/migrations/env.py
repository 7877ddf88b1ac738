"""Run by Alembic: the connection and its transaction come from `catalog.migrating.migrate`."""

from __future__ import annotations

from alembic import context

from catalog.tables import REVISION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=REVISION_TABLE)
context.run_migrations()
