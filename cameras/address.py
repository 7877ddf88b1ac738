"""What the address of a camera names, and how it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from proto.errors import Invalid
from proto.scrub import scrubbed
from proto.types import Camera

Kind = Literal["file", "rtsp", "http", "device"]


def shown(url: str) -> str:
    """The address without what could be secret: user, password and query, and what is named a password in its path."""
    if "://" not in url:
        return url
    scheme, rest = url.split("://", 1)
    authority, slash, path = rest.split("?", 1)[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{scrubbed(path)}"


def kind_of(url: str) -> Kind:
    """What kind of source the address names, or Invalid."""
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    match scheme:
        case "":
            return "device" if url.startswith("/dev/video") else "file"
        case "file":
            return "file"
        case "rtsp" | "rtsps":
            return "rtsp"
        case "http" | "https":
            return "http"
        case _:
            raise Invalid(
                f"{scheme}:// is not a kind of camera that Watchword can watch",
                todo="use rtsp://, rtsps://, http://, https://, the path of a video file, or /dev/video0",
            )


def is_file(camera: Camera) -> bool:
    """Whether the camera is a file. An address that is no source at all fails when it is opened, not here."""
    try:
        return kind_of(camera.url) == "file"
    except Invalid:
        return False


def path_of(url: str) -> Path:
    """The path of a file that is there, or Invalid."""
    path = Path(unquote(urlsplit(url).path) if url.lower().startswith("file://") else url)
    if not path.exists():
        raise Invalid(
            f"there is no file {path}", todo="give the path of a video file, or an rtsp:// or http:// address"
        )
    return path


def identity(camera: Camera) -> str:
    """What is replayed: with another path, start, loop or content it is another replay. Invalid when there is none."""
    path = path_of(camera.url)
    try:
        found = path.stat()
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror})", todo="may this user read it?") from error
    return f"{path} start={camera.start_ms} loop={camera.loop} bytes={found.st_size} changed={found.st_mtime_ns}"
