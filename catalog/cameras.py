"""The registry of cameras: a table of the catalog that several processes share."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, delete, select, update

from catalog.store import Catalog
from catalog.tables import CAMERAS, CRASHES, META
from proto.areas import checked_areas
from proto.errors import Broken, Invalid, Unknown
from proto.types import MOST_GROUPS, Camera, Recording, camera_name, group_name, site_name

MOST_FPS = 60
"""The most pictures of one camera that are looked at in a second."""
_COUNTER = "cameras"
_BESIDE = 20
"""How many names on each side of an unknown name are compared with it."""
_CAMERA = TypeAdapter(Camera)


class CameraRegistry:
    """Every camera that was ever registered. Safe for many threads and processes. Methods block.

    Each change is counted. What was read is kept, so that reading again costs one small query, and the cameras that
    changed. Raises Transient when the catalog is away, and Broken when it cannot be read.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._change = -1
        self._known: dict[str, Camera] = {}

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

    def is_recorded(self, camera: str) -> bool:
        """Whether there may be recordings of it."""
        known = self._read().get(camera)
        return known is not None and known.record is not None

    def add(self, camera: Camera) -> None:
        """Register the camera. Invalid while one of this name is watched with other settings; a removed one returns."""
        self.add_all([camera])

    def add_all(self, cameras: Iterable[Camera]) -> None:
        """Register all of them or, when that raises, none."""
        with self._catalog.writing() as connection:
            change = _counted(connection)
            for camera in cameras:
                self._add(connection, camera, change)

    def _add(self, connection: Connection, camera: Camera, change: int) -> None:
        camera_name(camera.name)
        stored = _stored(connection, camera.name)
        present = None if stored is None else _camera(camera.name, stored)
        camera = camera if present is None else _returned(camera, present)
        if present is not None and present.watching and present != camera:
            raise Invalid(
                f"a camera named {camera.name} is watched already, with other settings",
                todo=f"change it by `watchword camera set {camera.name}`, choose another name, or remove it first",
            )
        self._put(connection, camera, {}, change)

    def add_missing(self, cameras: Iterable[Camera]) -> int:
        """Register those whose name nobody has. How many they were."""
        with self._catalog.writing() as connection:
            change = _counted(connection)
            return sum(self._catalog.add(connection, CAMERAS, _row(camera, {}, change)) for camera in cameras)

    def add_stored(self, stored: Mapping[str, Mapping[str, Any]], *, disabled: bool = False) -> int:
        """Register those whose name nobody has, by their settings as they were stored; how many they were. They are not
        watched for now if `disabled`."""
        with self._catalog.writing() as connection:
            change = _counted(connection)
            return sum(
                self._catalog.add(
                    connection,
                    CAMERAS,
                    _row(replace(camera, enabled=camera.enabled and not disabled), settings, change),
                )
                for name, settings in sorted(stored.items())
                for camera in (_camera(name, settings),)
            )

    def remove(self, name: str) -> None:
        """Stop watching. The name stays known, and the camera's moments stay searchable."""
        self._change_one(name, lambda camera: replace(camera, watching=False))

    def record(self, name: str, recording: Recording) -> None:
        """Change what is recorded of the camera, which stays the same camera."""
        self._change_one(name, lambda camera: replace(camera, record=recording))

    def change(self, name: str, changed: Callable[[Camera], Camera]) -> Camera:
        """Change the camera's settings; it stays the same camera. Invalid when they contradict each other."""
        return self._change_one(name, changed)

    def _change_one(self, name: str, changed: Callable[[Camera], Camera]) -> Camera:
        with self._catalog.writing() as connection:
            change = _counted(connection)
            stored = _stored(connection, name)
            if stored is None:
                raise unknown_camera(name, frozenset(connection.scalars(select(CAMERAS.c.name))))
            # Settings that a later Watchword gave it, and that are not known here, stay.
            camera = changed(_camera(name, stored))
            self._put(connection, camera, stored, change)
            return camera

    def _put(self, connection: Connection, camera: Camera, stored: Mapping[str, Any], change: int) -> None:
        check_camera(camera)
        self._catalog.put(connection, CAMERAS, [_row(camera, stored, change)])
        # With other settings it may well work.
        connection.execute(delete(CRASHES).where(CRASHES.c.camera == camera.name))

    def _read(self) -> dict[str, Camera]:
        """The cameras by name. The dict is shared: callers must not change it."""
        at = CAMERAS.c
        with self._lock:
            with self._catalog.reading() as connection:
                change = connection.scalar(select(META.c.value).where(META.c.name == _COUNTER))
                if change == self._change:
                    return self._known
                # Fewer changes than before: the catalog was restored, and everything may be different.
                since = self._change if change is not None and change > self._change else -1
                rows = connection.execute(select(at.name, at.settings).where(at.change > since)).all()
            fresh = {name: _camera(name, settings) for name, settings in rows}
            self._known = {**self._known, **fresh} if since >= 0 else fresh
            self._change = -1 if change is None else change
            return self._known


