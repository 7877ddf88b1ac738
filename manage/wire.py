"""Settings of cameras as protobuf, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cameras.address import kind_of, shown
from manage.cameras import DAYS, SIZE, USUAL, Kept
from manage.recordings import recording_of
from proto.areas import checked_areas
from proto.errors import Invalid
from proto.types import Area, Camera, Recording, group_name
from proto.v1 import manage_pb2

FIELDS = (*USUAL, DAYS, SIZE)
MOST_URL = 2000


def settings_of(kept: Kept) -> manage_pb2.CameraSettings:
    """All that can be changed of a camera, without what is secret in its address."""
    camera, record = kept.camera, kept.camera.record
    found = manage_pb2.CameraSettings(
        name=camera.name,
        address=shown(camera.url),
        kind=_kind(camera),
        watching=camera.watching,
        enabled=camera.enabled,
        loop=camera.loop,
        speed=camera.speed,
        groups=camera.groups,
        site=camera.site,
        masks=map(_area, camera.masks),
        ignored=map(_area, camera.ignored),
        unmasked_recording=camera.unmasked_recording,
        tag=kept.tag,
    )
    for name, value in (
        *(("fps", camera.fps), ("novelty", camera.novelty), ("packet_gate", camera.packet_gate)),
        *((DAYS, kept.days), ("others_days", kept.others)),
        *((SIZE, kept.size), ("others_bytes", kept.others_size)),
    ):
        if value is not None:
            setattr(found, name, value)
    if record is not None:
        found.record.CopyFrom(manage_pb2.RecordingLimits(on=record.on, days=record.days, bytes=record.bytes))
    return found


def given_of(
    settings: manage_pb2.CameraSettings, names: Iterable[str], before: Recording | None = None
) -> dict[str, Any]:
    """The fields that are given, as they are kept. `before` is what was recorded: what is not said of it stays."""
    wanted = tuple(names)
    if strange := set(wanted) - set(FIELDS):
        raise Invalid(f"{min(strange)[:40]!r} is no setting of a camera", todo=f"known are: {', '.join(FIELDS)}")
    found: dict[str, Any] = {}
    for name in wanted:
        if name == "record":
            found[name] = _record(settings, before)
        else:
            found[name] = _READ.get(name, _plain(name))(settings)
    return found


def checked_url(url: str, *, local: bool) -> str:
    """The address, or Invalid where no camera may have it. `local`: whether files and devices may be named."""
    if len(url) > MOST_URL or any(ord(letter) < 32 for letter in url):
        raise Invalid("the address is none", todo=f"give at most {MOST_URL} characters on one line")
    kind = kind_of(url)
    if kind in ("file", "device", "synthetic"):
        if not local:
            raise Invalid(
                "the address names no camera on the network",
                todo="use rtsp://, http://, udp:// or tcp://; a file, a folder or a device is added by an admin",
            )
        if kind != "synthetic" and "://" not in url and not url.startswith("/"):
            raise Invalid("the path is not whole", todo="give it from the root, such as /videos/gate.mp4")
    return url


def _record(settings: manage_pb2.CameraSettings, before: Recording | None) -> Recording | None:
    if not settings.HasField("record"):
        return None
    said = settings.record
    wanted = recording_of(said.days or None, said.bytes or None, before)
    return Recording(wanted.days, wanted.bytes, said.on)


def _areas(name: str) -> Callable[[manage_pb2.CameraSettings], tuple[Area, ...]]:
    def read(settings: manage_pb2.CameraSettings) -> tuple[Area, ...]:
        found = []
        for area in getattr(settings, name):
            numbers = list(area.corners)
            if len(numbers) % 2:
                raise Invalid("an area has a corner with one number", todo="give x and y of each corner")
            found.append(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
        return checked_areas(found, "masks" if name == "masks" else "areas to ignore")

    return read


def _plain(name: str) -> Callable[[manage_pb2.CameraSettings], Any]:
    def read(settings: manage_pb2.CameraSettings) -> Any:
        field = settings.DESCRIPTOR.fields_by_name[name]
        there = not field.has_presence or settings.HasField(name)  # type: ignore[arg-type]
        return getattr(settings, name) if there else USUAL.get(name)

    return read


def _packet_gate(settings: manage_pb2.CameraSettings) -> str | None:
    said = settings.packet_gate if settings.HasField("packet_gate") else None
    if said not in (None, "auto", "off"):
        raise Invalid(f"{said[:40]!r} is no packet gate", todo="give auto or off")
    return said


_READ: Mapping[str, Callable[[manage_pb2.CameraSettings], Any]] = {
    "masks": _areas("masks"),
    "ignored": _areas("ignored"),
    "packet_gate": _packet_gate,
    "groups": lambda settings: tuple(dict.fromkeys(map(group_name, settings.groups))),
}


def _area(area: Area) -> manage_pb2.CameraArea:
    return manage_pb2.CameraArea(corners=[number for corner in area for number in corner])


def _kind(camera: Camera) -> str:
    try:
        return kind_of(camera.url)
    except Invalid:  # written by a later Watchword, or by hand
        return ""
