"""What the errors of SQLite and of the disk mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proto.errors import Broken, Overloaded, Transient

ROWS = "rows.db"
"""The file of SQLite in the folder of a bucket."""


class Missing(Transient):
    """The bucket is not there, or no longer."""


class Unusable(Transient):
    """Codes cannot be read or written. They are made of the rows, so nothing is lost."""


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the disk into ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what = f"the rows in {folder} could not be used ({error})"
        if code == sqlite3.SQLITE_CANTOPEN:
            # A file that is there is not missing: what it has would be believed not to exist.
            if (folder / ROWS).exists():
                raise Overloaded(what, todo="look at who owns it, and at how many files are open") from error
            raise Missing(what, todo="try again") from error
        if code == sqlite3.SQLITE_FULL:
            raise Overloaded(what, todo="free some disk, then it goes on") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise Broken(what, todo="restore the folder from a backup, or move it away") from error
        raise Transient(what, todo="try again; the folder must be on a disk of this machine") from error
    except FileNotFoundError as error:
        raise Missing(f"{folder} is not there", todo="try again") from error
    except OSError as error:
        raise Overloaded(f"{folder} could not be used ({error})", todo="free some disk, and look at it") from error
