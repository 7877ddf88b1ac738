"""The catalog in a SQLite file: connections, transactions, errors."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL

from catalog.files import disk_trouble, locked
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


class SqliteBackend:
    """One file, shared by the processes of one machine."""

    def __init__(self, url: URL) -> None:
        """The URL names a file: `store.backend_of` checks it."""
        self.path = Path(url.database or "")
        self.shown = str(self.path)
        self._url = url

    def engine(self, *, migrating: bool = False) -> Engine:
        """Connections to the file. A migration needs no others: SQLite waits for nothing but locks."""
        del migrating
        engine = create_engine(self._url, connect_args={"timeout": _BUSY_S}, pool_timeout=_BUSY_S, hide_parameters=True)
        event.listen(engine, "connect", _prepare)
        return engine

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Prepare the file; keep other processes from opening it meanwhile."""
        # SQLite does not always wait when two processes set the journal mode.
        with locked(self.path):
            self._owners_only()
            yield

    def prepare(self, engine: Engine) -> None:
        """Set the journal mode. Broken where the file system cannot have it."""
        with engine.connect() as connection:
            # In WAL mode readers do not wait for the writer. The mode is stored in the file.
            mode = connection.connection.cursor().execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != ("wal",):
            raise Broken(
                f"{self.path} cannot be shared by several processes on this file system",
                todo="put the data folder on a local disk, or set catalog.url to a PostgreSQL",
            )

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that only reads."""
        connection.exec_driver_sql("BEGIN")

    def begin_to_write(self, connection: Connection) -> None:
        """Begin a transaction that writes. It is the only one until it ends."""
        # A deferred transaction that reads first and then writes fails, without waiting, if another wrote in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def keep_others_out(self, connection: Connection) -> None:
        """Nothing to do: a transaction that writes is alone."""

    def insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
        """An insert that can say what happens when the key exists, and its parameters."""
        return insert(table), rows[0] if len(rows) == 1 else rows

    def translated(self, action: str, error: BaseException | None) -> WatchwordError:
        """The driver's error as one of ours."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Transient(f"{self.path} was kept busy by another process for {_BUSY_S:.0f} s", todo="try again")
        if code in _DISK_ERRORS:
            return disk_trouble(action, self.path, self._seen_by_the_system(_DISK_ERRORS[code]))
        damaged = code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        what = "is damaged" if damaged else f"cannot be used: cannot {action} it"
        return Broken(
            f"{self.path} {what} ({error})",
            todo="stop Watchword and move the file away; a new one is made, and cameras must be registered again",
        )

    def _owners_only(self) -> None:
        """Nobody else may read the file: addresses of cameras hold passwords. A file that is missing is made."""
        with suppress(OSError):  # SQLite says what is wrong with it
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.path.chmod(0o600)

    def _seen_by_the_system(self, number: int) -> OSError:
        """The operating system's error for the file; SQLite reports only that it failed."""
        if number != errno.ENOSPC:
            try:
                os.close(os.open(self.path, os.O_RDWR | os.O_CLOEXEC))
            except OSError as error:
                return error
        return OSError(number, os.strerror(number))


def _prepare(connection: Any, _record: object) -> None:
    # The driver must not begin transactions; `begin` does.
    connection.isolation_level = None
    # A declared gap must outlive a power cut: NORMAL may lose the last transactions.
    connection.execute("PRAGMA synchronous=FULL")
