"""Files that are either as they were or wholly new, whatever happens in between."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from proto.errors import Broken

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the disk is mounted read-only: mount it writable or set another data folder",
    errno.EACCES: "give this user the right to it, or set another data folder",
    errno.EPERM: "give this user the right to it, or set another data folder",
}


def write_whole(path: Path, data: bytes, *, durable: bool) -> None:
    """Replace `path` by `data` in one step, making its folder if needed.

    A reader sees the old content or the new. `durable` waits until the disk has it.
    """
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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


def disk_trouble(action: str, path: Path, error: OSError) -> Broken:
    """What to tell the operator when the disk refused `action` on `path`."""
    advice = _ADVICE.get(error.errno or 0, "check the disk and the folder")
    return Broken(f"cannot {action} {path} ({error.strerror or error})", todo=advice)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
