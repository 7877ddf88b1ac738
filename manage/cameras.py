"""Adding, changing and removing cameras: what the command line and the API have in common. Methods block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from cameras.address import shown
from catalog.cameras import CameraRegistry, check_camera, unknown_camera
from catalog.life import BYTES, Life
from catalog.life import DAYS as IN_DAYS
from catalog.progress import Progresses
from catalog.store import Catalog
from manage.recordings import check_recordable
from proto.access import EVERYTHING, Scope
from proto.errors import Conflict, Invalid
from proto.life import DEFAULT, check_bytes, check_days
from proto.types import Camera

DAYS = "retention_days"
SIZE = "retention_bytes"
"""How long its moments are kept, and within how many bytes: no fields of a camera, and changed along with it."""
USUAL: Mapping[str, Any] = {
    "loop": False,
    "speed": 1.0,
    "enabled": True,
    "fps": None,
    "novelty": None,
    "packet_gate": None,
    "groups": (),
    "site": "",
    "masks": (),
    "ignored": (),
    "unmasked_recording": False,
    "record": None,
}
"""The fields that can be given, and what each is when nothing is said."""
_MOST_SPEED = 1000
_CAMERA = TypeAdapter(Camera)


@dataclass(frozen=True, slots=True)
class Kept:
    """A camera with all that can be changed of it."""

    camera: Camera
    days: float | None
    """None: as `others`."""
    others: float | None
    """How long moments of cameras without a limit of their own are kept. None: for ever."""
    size: int | None = None
    """How many bytes its moments may take. None: as `others_size`."""
    others_size: int | None = None
    """How many bytes each camera without a limit of its own may take. None: any amount."""

    @property
    def tag(self) -> str:
        """Another one whenever something is changed. It says nothing of a password, which could be guessed by it."""
        said = {**_CAMERA.dump_python(self.camera, mode="json"), "url": shown(self.camera.url), DAYS: self.days}
        if self.size is not None:
            said[SIZE] = self.size
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


class CameraKeeper:
    """The cameras of a catalog, for whoever changes them within a scope.

    What the scope does not have is Unknown, like what is not there.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._registry = CameraRegistry(catalog)
        self._progresses = Progresses(catalog)
        self._life = Life(catalog)

    def kept(self, name: str, scope: Scope = EVERYTHING) -> Kept:
        """The camera, also one that was removed."""
        visible = scope.of(self._registry.names())
        if name not in visible:
            raise unknown_camera(name, visible)
        return self._with_days(self._registry.get(name))

    def add(self, camera: Camera, days: float | None = None, size: int | None = None) -> Kept:
        """Watch it. A removed one returns, with its masks. Invalid while one of its name is watched otherwise."""
        checked(camera)
        _check_limits(days, size)
        self._registry.add(camera)
        if days is not None:
            self._life.keep(camera.name, days)
        if size is not None:
            self._life.keep_within(camera.name, size)
        return self._with_days(self._registry.get(camera.name))

    def change(self, name: str, given: Mapping[str, Any], *, tag: str | None = None, scope: Scope = EVERYTHING) -> Kept:
        """Change these fields of a camera that is watched. Conflict when its tag is not the given one any more."""
        before = self.kept(name, scope)
        if not before.camera.watching:
            raise Invalid(f"{name} was removed", todo=f"add it again: `watchword camera add {name} URL`")
        _check_limits(given.get(DAYS), given.get(SIZE))

        def changing(present: Camera) -> Camera:
            _same(replace(before, camera=present), tag)
            after = changed(present, given)
            if after.record is not None and after.record.on and after != present:
                check_recordable(after)
            return after

        camera = self._registry.change(name, changing)
        if DAYS in given and given[DAYS] != before.days:
            if given[DAYS] is None:
                self._life.keep_as_others(name, [IN_DAYS])
            else:
                self._life.keep(name, given[DAYS])
        if SIZE in given and given[SIZE] != before.size:
            if given[SIZE] is None:
                self._life.keep_as_others(name, [BYTES])
            else:
                self._life.keep_within(name, given[SIZE])
        return self._with_days(camera)

    def remove(self, name: str, *, tag: str | None = None, scope: Scope = EVERYTHING) -> None:
        """Stop watching. What it saw stays searchable; a recording that is added again is replayed from the start."""
        before = self.kept(name, scope)

        def removed(present: Camera) -> Camera:
            _same(replace(before, camera=present), tag)
            return replace(present, watching=False)

        self._registry.change(name, removed)
        self._progresses.forget(name)

    def _with_days(self, camera: Camera) -> Kept:
        rules = self._life.rules()
        days, sizes = rules.days, rules.bytes
        return Kept(camera, days.get(camera.name), days.get(DEFAULT), sizes.get(camera.name), sizes.get(DEFAULT))


def _check_limits(days: float | None, size: int | None) -> None:
    if days is not None:
        check_days(days)
    if size is not None:
        check_bytes(size)


def changed(camera: Camera, given: Mapping[str, Any]) -> Camera:
    """The camera with these fields. Invalid when they cannot be."""
    fields = {name: value for name, value in given.items() if name not in (DAYS, SIZE)}
    if not fields.get("masks", True):
        # The permission was given with the masks in mind.
        fields = {"unmasked_recording": False, **fields}
    if "record" in fields and fields["record"] is None and camera.record is not None:
        fields["record"] = replace(camera.record, on=False)
    after = replace(camera, **fields)
    check_camera(after)
    if not 0 <= after.speed <= _MOST_SPEED:  # also refuses NaN
        raise Invalid(f"{after.speed:g} is not a speed", todo=f"give 1 for real time, up to {_MOST_SPEED}, or 0")
    return after


def checked(camera: Camera, codec: str | None = None) -> Camera:
    """The camera, or Invalid where its settings cannot be. `codec` is what it sends, when that is known."""
    changed(camera, {})
    if camera.record is not None and camera.record.on:
        check_recordable(camera, codec)
    return camera


def _same(found: Kept, tag: str | None) -> None:
    if tag is not None and found.tag != tag:
        raise Conflict(f"{found.camera.name} was changed meanwhile", todo="look at it again, and then change it")
