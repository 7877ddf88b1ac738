"""The folders of buckets: each is made whole or not at all, and goes whole."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

from index.scan.rows import VECTORS, Rows
from index.scan.tables import LAYOUT, SCHEMA
from index.scan.trouble import ROWS, Missing, translated

_GONE = ".gone-"
_NEW = ".new-"


def make_folder(folder: Path, dimension: int) -> None:
    """Make an empty bucket, whole or not at all. No effect when it is there."""
    with translated(folder):
        new = folder.parent / f"{_NEW}{secrets.token_hex(8)}"
        new.mkdir(parents=True)
        (new / VECTORS).touch()
        db = sqlite3.connect(new / ROWS, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(SCHEMA)
        db.execute("INSERT INTO state VALUES (1, ?, ?, 0, 0, 0, 0)", (LAYOUT, dimension))
        db.close()
        try:
            new.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(new, ignore_errors=True)
            if not (folder / ROWS).is_file():
                raise
        for above in (folder, folder.parent, folder.parent.parent):
            sync(above)


def drop_folder(folder: Path, timeout_s: float) -> None:
    """Delete the bucket. What another process stores meanwhile comes before that, or goes to a new bucket."""
    try:
        rows = Rows(folder, timeout_s)
    except Missing:
        return
    try:
        rows.condemn()
    finally:
        rows.close()
    clear_condemned(folder, timeout_s)


def clear_condemned(folder: Path, timeout_s: float) -> None:
    """Delete the folder of a bucket that was dropped. One that came in its place stays."""
    with translated(folder), (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            rows = Rows(folder, timeout_s)
        except Missing:
            return
        condemned = rows.condemned
        rows.close()
        if condemned:
            gone = folder.parent / f"{_GONE}{secrets.token_hex(8)}"
            folder.rename(gone)
            sync(folder.parent)
            shutil.rmtree(gone, ignore_errors=True)


def clear_remains(space: Path, old_s: float, now_s: float) -> None:
    """Delete what processes that were killed left of buckets that they made or dropped."""
    for one in space.glob(".*"):
        with suppress(OSError):
            if one.name.startswith(_GONE) or (one.name.startswith(_NEW) and one.stat().st_mtime < now_s - old_s):
                shutil.rmtree(one, ignore_errors=True)


def sync(path: Path) -> None:
    """Have a folder's entries, or a file, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
