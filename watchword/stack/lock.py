"""One stack per data folder."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from catalog.files import disk_trouble
from proto.errors import Invalid

LOCK_NAME = "stack.lock"


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold the folder's lock inside the block. Invalid, naming the holder, when another process has it.

    The kernel releases it when the process ends, however it ends, so a lock is never stale.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise disk_trouble("write", path, problem) from problem
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(folder, path) from None
        try:
            _sign(descriptor)
        except OSError as problem:
            raise disk_trouble("write", path, problem) from problem
        yield
    finally:
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    holder = {
        "pid": os.getpid(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _held(folder: Path, path: Path) -> Invalid:
    try:
        holder = json.loads(path.read_text())
        who = f"process {holder['pid']} ({holder['command']}) since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return Invalid(
        f"a stack is already up on {folder}: {who}", todo="use that one, stop it, or name another folder (--data-dir)"
    )
