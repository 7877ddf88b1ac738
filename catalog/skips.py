"""Time that was passed over: which frames of a camera were not looked at, so that an answer can say so."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from catalog.files import disk_trouble, write_whole
from proto.errors import Broken
from proto.types import camera_name

_TOGETHER_MS = 60_000
"""Runs that are no farther apart are told as one, so that a camera has few however long it is behind."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Frames of one camera that were not looked at."""

    camera: str
    start_ms: int
    end_ms: int
    """The time of the last of them."""
    frames: int


@dataclass(frozen=True, slots=True)
class _Run:
    start_ms: int
    end_ms: int
    frames: int
    offset: int
    """Of the last frame, in its partition of the topic."""


_RUNS = TypeAdapter(list[_Run])


class Skips:
    """A folder with one small file per camera that ever had frames skipped. Methods block on the disk.

    Each camera has one writer. What is noted twice, since a worker read its frames again, counts once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read: dict[str, tuple[tuple[int, int, int], list[_Run]]] = {}

    def note(self, camera: str, frames: Iterable[tuple[int, int]]) -> None:
        """Note skipped frames of the camera, each as its offset and its time, in order of their offsets."""
        runs = list(self._of(camera))
        for offset, at_ms in frames:
            last = runs[-1] if runs else None
            # Both: a topic that was made anew begins with low offsets, and a camera's clock may jump back.
            if last is not None and offset <= last.offset and at_ms <= last.end_ms:
                continue
            if last is not None and 0 <= at_ms - last.end_ms <= _TOGETHER_MS:
                runs[-1] = replace(last, end_ms=at_ms, frames=last.frames + 1, offset=offset)
            else:
                runs.append(_Run(at_ms, at_ms, 1, offset))
        write_whole(self._path(camera), json.dumps([asdict(run) for run in runs]).encode(), durable=True)

    def within(self, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> list[Skipped]:
        """What was skipped of these cameras (None: all) in runs that overlap [start_ms, end_ms), earliest first."""
        found = [
            Skipped(camera, run.start_ms, run.end_ms, run.frames)
            for camera in self._noted() & (self._noted() if cameras is None else cameras)
            for run in self._of(camera)
            if (start_ms is None or run.end_ms >= start_ms) and (end_ms is None or run.start_ms < end_ms)
        ]
        return sorted(found, key=lambda one: (one.start_ms, one.camera))

    def _noted(self) -> frozenset[str]:
        try:
            # A scratch file of a writer begins with a dot.
            return frozenset(path.stem for path in self._folder.glob("[!.]*.json"))
        except OSError as error:
            raise disk_trouble("read", self._folder, error) from error

    def _of(self, camera: str) -> list[_Run]:
        """Callers must not change it: it is shared."""
        path = self._path(camera)
        with self._lock:
            try:
                found = path.stat()
                stamp = found.st_ino, found.st_mtime_ns, found.st_size
                if camera not in self._read or self._read[camera][0] != stamp:
                    self._read[camera] = stamp, _RUNS.validate_json(path.read_bytes())
            except FileNotFoundError:
                return []
            except ValidationError as error:
                raise Broken(f"{path} is damaged", todo="move it away: it tells which frames were skipped") from error
            except OSError as error:
                raise disk_trouble("read", path, error) from error
            return self._read[camera][1]

    def _path(self, camera: str) -> Path:
        return self._folder / f"{camera_name(camera)}.json"
