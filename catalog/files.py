"""Atomic file replacement: after a crash a file has its old or its new content, never a mix."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proto.errors import Broken

_SCRATCH = ".scratch-"
_LEFT_S = 600.0
"""A scratch file older than this was left by a killed process."""
_swept_s: dict[Path, float] = {}
"""When each folder was last swept."""
_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the disk is mounted read-only: mount it writable or set another data folder",
    errno.EACCES: "give this user the right to it, or set another data folder",
    errno.EPERM: "give this user the right to it, or set another data folder",
}


def write_whole(path: Path, data: bytes, *, durable: bool, beside: Path | None = None) -> None:
    """Replace the content of `path` by `data` atomically, creating its folder if needed.

    A reader sees the old content or the new. `durable` waits until the disk has it. The data is first written to a
    scratch file in `beside`, a folder on the same disk, by default the path's own folder. A later call removes scratch
    files that a killed process left there.
    """
    scratch: Path | None = None
    folder = beside or path.parent
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        handle, name = tempfile.mkstemp(dir=folder, prefix=_SCRATCH)
        scratch = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        scratch.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise disk_trouble("write", path, error) from error


def _sweep(folder: Path) -> None:
    """Remove abandoned scratch files, at most once per _LEFT_S."""
    now_s = time.time()
    if now_s - _swept_s.get(folder, 0.0) < _LEFT_S:
        return
    _swept_s[folder] = now_s
    for left in folder.glob(f"{_SCRATCH}*"):
        try:
            if now_s - left.stat().st_mtime > _LEFT_S:
                left.unlink()
        except FileNotFoundError:
            pass  # another process removed it


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock out other processes that do the same, by a lock file beside `path`. Broken when the disk refuses."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_trouble("write", lock, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def disk_trouble(action: str, path: Path, error: OSError) -> Broken:
    """The error for an OSError of `action` on `path`, with advice for the operator."""
    advice = _ADVICE.get(error.errno or 0, "check the disk and the folder")
    return Broken(f"cannot {action} {path} ({error.strerror or error})", todo=advice)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
