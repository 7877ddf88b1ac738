"""Who asked what: JSON lines, each with the hash of the one before, so that a line that is changed or missing shows.

A line is noted in memory and written by a thread: no call waits for the disk. What cannot be written is counted, and
the chain itself tells of it once it can be written again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from catalog.files import disk_trouble
from proto.errors import Broken, Invalid
from proto.metrics import AUDIT_LOST, AUDIT_NOTED

log = logging.getLogger("watchword.audit")

NOTHING_BEFORE = "0" * 64
_MOST_WAITING = 10_000
_MOST_AT_ONCE = 500
_AGAIN_S = 1.0
_SEGMENTS = 16
"""Into so many files the bytes that may be kept are divided."""
_MARK = ',"hash":"'
_END = '"}'


class Sink(Protocol):
    """Where lines go. Methods block."""

    last: tuple[int, str]
    """The number and the hash of the last line."""

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Chain these to the last line and keep them, all or none. Raises Broken when that fails."""

    def close(self) -> None:
        """Write no more."""


class Audit:
    """Takes entries without ever waiting, and writes them in a thread."""

    def __init__(self, sink: Sink | None) -> None:
        """Without a sink nothing is kept."""
        self._sink = sink
        self._waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._lost = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)

    def start(self) -> None:
        """Write from now on."""
        if self._sink is not None:
            self._thread.start()
            self.note({"what": "begun"})

    def note(self, entry: Mapping[str, Any]) -> None:
        """Note what happened now. When too much waits to be written, it is counted as lost."""
        if self._sink is None:
            return
        try:
            self._waiting.put_nowait({"at": _now(), **entry})
        except queue.Full:
            self._lost += 1
            AUDIT_LOST.inc()

    def close(self, within_s: float) -> None:
        """Write what waits, for at most so long."""
        if self._sink is None or not self._thread.is_alive():
            return
        self.note({"what": "ended"})
        self._over.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(within_s)

    def _work(self) -> None:
        assert self._sink is not None
        failing = False
        while True:
            batch = self._batch()
            while batch:
                try:
                    self._sink.write(batch)
                except Broken as error:
                    if not failing:
                        failing = True
                        log.warning("the audit cannot be written, what happens now waits or is lost: %s", error)
                    if self._over.wait(_AGAIN_S):
                        return
                    continue
                if failing:
                    failing = False
                    log.info("the audit can be written again")
                AUDIT_NOTED.inc(len(batch))
                batch = []
            if self._over.is_set() and self._waiting.empty():
                number, head = self._sink.last
                log.info("the audit ends with line %d, hash %s", number, head)
                self._sink.close()
                return

    def _batch(self) -> list[Mapping[str, Any]]:
        """What waits; waits for the first. What was lost before comes first."""
        first = self._waiting.get()
        found = [] if first is None else [first]
        with suppress(queue.Empty):
            while len(found) < _MOST_AT_ONCE:
                more = self._waiting.get_nowait()
                if more is not None:
                    found.append(more)
        if self._lost and found:
            lost, self._lost = self._lost, 0
            found.insert(0, {"at": found[0]["at"], "what": "lost", "count": lost})
        return found


class LogSink:
    """Lines in the log of the process, for containers whose logs are kept elsewhere. Each start begins a new chain."""

    def __init__(self) -> None:
        self.last = (0, NOTHING_BEFORE)
        self._log = logging.getLogger("watchword.audit.lines")

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        for line, last in chained(entries, self.last):
            self._log.info("%s", line)
            self.last = last

    def close(self) -> None:
        return None


