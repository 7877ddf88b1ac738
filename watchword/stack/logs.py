"""One log file per child: appended to, bounded in size, and read back after a failure."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.files import disk_trouble
from watchword.logs import as_text

MOST_BYTES = 16 * 1024 * 1024
"""A larger file is moved to NAME.log.1 and a new one is started, so a child has at most twice this."""
_TAIL_BYTES = 16 * 1024


class ChildLog:
    """The log file of a child's output."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.log"
        self._from = 0

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor for a child about to start. `last_lines` reads from here on."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.trim()
            # With O_APPEND the child's writes stay correct after `trim` truncates the file.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise disk_trouble("write", self.path, problem) from problem
        try:
            self._from = os.fstat(descriptor).st_size
            yield descriptor
        finally:
            os.close(descriptor)

    def trim(self) -> None:
        """Bound the file's size; safe while the child writes."""
        if not self.path.exists() or self.path.stat().st_size <= MOST_BYTES:
            return
        with contextlib.suppress(OSError):  # on a full disk, free space matters more than old lines
            shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
        os.truncate(self.path, 0)
        self._from = 0

    def last_lines(self, count: int) -> list[str]:
        """The last non-empty lines of the child that was started last."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(self._from, self.path.stat().st_size - _TAIL_BYTES))
                lines = file.read(_TAIL_BYTES).decode(errors="replace").splitlines()
        except OSError:
            return []
        return [as_text(line.strip())[:400] for line in lines if line.strip()][-count:]
