"""The catalog in PostgreSQL: connections, transactions, errors."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pg8000
from sqlalchemy import Connection, Engine, String, Table, bindparam, create_engine, event, func, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.types import TypeEngine

from proto.errors import Broken, Transient, WatchwordError

_LEAST_VERSION = 15
_PORT = 5432
_MIGRATING_S = 600.0
"""How long a migration may take, and how long another process waits for it."""
_STATEMENT_SHARE = 0.8
"""The server gives a statement up before the client does, so that the connection can be used again."""
_OTHERS_OUT = 0x77617463
"""The key of the advisory lock that a migration holds."""

_TLS_MODES = ("disable", "require", "verify-ca", "verify-full")
_KNOWN = {"sslmode", "sslrootcert"}

# SQLSTATE: what it means, and what to do about it. https://www.postgresql.org/docs/current/errcodes-appendix.html
_BROKEN = {
    "28P01": ("refuses the user or the password", "check both in catalog.url"),
    "28000": ("lets this user in from nowhere, or not from here", "check the user in catalog.url, and pg_hba.conf"),
    "3D000": ("has no such database", "create it (`CREATE DATABASE`), or name another in catalog.url"),
    "42501": ("does not allow this user to do it", "make the user the owner of the database in catalog.url"),
    "53100": ("has a full disk", "free some space there"),
    "42P01": ("lacks a table of the catalog", "restore it, or create the database anew and register the cameras again"),
}
_TRANSIENT = {
    "25006": ("takes no changes now: it is a standby", "try again; if it stays so, name the primary in catalog.url"),
    "40001": ("was changed by another process meanwhile", "try again"),
    "40P01": ("was changed by another process meanwhile", "try again"),
    "53300": ("has no connection left", "try again; if it stays so, raise its max_connections"),
    "55P03": ("was kept locked by another process for too long", "try again"),
    "57014": ("took too long", "try again; if it stays so, look at its load, or raise catalog.timeout_s"),
    "57P01": ("is shutting down", "try again when it is back"),
    "57P02": ("is shutting down", "try again when it is back"),
    "57P03": ("is starting or shutting down", "try again when it is back"),
    "57P05": ("ended a connection that stood still", "try again"),
}
_AWAY = {"08", "57"}
"""Classes of SQLSTATE: the connection, or its operator, ended the call."""


class PostgresBackend:
    """One database, shared by processes on any number of machines."""

    def __init__(self, url: URL, timeout_s: float) -> None:
        """Raises Broken when the URL cannot be used."""
        self._url = url
        self._timeout_s = timeout_s
        self.shown = f"PostgreSQL {url.host}:{url.port or _PORT}/{url.database}"
        self._tls = _tls(url)

    def engine(self, *, migrating: bool = False) -> Engine:
        """Connections to the database. One that broke is replaced, and every one that is as old."""
        timeout_s = _MIGRATING_S if migrating else self._timeout_s
        engine = create_engine(
            "postgresql+pg8000://",
            creator=lambda: self._connect(timeout_s),
            pool_size=2,
            max_overflow=8,
            pool_timeout=self._timeout_s,
            pool_pre_ping=True,
            hide_parameters=True,
        )
        event.listen(engine, "handle_error", _drop_if_ended)
        return engine

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Nothing to do: `keep_others_out` does it in the transaction."""
        yield

    def prepare(self, engine: Engine) -> None:
        """Broken when the server is too old."""
        with engine.connect() as connection:
            number = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
        if number // 10_000 < _LEAST_VERSION:
            raise Broken(
                f"{self.shown} is version {number // 10_000}", todo=f"use PostgreSQL {_LEAST_VERSION} or later"
            )

    def begin(self, connection: Connection) -> None:
        """Begin a transaction that only reads, all of it from one snapshot."""
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def begin_to_write(self, connection: Connection) -> None:
        """Nothing to do: the driver begins a transaction, and rows are locked as they are changed."""

    def keep_others_out(self, connection: Connection) -> None:
        """Let no other process do the same until the transaction ends."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_OTHERS_OUT})")

    def insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
        """An insert that can say what happens when the key exists, and its parameters."""
        if len(rows) == 1:
            return insert(table), rows[0]
        # One array for each column: the driver would send row by row, and wait for each.
        names = list(rows[0])
        arrays = [bindparam(name, type_=ARRAY(_plain(table.c[name].type))) for name in names]
        new = func.unnest(*arrays).table_valued(*names, name="new").render_derived()
        return insert(table).from_select(names, select(new)), {name: [row[name] for row in rows] for name in names}

    def translated(self, action: str, error: BaseException | None) -> WatchwordError:
        """The driver's error as one of ours. What the server says never holds the password."""
        told = _told(error)
        if not told:
            return Transient(
                f"{self.shown} cannot be reached ({error})", todo="start it, or check host and port in catalog.url"
            )
        state, said = told.get("C", ""), told.get("M", "")
        if state in _BROKEN:
            what, todo = _BROKEN[state]
            return Broken(f"{self.shown} {what} ({said})", todo=todo)
        if state in _TRANSIENT or state[:2] in _AWAY:
            what, todo = _TRANSIENT.get(state, ("ended the call", "try again"))
            return Transient(f"{self.shown} {what} ({said})", todo=todo)
        return Broken(f"cannot {action} {self.shown} ({said}, SQLSTATE {state})", todo="look into PostgreSQL's log")

    def _connect(self, timeout_s: float) -> pg8000.Connection:
        url = self._url
        limits = {
            "statement_timeout": f"{round(timeout_s * _STATEMENT_SHARE * 1000)}",
            # A process that stood still must not keep others from changing what it holds. A slow one may go on.
            "idle_in_transaction_session_timeout": f"{round(timeout_s * 3 * 1000)}",
        }
        # The driver would leave a socket of its own open when the server does not answer as it should.
        sock: socket.socket | None = None
        try:
            sock = socket.create_connection((url.host or "127.0.0.1", url.port or _PORT), timeout_s)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return _Connection(
                user=url.username,
                # Not None, which the driver cannot send.
                password=str(url.password or ""),
                host=url.host,
                sock=sock,
                database=url.database,
                timeout=timeout_s,
                ssl_context=self._tls,
                application_name="watchword",
                startup_params=limits,
            )
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, pg8000.Error) or not isinstance(error, Exception):
                raise
            # What answers is no PostgreSQL, or its certificate is refused.
            raise pg8000.InterfaceError(f"{type(error).__name__}: {error}") from error


