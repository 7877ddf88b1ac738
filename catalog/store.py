"""The SQL store for small state that several processes share: opening it, its transactions, its errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, event, tuple_
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from catalog.migrating import is_current, migrate
from catalog.sqlite import SqliteBackend
from proto.errors import Broken, Transient, WatchwordError

log = logging.getLogger("watchword.catalog")

_FORMS = "give postgresql://user:password@host:port/database, or sqlite:////folder/catalog.db"
_AT_ONCE = 200
"""Rows in one condition. SQLite allows an expression of 1,000 parts."""


class Backend(Protocol):
    """What differs between SQLite and PostgreSQL."""

    shown: str
    """How errors name the store. Without its password."""

    def engine(self, *, migrating: bool = False) -> Engine:
        """Connections. Those for `migrating` are patient."""

    def opening(self) -> AbstractContextManager[None]:
        """Held while the store is opened."""

    def prepare(self, engine: Engine) -> None:
        """Raise Broken if it cannot be a catalog."""

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that reads one snapshot."""

    def begin_to_write(self, connection: Connection) -> None:
        """Begin a transaction that writes."""

    def keep_others_out(self, connection: Connection) -> None:
        """Wait until no other process is past this point in a transaction."""

    def insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
        """An insert of the dialect, which has `on_conflict_do_update`, and the parameters that make these rows."""

    def translated(self, action: str, error: BaseException | None) -> WatchwordError:
        """The driver's error as one of ours."""


class Catalog:
    """The SQL store for small shared state. Safe for many threads and processes.

    Its methods, and those of everything built on it, block: call them from a thread. They raise Broken when the
    store cannot be read or written, and Transient when it is away or was kept busy for too long.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        """`url` names the store; `sqlite_url` makes one from a path. Nothing is opened yet. Broken if it names none."""
        self._backend = backend_of(url, timeout_s)
        self._engine = self._backend.engine()
        self._reader, self._writer = _transactions(self._engine, self._backend)

    @property
    def shown(self) -> str:
        """What errors call it. Without its password."""
        return self._backend.shown

    def open(self) -> None:
        """Create or migrate the tables if need be. Broken when a later Watchword made them."""
        with self._backend.opening():
            with self._told("open"):
                self._backend.prepare(self._engine)
            with self.reading() as connection:
                current = is_current(connection, self.shown)
            if not current:
                self._migrate()

    def is_current(self) -> bool:
        """Whether the tables are those of this Watchword. Changes nothing. Broken when a later one made them."""
        with self.reading() as connection:
            return is_current(connection, self.shown)

    def close(self) -> None:
        """Close every connection. May be called twice."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction on one snapshot: later writes by others are not visible."""
        with self._told("read"), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction: durable when the block ends, rolled back when it raises.

        In SQLite there is one writer at a time. In PostgreSQL others write meanwhile: what is read in order to be
        changed must be locked (`with_for_update`), and rows are changed in the order of their keys.
        """
        with self._told("write"), self._writer.begin() as connection:
            yield connection

    def put(
        self,
        connection: Connection,
        table: Table,
        rows: Iterable[Mapping[str, Any]],
        where: Callable[[Any], ColumnElement[bool]] | None = None,
    ) -> int:
        """Insert the rows, or replace those of the same keys; of several rows with one key the last counts.

        A row that is there is replaced only if it meets the condition, which is given the new row's columns. Returns
        how many were written, if there is one row.
        """
        keys = list(table.primary_key.columns)
        # PostgreSQL refuses two rows of one key in a statement, and deadlocks when two processes take rows crosswise.
        by_key = {tuple(row[key.name] for key in keys): row for row in rows}
        if not by_key:
            return 0
        ordered = [dict(by_key[key]) for key in sorted(by_key)]
        insert, parameters = self._backend.insert(table, ordered)
        values = {name: insert.excluded[name] for name in table.columns.keys() if not table.c[name].primary_key}  # noqa: SIM118
        statement = insert.on_conflict_do_update(
            index_elements=keys, set_=values, where=None if where is None else where(insert.excluded)
        )
        return connection.execute(statement, parameters).rowcount

    def add(self, connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
        """Insert the row. False if its key exists already: then nothing changes."""
        insert, parameters = self._backend.insert(table, [row])
        return connection.execute(insert.on_conflict_do_nothing(), parameters).rowcount == 1

    def _migrate(self) -> None:
        """In one transaction: a process that dies half-way leaves what was there before."""
        engine = self._backend.engine(migrating=True)
        _, writer = _transactions(engine, self._backend)
        try:
            with self._told("migrate"), writer.begin() as connection:
                self._backend.keep_others_out(connection)
                if not is_current(connection, self.shown):  # else another process did it meanwhile
                    migrate(connection, self.shown)
        finally:
            engine.dispose()

    @contextmanager
    def _told(self, action: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._backend.translated(action, error.orig) from error
        except PoolTimeoutError as error:
            raise Transient(
                f"every connection to {self.shown} is in use", todo="try again; if it stays so, check its disk"
            ) from error
        except SQLAlchemyError as error:
            raise Broken(f"cannot {action} {self.shown} ({error})", todo="check the disk and the folder") from error


def sqlite_url(path: Path) -> str:
    """The URL of a catalog in this file, with special characters in the path escaped."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def remove(connection: Connection, table: Table, keys: Iterable[tuple[Any, ...]]) -> None:
    """Delete the rows of these keys, in their order."""
    ordered, columns = sorted(keys), list(table.primary_key.columns)
    for first in range(0, len(ordered), _AT_ONCE):
        some = ordered[first : first + _AT_ONCE]
        connection.execute(delete(table).where(tuple_(*columns).in_(some)))


def backend_of(url: str, timeout_s: float) -> Backend:
    """The backend of this URL. Raises Broken when it names none."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # What cannot be parsed may hold a password anywhere.
        raise Broken("catalog.url does not name a catalog", todo=_FORMS) from error
    if parsed.drivername in {"postgresql", "postgres"} and parsed.host and parsed.database and parsed.username:
        from catalog.postgres import PostgresBackend

        return PostgresBackend(parsed, timeout_s)
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:":
        return SqliteBackend(parsed)
    raise Broken(f"a catalog cannot be kept in {parsed.render_as_string(hide_password=True)}", todo=_FORMS)


def _transactions(engine: Engine, backend: Backend) -> tuple[Engine, Engine]:
    """The engine twice: with transactions that read, and with transactions that write."""
    reader, writer = engine.execution_options(), engine.execution_options()
    event.listen(reader, "begin", backend.begin)
    event.listen(writer, "begin", backend.begin_to_write)
    return reader, writer