class FolderSink:
    """Lines in files of a folder. Each process has a chain of its own, which goes on after a restart."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Opens nothing yet: a disk that is full now may have room later."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._name = ""
        self._file: int | None = None
        self._lock: int | None = None
        self._size = 0
        self._begun = False
        self._oldest: list[tuple[Path, Mapping[str, Any]]] = []
        """Files that will be removed once a line says so."""
        self.last = (0, NOTHING_BEFORE)

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        try:
            if self._file is None or self._size >= self._most_bytes // _SEGMENTS:
                self._open()
            assert self._file is not None
            lines = list(chained([*(entry for _, entry in self._oldest), *entries], self.last))
            data = "".join(f"{line}\n" for line, _ in lines).encode()
            os.ftruncate(self._file, self._size)  # half a line of ours, from when the disk was full
            written = os.pwrite(self._file, data, self._size)
            if written < len(data):
                raise OSError(28, os.strerror(28))
            os.fsync(self._file)
        except OSError as error:
            raise disk_trouble("write", self._folder, error) from error
        self._size += len(data)
        self.last = lines[-1][1]
        self._remove_oldest()

    def close(self) -> None:
        for one in (self._file, self._lock):
            if one is not None:
                os.close(one)
        self._file = self._lock = None

    def _open(self) -> None:
        """Go on in the newest file of this chain, or in a new one."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._lock is None:
            self._lock, self._name = _own_name(self._folder)
        files = _files_of(self._folder, self._name)
        whole = False
        if not self._begun and files:
            self.last, whole = _last_line(files)
        self._begun = True
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if not (whole and files[-1].stat().st_size < self._most_bytes // _SEGMENTS):
            number = _number_of(files[-1]) + 1 if files else 1
            files.append(self._folder / f"{self._name}-{number:08d}.jsonl")
        self._file = os.open(files[-1], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        self._oldest = self._too_many(files)

    def _too_many(self, files: list[Path]) -> list[tuple[Path, Mapping[str, Any]]]:
        """The oldest files, of those that are too many, and what is noted of their removal."""
        found: list[tuple[Path, Mapping[str, Any]]] = []
        sizes = {path: path.stat().st_size for path in files}
        while len(sizes) > 1 and sum(sizes.values()) > self._most_bytes - 2 * (self._most_bytes // _SEGMENTS):
            oldest = next(iter(sizes))
            del sizes[oldest]
            until = 0
            with suppress(Broken):
                for entry, _, _ in _lines(oldest):
                    until = entry["n"]
            found.append((oldest, {"at": _now(), "what": "removed", "file": oldest.name, "until": until}))
        return found

    def _remove_oldest(self) -> None:
        for path, _ in self._oldest:
            with suppress(OSError):
                path.unlink()
        self._oldest = []


def chained(entries: Iterable[Mapping[str, Any]], last: tuple[int, str]) -> Iterator[tuple[str, tuple[int, str]]]:
    """Each entry as a line, and its number and hash."""
    number, head = last
    for entry in entries:
        number += 1
        body = json.dumps({"n": number, **entry, "prev": head}, ensure_ascii=True, separators=(",", ":"))
        head = hashlib.sha256(body.encode()).hexdigest()
        yield f"{body[:-1]}{_MARK}{head}{_END}", (number, head)


@dataclass(frozen=True, slots=True)
class Checked:
    """One chain, as it was found."""

    name: str
    lines: int
    first: int
    last: int
    head: str
    """The hash of its last line."""
    trouble: str = ""
    """What does not fit, and where; empty when all does."""


def verify(folder: Path, head: str = "") -> list[Checked]:
    """Check every chain in the folder. With `head`, a hash that was noted before, one of them must have it.

    What a chain cannot tell is whether its newest lines were cut off: for that its head must be noted elsewhere.
    """
    names = sorted({path.name.rpartition("-")[0] for path in folder.glob("*-*.jsonl")})
    if not names:
        raise Invalid(f"there is no audit in {folder}", todo="name the folder that has it: DATA_DIR/audit")
    seen: set[str] = set()
    found = [_checked(folder, name, head, seen) for name in names]
    if head and head not in seen:
        raise Broken(f"no line has the hash {head[:80]}", todo="lines were cut off, or it is of another audit")
    return found


def _checked(folder: Path, name: str, head: str, seen: set[str]) -> Checked:
    first = number = lines = 0
    before, begin, removed = NOTHING_BEFORE, NOTHING_BEFORE, 0
    try:
        for path in _files_of(folder, name):
            for entry, body, own in _lines(path):
                where = f"{path.name}, line {entry['n']}"
                if hashlib.sha256(body.encode()).hexdigest() != own:
                    return Checked(name, lines, first, number, before, f"{where}: it was changed")
                if not lines:
                    first, begin = entry["n"], entry["prev"]
                elif (entry["n"], entry["prev"]) != (number + 1, before):
                    trouble = f"{where}: it does not follow line {number}; lines are missing or were exchanged"
                    return Checked(name, lines, first, number, before, trouble)
                number, before, lines = entry["n"], own, lines + 1
                if entry.get("what") == "removed":
                    removed = max(removed, entry["until"])
                if own == head:
                    seen.add(own)
    except (Broken, OSError, KeyError, TypeError) as error:
        return Checked(name, lines, first, number, before, str(error))
    if first > removed + 1 or (first == 1 and begin != NOTHING_BEFORE):
        return Checked(name, lines, first, number, before, f"the lines before {first} are missing")
    return Checked(name, lines, first, number, before)


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Entry, what its hash is of, and its hash. A torn last line, of a process that was killed, is left out."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for place, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            body, mark, own = line[:-1].rpartition(_MARK)
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not mark or not isinstance(entry, dict) or not isinstance(entry.get("n"), int):
                raise Broken(f"{path.name}: row {place} is no line of an audit", todo="restore the file")
            yield entry, body + "}", own.removesuffix(_END)


def _last_line(files: Sequence[Path]) -> tuple[tuple[int, str], bool]:
    """Number and hash of the last whole line, and whether the newest file ends with it."""
    found = (0, NOTHING_BEFORE)
    for path in reversed(files):
        with suppress(Broken):
            for entry, _, own in _lines(path):
                found = (entry["n"], own)
        if found[0]:
            break
    with files[-1].open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return found, size > 0 and file.read(1) == b"\n"


def _files_of(folder: Path, name: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"{name}-*.jsonl") if path.name.rpartition("-")[0] == name)


def _number_of(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _own_name(folder: Path) -> tuple[int, str]:
    """A chain that no other process writes, and the lock on it."""
    for place in range(1, 65):
        name = f"query{place}"
        lock = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return lock, name
    raise Broken(f"64 processes write audits into {folder}", todo="give each its own data_dir")
