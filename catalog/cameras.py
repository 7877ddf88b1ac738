"""The registry of cameras: one small JSON file that several processes share."""

from __future__ import annotations

import json
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from catalog.files import disk_trouble, locked, write_whole
from proto.errors import Broken, Invalid, Unknown
from proto.types import Camera, Recording, camera_name

_VERSION = 1
_BESIDE = 20
"""How many names on each side of an unknown name are compared with it."""
_CAMERAS = TypeAdapter(list[Camera])

_Stamp = tuple[int, int, int]


class CameraRegistry:
    """Every camera that was ever registered here. Safe for many threads and processes.

    The file is reread when it changed, and replaced atomically under a lock. Methods do short disk I/O. They raise
    Broken when the file cannot be read, written or parsed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: tuple[_Stamp | None, dict[str, Camera]] = (None, {})

    def all(self) -> list[Camera]:
        """All cameras, sorted by name, including removed ones (`watching` is False)."""
        return sorted(self._read().values(), key=lambda camera: camera.name)

    def names(self) -> frozenset[str]:
        return frozenset(self._read())

    def get(self, name: str) -> Camera:
        cameras = self._read()
        if name not in cameras:
            raise unknown_camera(name, frozenset(cameras))
        return cameras[name]

    def add(self, camera: Camera) -> None:
        """Register the camera. Invalid while one of this name is watched with other settings; a removed one returns."""
        camera_name(camera.name)
        with self._changing() as cameras:
            present = cameras.get(camera.name)
            if present is not None and present.watching and present != camera:
                raise Invalid(
                    f"a camera named {camera.name} is watched already, with other settings",
                    todo=f"choose another name, or remove {camera.name} first",
                )
            cameras[camera.name] = camera

    def remove(self, name: str) -> None:
        """Stop watching. The name stays known, and the camera's moments stay searchable."""
        with self._changing() as cameras:
            if name not in cameras:
                raise unknown_camera(name, frozenset(cameras))
            cameras[name] = replace(cameras[name], watching=False)

    def record(self, name: str, recording: Recording) -> None:
        """Change what is recorded of the camera, which stays the same camera."""
        with self._changing() as cameras:
            if name not in cameras:
                raise unknown_camera(name, frozenset(cameras))
            cameras[name] = replace(cameras[name], record=recording)

    def _read(self) -> dict[str, Camera]:
        """The cameras by name. The dict is shared: callers must not change it."""
        with self._lock:
            stamp = self._stamp()
            if stamp is None or stamp != self._known[0]:
                self._known = (stamp, self._load() if stamp else {})
            return self._known[1]

    def _stamp(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_trouble("read", self._path, error) from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _load(self) -> dict[str, Camera]:
        try:
            text = self._path.read_bytes()
        except OSError as error:
            raise disk_trouble("read", self._path, error) from error
        try:
            content = json.loads(text)
            if not isinstance(content, dict) or content.get("version") != _VERSION:
                raise ValueError(f"it is not a registry of version {_VERSION}")
            cameras = _CAMERAS.validate_python(content["cameras"], strict=False)
            return {camera_name(camera.name): camera for camera in cameras}
        except (ValueError, KeyError, ValidationError, Invalid) as error:
            raise Broken(
                f"{self._path} is damaged ({_first_line(error)})",
                todo="repair it, or move it away and register the cameras again",
            ) from error

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Camera]]:
        """The cameras, to be changed in place. They are written when the block ends without an error."""
        with locked(self._path):
            cameras = dict(self._read())
            yield cameras
            content = {"version": _VERSION, "cameras": [asdict(camera) for camera in cameras.values()]}
            write_whole(self._path, json.dumps(content, indent=1).encode(), durable=True)


def unknown_camera(name: str, names: frozenset[str]) -> Unknown:
    """The error for a name that is not in the registry. It suggests similar names."""
    name = name[:80]  # a camera's name has at most 64 characters; the requested one may have any number
    known = sorted(names)
    near = get_close_matches(name, _candidates(name, known), n=3, cutoff=0.5) or known[:5]
    todo = f"known here: {', '.join(near)}{', …' if len(near) < len(names) else ''}" if names else "register one first"
    return Unknown(f"no camera is named {name!r}", todo=todo)


def _candidates(name: str, known: list[str]) -> list[str]:
    """Names that may be similar: those with the longest common prefixes and suffixes.

    Comparing one name takes a tenth of a millisecond: comparing ten thousand would block the event loop for a second.
    """
    if len(known) <= 4 * _BESIDE:
        return known
    backwards = sorted(other[::-1] for other in known)
    ends = [other[::-1] for other in _beside(name[::-1], backwards)]
    return sorted({*_beside(name, known), *ends})


def _beside(name: str, known: list[str]) -> list[str]:
    place = bisect_left(known, name)
    return known[max(0, place - _BESIDE) : place + _BESIDE]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
