"""The cameras of a configuration of Frigate. What a camera's pictures come from is taken over, and what it ignores."""

from __future__ import annotations

import re

from cameras.address import kind_of
from proto.areas import MOST_AREAS, area_of
from proto.errors import Invalid
from proto.types import Area, Camera
from watchword.lines import Problems, Value, shown_name

_TAKEN = ("ffmpeg", "enabled", "detect", "motion", "friendly_name")
_PLACEHOLDER = re.compile(r"\{FRIGATE_\w*\}")
_RESTREAM = re.compile(r"^rtsp://(127\.0\.0\.1|localhost):8554/", re.IGNORECASE)


def camera_of_frigate(
    name: str, at: Value, part: dict[str, Value], whole: dict[str, Value], problems: Problems
) -> tuple[Camera | None, list[str]]:
    """The camera, and what is not taken over. Raises Invalid for an address that cannot be."""
    notes = []
    if left := sorted(set(part) - set(_TAKEN)):
        notes.append(f"{name}: not taken over: {', '.join(map(shown_name, left))}")
    if "record" in part:
        notes.append(f"{name}: `watchword recording set {name} --days D --bytes SIZE` records it")
    source = _detected(part, problems)
    if source is None:
        problems.add(part.get("ffmpeg", at), f"{name} has no input", "give `ffmpeg:` `inputs:` with a `path:`")
        return None, notes
    url = (source.text() or "").strip()
    if _PLACEHOLDER.search(url):
        problems.add(source, f"the path of {name} has a placeholder of Frigate", "write the value in its place")
        return None, notes
    if not ("://" in url or url.startswith("/dev/video")):
        problems.add(source, f"the path of {name} is no address", "write it as rtsp://…, http://…, or /dev/video0")
        return None, notes
    kind_of(url)
    if _RESTREAM.match(url):
        notes.append(f"{name}: its address is Frigate's restream, which must go on; the camera's own is better")
    detect = part["detect"].items(problems) if "detect" in part else {}
    general = whole["detect"].items(problems) if "detect" in whole else {}
    detect = {**general, **detect}
    size = _whole(detect.get("width")), _whole(detect.get("height"))
    ignored = _ignored(name, part, size, problems)
    enabled = "enabled" not in part or part["enabled"].plain() is not False
    return Camera(name, url, enabled=enabled, fps=_fps(detect), ignored=ignored), notes


def _detected(part: dict[str, Value], problems: Problems) -> Value | None:
    """The path of the input that Frigate looks at, else of the first."""
    ffmpeg = part["ffmpeg"].items(problems) if "ffmpeg" in part else {}
    first = None
    for entry in ffmpeg["inputs"].each() if "inputs" in ffmpeg else ():
        known = entry.items(problems)
        if "path" not in known:
            continue
        first = first or known["path"]
        if "roles" in known and any(role.text() == "detect" for role in known["roles"].each()):
            return known["path"]
    return first


def _ignored(name: str, part: dict[str, Value], size: tuple[int, int], problems: Problems) -> tuple[Area, ...]:
    """Its motion masks. Frigate sees no movement there and shows the pixels, as areas to ignore do."""
    motion = part["motion"].items(problems) if "motion" in part else {}
    mask = motion.get("mask")
    if mask is None:
        return ()
    written = [mask] if not mask.is_mapping else []
    for entry in mask.items(problems).values() if mask.is_mapping else ():
        known = entry.items(problems) if entry.is_mapping else {}
        off = "enabled" in known and known["enabled"].plain() is False
        if not off:
            written.append(known.get("coordinates", entry))
    found = []
    for value in (one for group in written for one in group.each()):
        try:
            found.append(_area(value.text() or "", size))
        except Invalid as error:
            problems.add(value, f"a motion mask of {name}: {error.message}", error.todo)
    if len(found) > MOST_AREAS:
        problems.add(mask, f"{name} has {len(found)} motion masks", f"leave at most {MOST_AREAS}")
    return tuple(found)


def _area(words: str, size: tuple[int, int]) -> Area:
    """Shares of the picture or, as in older configurations, pixels of the size that is detected in."""
    numbers = re.findall(r"\d+(?:\.\d+)?", words)
    if any(float(number) > 1 for number in numbers):
        if 0 in size:
            raise Invalid("it is in pixels, of no size", todo="give the camera's detect: width and height")
        return area_of(f"{size[0]}x{size[1]}: {words}")
    return area_of(words)


def _whole(value: Value | None) -> int:
    plain = None if value is None else value.plain()
    return plain if isinstance(plain, int) and 0 < plain < 100_000 else 0


def _fps(detect: dict[str, Value]) -> float | None:
    plain = detect["fps"].plain() if "fps" in detect else None
    return float(plain) if isinstance(plain, int | float) and 0 < plain <= 60 else None
