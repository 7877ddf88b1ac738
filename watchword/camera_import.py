"""Cameras out of a YAML file: Watchword's own form, or the cameras of a configuration of Frigate."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from cameras.address import kind_of, shown
from catalog.cameras import check_camera
from manage.recordings import check_recordable, recording_of
from proto.areas import area_of
from proto.errors import Invalid, WatchwordError
from proto.types import CAMERA_NAME, Area, Camera, Recording
from watchword.frigate import camera_of_frigate
from watchword.lines import Problem, Problems, Value, read_lines, shown_name
from watchword.recording_cli import bytes_of

KEYS = (
    *("url", "fps", "novelty", "packet_gate", "enabled", "loop", "speed", "groups", "masks", "ignore", "record"),
    *("recordings_stay_unmasked", "site"),
)
_RECORD_KEYS = ("days", "bytes")
Plain = TypeVar("Plain", str, float, bool)


@dataclass(frozen=True)
class Found:
    """What a file says. `cameras` are to be added when there are no problems."""

    cameras: list[Camera]
    problems: list[Problem]
    notes: list[str] = field(default_factory=list)
    """What is not taken over."""


def cameras_in(path: Path) -> Found:
    """The cameras of the file, and each problem with its line. Invalid when it is no YAML at all."""
    whole, problems = read_lines(path), Problems()
    entries = {} if whole is None else whole.items(problems)
    listed = entries.get("cameras")
    if listed is None or not listed.is_mapping:
        raise Invalid(f"{path} names no cameras", todo="give `cameras:` with a name for each, and below it its `url:`")
    each = listed.items(problems)
    parts = {name: value.items(problems) for name, value in each.items()}
    frigate = any("ffmpeg" in part for part in parts.values())
    for name, value in entries.items():
        if name != "cameras" and not frigate:
            problems.add(value, f"{shown_name(name)} is not known here", "there is `cameras` alone")
    cameras, notes = [], []
    for name, part in parts.items():
        if not CAMERA_NAME.fullmatch(name):
            todo = "use 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter or a digit"
            problems.add(each[name], f"{shown_name(name)} cannot be a camera's name", todo)
            continue
        try:
            if frigate:
                camera, left_out = camera_of_frigate(name, each[name], part, entries, problems)
                notes += left_out
            else:
                camera = _camera(name, each[name], part, problems, path.parent)
            if camera is not None:
                check_camera(camera)
                cameras.append(camera)
        except WatchwordError as error:
            problems.add(each[name], error.message, error.todo)
    return Found(cameras, sorted(problems.found, key=lambda problem: problem.line), notes)


def against(found: Found, registered: list[Camera]) -> tuple[list[Camera], list[str], list[str]]:
    """Which cameras are new; which are there as they are; and which names have other settings."""
    known = {camera.name: camera for camera in registered if camera.watching}
    new = [camera for camera in found.cameras if camera.name not in known]
    same = [camera.name for camera in found.cameras if known.get(camera.name) == camera]
    other = [camera.name for camera in found.cameras if camera.name in known and known[camera.name] != camera]
    return new, same, other


def in_words(camera: Camera) -> str:
    """A camera in a line, without what could be secret."""
    parts = [shown(camera.url)]
    if camera.fps is not None:
        parts.append(f"{camera.fps:g} pictures a second")
    if camera.groups:
        parts.append(f"in {', '.join(camera.groups)}")
    if camera.site:
        parts.append(f"at the site {camera.site}")
    for count, what in ((len(camera.masks), "masks"), (len(camera.ignored), "areas to ignore")):
        if count:
            parts.append(f"{count} {what}")
    if camera.record is not None:
        parts.append(f"recorded for {camera.record.days:g} days")
    if not camera.enabled:
        parts.append("disabled")
    return f"{camera.name}: {', '.join(parts)}"


def _camera(name: str, at: Value, part: dict[str, Value], problems: Problems, folder: Path) -> Camera | None:
    before = len(problems.found)
    for key, value in part.items():
        if key not in KEYS:
            problems.add(value, f"{name} has {shown_name(key)}, which is not known", f"known are: {', '.join(KEYS)}")
    url = part["url"].text() if "url" in part else None
    if not url:
        problems.add(part.get("url", at), f"{name} has no url", "give `url: rtsp://…`, the path of a file, or a device")
        return None
    camera = Camera(
        name,
        _address(url, folder),
        loop=_one(part, "loop", bool, problems) or False,
        speed=_speed(part, problems),
        enabled=_one(part, "enabled", bool, problems) is not False,
        fps=_number(part, "fps", problems),
        novelty=_number(part, "novelty", problems),
        packet_gate=_packet_gate(part, problems),
        groups=tuple(dict.fromkeys(one.text() or "" for one in part["groups"].each())) if "groups" in part else (),
        masks=areas(part, "masks", problems),
        ignored=areas(part, "ignore", problems),
        record=_recording(part["record"], problems) if "record" in part else None,
        unmasked_recording=_one(part, "recordings_stay_unmasked", bool, problems) or False,
        site=_one(part, "site", str, problems) or "",
    )
    if camera.record is not None:
        check_recordable(camera)
    return camera if len(problems.found) == before else None


def areas(part: dict[str, Value], key: str, problems: Problems) -> tuple[Area, ...]:
    """The areas that a list of texts says."""
    found = []
    for value in part[key].each() if key in part else ():
        try:
            found.append(area_of(value.text() or ""))
        except Invalid as error:
            problems.add(value, error.message, error.todo)
    return tuple(found)


def _address(url: str, folder: Path) -> str:
    """The address, checked. A relative file lies beside the file that names it."""
    if "://" not in url and "@" in url:
        raise Invalid("the url has a user and no scheme", todo="write it as rtsp://user:password@host/path")
    if "://" in url or kind_of(url) == "device":
        kind_of(url)
        return url
    return str((folder / Path(url).expanduser()).absolute())


def _one(part: dict[str, Value], key: str, kind: type[Plain], problems: Problems) -> Plain | None:
    value = part.get(key)
    if value is None or value.is_empty:
        return None
    plain = value.plain()
    if isinstance(plain, kind):
        return plain
    wanted = "true or false" if kind is bool else "a text"
    problems.add(value, f"{key} is not {wanted}", f"write {wanted}")
    return None


def _number(part: dict[str, Value], key: str, problems: Problems) -> float | None:
    value = part.get(key)
    if value is None or value.is_empty:
        return None
    plain = value.plain()
    if isinstance(plain, int | float) and not isinstance(plain, bool):
        with suppress(OverflowError):  # YAML has whole numbers of any length
            return float(plain)
    problems.add(value, f"{key} is no number", "write it as 2 or 0.5")
    return None


def _packet_gate(part: dict[str, Value], problems: Problems) -> Literal["auto", "off"] | None:
    value = part.get("packet_gate")
    if value is None or value.is_empty:
        return None
    match value.text():  # `off` is a switch in YAML, as it is written here
        case "auto":
            return "auto"
        case "off":
            return "off"
    problems.add(value, "packet_gate is not auto or off", "write auto or off")
    return None


def _speed(part: dict[str, Value], problems: Problems) -> float:
    value = part.get("speed")
    if value is not None and value.text() == "max":
        return 0.0
    speed = _number(part, "speed", problems)
    if speed is not None and value is not None and not 0 < speed <= 1000:
        problems.add(value, f"{speed:g} is not a speed", "write 1 for real time, or max")
    return 1.0 if speed is None else speed


def _recording(value: Value, problems: Problems) -> Recording | None:
    part = value.items(problems)
    for key, other in part.items():
        if key not in _RECORD_KEYS:
            problems.add(other, f"record has {shown_name(key)}, which is not known", "known are: days, bytes")
    days = _number(part, "days", problems)
    try:
        size = bytes_of(None, None, part["bytes"].text()) if "bytes" in part else None
        return recording_of(days, size)
    except Invalid as error:
        problems.add(value, error.message, error.todo)
        return None
