"""What a camera process leaves behind when it crashes: on which camera it was.

Nothing can be done any more in a process whose memory is damaged. So Python's fault handler writes the stack of the
thread that crashed into a file that is open since the start, and who comes later finds in it which camera's thread that
was. The file is locked while its process lives: one that can be locked was left behind.
"""

from __future__ import annotations

import faulthandler
import fcntl
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import BinaryIO, ParamSpec, TypeVar

from proto.types import CAMERA_NAME

log = logging.getLogger("watchword.cameras")

_MARK = "camera:"
_CAMERA = re.compile(rf" in {_MARK}({CAMERA_NAME.pattern})$", re.MULTILINE)
_MODULES = "\nExtension modules:"
_MOST_TEXT = 100_000

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A process crashed on this camera."""

    camera: str
    at_ms: int
    mark: str
    """What the crash is known by."""


def marked(function: Callable[P, R], camera: str) -> Callable[P, R]:
    """The function, under a name by which the fault handler's stack tells the camera: it can tell nothing else."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_name=f"{_MARK}{camera}")
    return FunctionType(code, function.__globals__, code.co_name, function.__defaults__, function.__closure__)


class BlackBox:
    """The file of this process, and those that others left in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.txt"
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """From now on a crash of this process is written down, if there can be a folder."""
        new = self._path.with_suffix(".new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = new.open("wb", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            new.rename(self._path)  # found by others only now that it is locked
        except OSError as error:
            log.warning("crashes of this process will not be told: %s", error)
            return
        self._file = file
        faulthandler.enable(file, all_threads=False)

    def close(self) -> None:
        """The process ends in order."""
        if self._file is not None:
            faulthandler.disable()
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def left_behind(self) -> Iterator[LeftBehind]:
        """The crashes of processes that ended. Each is forgotten when the next one is asked for."""
        for path in sorted(self._folder.glob("*.txt")):
            if path != self._path:
                yield from _of(path)


def _of(path: Path) -> Iterator[LeftBehind]:
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = os.fstat(file.fileno())
            text = file.read(_MOST_TEXT).decode(errors="replace") if left.st_nlink else ""
            found = _CAMERA.search(text)
            if text:
                where, told = f" on camera {found[1]}" if found else "", text.partition(_MODULES)[0].rstrip()
                log.error("a camera process crashed%s:\n%s", where, told)
            if found:
                yield LeftBehind(found[1], round(left.st_mtime * 1000), path.stem)
            path.unlink(missing_ok=True)
    except OSError as error:
        # Locked: its process lives, or another one reads it. Missing: another one has read it.
        if not isinstance(error, BlockingIOError | FileNotFoundError):
            log.warning("what a camera process left behind cannot be read: %s", error)