class _Connection(pg8000.Connection):  # type: ignore[misc]
    """The driver passes on what its socket raises while it reads. Told as the driver's own error, the pool drops the
    connection: an answer that did not come in time may come for the next statement."""

    def handle_messages(self, context: object) -> None:
        try:
            super().handle_messages(context)
        except OSError as error:
            raise pg8000.InterfaceError(f"network error: {error}") from error


def _drop_if_ended(context: ExceptionContext) -> None:
    """The pool knows connections that broke. These were ended in order."""
    if _told(context.original_exception).get("C", "")[:3] == "57P":
        context.is_disconnect = True


def _told(error: BaseException | None) -> dict[str, str]:
    """What the server said, by PostgreSQL's letters: C is the SQLSTATE, M the message."""
    told = error.args[0] if isinstance(error, pg8000.DatabaseError) and error.args else None
    return told if isinstance(told, dict) else {}


def _plain(of: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of the values, without length and order."""
    return String() if isinstance(of, String) else of


def _tls(url: URL) -> ssl.SSLContext | None:
    """How to encrypt, as the URL says, in libpq's words."""
    unknown = set(url.query) - _KNOWN
    mode = str(url.query.get("sslmode", "disable"))
    if unknown or mode not in _TLS_MODES:
        raise Broken(
            f"catalog.url has ?{', '.join(sorted(unknown)) or f'sslmode={mode}'}, which is not known here",
            todo=f"use sslmode ({', '.join(_TLS_MODES)}) and sslrootcert only",
        )
    if mode == "disable":
        return None
    authority = url.query.get("sslrootcert")
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    except (OSError, ssl.SSLError) as error:
        raise Broken(
            f"the certificates in {authority} cannot be read ({error})", todo="set sslrootcert to a PEM file"
        ) from error
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context
