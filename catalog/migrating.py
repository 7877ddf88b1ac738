"""Migrations of the catalog: which version it has, and bringing it up to this Watchword's.

Each migration is a file in catalog/migrations/versions. Alembic runs them in one transaction, on SQLite as well. An
empty store gets the newest tables without it, in a tenth of the time.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, text

from catalog.tables import FIRST_ROWS, META, METADATA, REVISION, REVISION_TABLE
from proto.errors import Broken

log = logging.getLogger("watchword.catalog")

_FIRST_VERSION = 1
"""The version of catalogs that were made before there were migrations."""
_ALONE = threading.Lock()
"""Alembic keeps the connection of a migration in a global variable."""


def is_current(connection: Connection, shown: str) -> bool:
    """Whether the tables are those of this Watchword; False if they are missing or old.

    Raises Broken when a later Watchword made them, or something else.
    """
    tables = set(inspect(connection).get_table_names())
    if REVISION_TABLE in tables:
        found = connection.scalar(text(f"SELECT version_num FROM {REVISION_TABLE}"))  # noqa: S608 - a constant
        if found is not None and found > REVISION:
            raise _later(shown, found)
        return bool(found == REVISION)
    if not tables & set(METADATA.tables):
        return False
    first = connection.scalar(select(META.c.value).where(META.c.name == "version")) if META.name in tables else None
    if first is None:
        raise Broken(
            f"{shown} has tables of something else ({', '.join(sorted(tables & set(METADATA.tables)))})",
            todo="give Watchword a database of its own",
        )
    if first != _FIRST_VERSION:
        raise _later(shown, first)
    return False


def migrate(connection: Connection, shown: str) -> None:
    """Bring the tables up to this Watchword's, within the transaction of the connection."""
    if not set(inspect(connection).get_table_names()) & {META.name, REVISION_TABLE}:
        _create(connection)
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ALONE:
        command.upgrade(config, REVISION)
    log.info("%s has the tables of version %s now", shown, REVISION)


def _create(connection: Connection) -> None:
    # Nothing is there: `is_current` was asked in this transaction. Asking for each table takes half of the time.
    METADATA.create_all(connection, checkfirst=False)
    connection.execute(META.insert(), FIRST_ROWS)
    version = Table(REVISION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))  # as Alembic's
    version.create(connection)
    connection.execute(version.insert(), {"version_num": REVISION})


def _later(shown: str, version: object) -> Broken:
    return Broken(
        f"{shown} is a catalog of version {version}, this Watchword knows version {REVISION}",
        todo="use the Watchword that made it, or a later one",
    )
