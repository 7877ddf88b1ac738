"""The SQL store for small state that several processes share: opening it and translating its errors."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, create_engine, event, select
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from catalog.files import disk_trouble, locked
from catalog.tables import META, METADATA, VERSION
from proto.errors import Broken, Transient, WatchwordError

_BUSY_S = 5.0
"""How long a call waits while another process writes."""

# SQLite error codes; the lower eight bits are the kind.
_DISK_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
}


class Catalog:
    """The SQL store for small shared state. Safe for many threads and processes.

    Its methods, and those of everything built on it, block: call them from a thread. They raise Broken when the
    store cannot be read or written, and Transient when another process kept it busy for too long.
    """

    def __init__(self, url: str) -> None:
        """`url` names the store, as in sqlite:////folder/catalog.db; `sqlite_url` makes it from a path."""
        self.path = _path_of(url)
        """The SQLite file."""
        self._engine = create_engine(url, connect_args={"timeout": _BUSY_S}, pool_timeout=_BUSY_S)
        # SQLite must be told at the start of a transaction that it will write.
        self._writer = self._engine.execution_options(writes=True)
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        event.listen(self._writer, "begin", _begin_to_write)

    def open(self) -> None:
        """Create the file and its tables if missing. Broken when it has another version."""
        # SQLite does not always wait when two processes set the journal mode.
        with locked(self.path):
            with self._told("open"), self._engine.connect() as connection:
                # In WAL mode readers do not wait for the writer. The mode is stored in the file.
                mode = connection.connection.cursor().execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != ("wal",):
                raise Broken(
                    f"{self.path} cannot be shared by several processes on this file system",
                    todo="put the data folder on a local disk",
                )
            with self.writing() as connection:
                METADATA.create_all(connection)
                found = connection.scalar(select(META.c.value).where(META.c.name == "version"))
                if found is None:
                    connection.execute(META.insert(), {"name": "version", "value": VERSION})
            if found is not None and found != VERSION:
                raise Broken(
                    f"{self.path} is a catalog of version {found}, this Watchword knows version {VERSION}",
                    todo="use the Watchword that made it, or stop Watchword and move the file away",
                )

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction on one snapshot: later writes by others are not visible."""
        with self._told("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction: durable when the block ends, rolled back when it raises. One writer at a time."""
        with self._told("write"), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _told(self, action: str) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            raise self._translated(action, error.orig if isinstance(error, DBAPIError) else error) from error
        except PoolTimeoutError as error:
            raise Transient(
                f"every connection to {self.path} is in use", todo="try again; if it stays so, check the disk"
            ) from error
        except SQLAlchemyError as error:
            raise Broken(f"cannot {action} {self.path} ({error})", todo="check the disk and the folder") from error

    def _translated(self, action: str, error: BaseException | None) -> WatchwordError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Transient(f"{self.path} was kept busy by another process for {_BUSY_S:.0f} s", todo="try again")
        if code in _DISK_ERRORS:
            return disk_trouble(action, self.path, self._seen_by_the_system(_DISK_ERRORS[code]))
        damaged = code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        what = "is damaged" if damaged else f"cannot be used: cannot {action} it"
        return Broken(
            f"{self.path} {what} ({error})",
            todo="stop Watchword and move the file away; a new one is made, and the record of unseen frames is lost",
        )

    def _seen_by_the_system(self, number: int) -> OSError:
        """The operating system's error for the file; SQLite reports only that it failed."""
        if number != errno.ENOSPC:
            try:
                os.close(os.open(self.path, os.O_RDWR | os.O_CLOEXEC))
            except OSError as error:
                return error
        return OSError(number, os.strerror(number))


def sqlite_url(path: Path) -> str:
    """The URL of a catalog in this file, with special characters in the path escaped."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def upsert(table: Table) -> tuple[Insert, dict[str, Any]]:
    """An insert into the table, and the columns to set when the key exists already."""
    statement = insert(table)
    keys = set(table.primary_key.columns.keys())
    return statement, {name: statement.excluded[name] for name in table.columns.keys() if name not in keys}  # noqa: SIM118


def replacing(table: Table) -> Insert:
    """An insert that replaces the row of the same key."""
    statement, values = upsert(table)
    return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=values)


def _path_of(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Broken(f"{url[:80]!r} does not name a catalog", todo="give sqlite:////folder/catalog.db") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise Broken(
            f"a catalog cannot be kept in {parsed.render_as_string(hide_password=True)}",
            todo="name a SQLite file: sqlite:////folder/catalog.db",
        )
    return Path(parsed.database)


def _prepare(connection: Any, _record: object) -> None:
    # The driver must not begin transactions; `_begin` does.
    connection.isolation_level = None
    # A declared gap must outlive a power cut: NORMAL may lose the last transactions.
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    if not connection.get_execution_options().get("writes"):
        connection.exec_driver_sql("BEGIN")


def _begin_to_write(connection: Connection) -> None:
    # A deferred transaction that reads first and then writes fails, without waiting, if another wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