def check_camera(camera: Camera) -> None:
    """Raise Invalid when a setting cannot be, or two contradict each other."""
    checked_areas(camera.masks, "masks")
    checked_areas(camera.ignored, "areas to ignore")
    if camera.fps is not None and not 0 < camera.fps <= MOST_FPS:
        raise Invalid(
            f"{camera.fps:g} pictures a second cannot be looked at", todo=f"give more than 0, up to {MOST_FPS}"
        )
    if camera.novelty is not None and not 0 <= camera.novelty <= 1:
        raise Invalid(f"a picture cannot differ by {camera.novelty:g}", todo="give 0 to 1; `camera.novelty` is usual")
    if len(camera.groups) > MOST_GROUPS:
        raise Invalid(f"{camera.name} would be in {len(camera.groups)} groups", todo=f"give at most {MOST_GROUPS}")
    for group in camera.groups:
        group_name(group)
    site_name(camera.site)
    recorded = camera.watching and camera.record is not None and camera.record.on
    if recorded and camera.masks and not camera.unmasked_recording:
        raise Invalid(
            f"{camera.name} cannot have masks and be recorded: packets are recorded as they come, with what is masked",
            todo=f"`watchword recording off {camera.name}`, `watchword camera mask clear {camera.name}`, or allow it "
            f"in words: `watchword camera set {camera.name} --recordings-stay-unmasked`",
        )


def _returned(camera: Camera, present: Camera) -> Camera:
    """The camera that returns. Its masks stay unless others are given. What was recorded of it before stays within its
    limits, though nothing is added."""
    if not camera.masks:
        unmasked = camera.unmasked_recording or present.unmasked_recording
        camera = replace(camera, masks=present.masks, unmasked_recording=unmasked)
    kept = present.record
    if camera.record is not None or kept is None or (present.watching and kept.on):
        return camera
    return replace(camera, record=replace(kept, on=False))


def _counted(connection: Connection) -> int:
    """Count one more change. From here on to the end of the transaction nobody else changes a camera."""
    counter = META.c.name == _COUNTER
    connection.execute(update(META).where(counter).values(value=META.c.value + 1))
    found: int | None = connection.scalar(select(META.c.value).where(counter))
    if found is None:
        raise Broken("the catalog does not count its cameras' changes", todo="restore it from a backup")
    return found


def _stored(connection: Connection, name: str) -> dict[str, Any] | None:
    return connection.scalar(select(CAMERAS.c.settings).where(CAMERAS.c.name == name))


def _row(camera: Camera, stored: Mapping[str, Any], change: int) -> dict[str, Any]:
    settings = {**stored, **_CAMERA.dump_python(camera, mode="json")}
    return {"name": camera.name, "settings": settings, "change": change}


def _camera(name: str, settings: object) -> Camera:
    try:
        return _CAMERA.validate_python(settings)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise Broken(
            f"the catalog's settings of camera {name} cannot be read ({'.'.join(map(str, first['loc']))}: "
            f"{first['msg']})",
            todo="use the Watchword that registered it, or delete its row of the table cameras and register it again",
        ) from None


def unknown_camera(name: str, names: frozenset[str]) -> Unknown:
    """The error for a name that is not in the registry. It suggests similar names."""
    name = name[:80]  # a camera's name has at most 64 characters; the requested one may have any number
    near = near_names(name, names)
    todo = f"known here: {', '.join(near)}{', …' if len(near) < len(names) else ''}" if names else "register one first"
    return Unknown(f"no camera is named {name!r}", todo=todo)


def unknown_group(group: str, known: Collection[str]) -> Unknown:
    """The error for a group without cameras. It suggests similar names."""
    group = group[:80]
    near = near_names(group, known)
    todo = f"known here: {', '.join(near)}" if near else "`watchword camera set NAME --group GROUP` makes one"
    return Unknown(f"no camera is in a group {group!r}", todo=todo)


def near_names(name: str, names: Collection[str]) -> list[str]:
    """Up to three names that are similar, else the first five. Takes a few milliseconds, however many there are."""
    known = sorted(names)
    return get_close_matches(name, _candidates(name, known), n=3, cutoff=0.5) or known[:5]


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
