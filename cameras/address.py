"""What the address of a camera names, and how it is shown."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from proto.errors import Invalid
from proto.scrub import scrubbed
from proto.types import Camera

Kind = Literal["file", "rtsp", "http", "hls", "mpegts", "device", "synthetic"]
ACCEPTED = (
    "use rtsp://, rtsps:// or rtsp+udp://; http:// or https:// of MJPEG, other video or an .m3u8 playlist; "
    "udp://HOST:PORT or tcp://HOST:PORT of MPEG-TS; the path of a video or of a folder of videos or pictures; "
    "or /dev/video0"
)
PICTURES = {
    **dict.fromkeys((".jpg", ".jpeg"), "jpeg_pipe"),
    **dict.fromkeys((".tif", ".tiff"), "tiff_pipe"),
    **{f".{name}": f"{name}_pipe" for name in ("png", "webp", "bmp")},
}
"""What names of pictures end with, and the container that reads one."""
_VIDEOS = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg", "flv", "asf", "wmv", "ogv"),
        *("h264", "264", "h265", "265", "hevc", "mjpeg", "mjpg", "ivf", "gif"),
    )
)
_LONGEST_SCHEME = 12


def shown(url: str) -> str:
    """The address without what could be secret: user, password and query, and what is named a password in its path."""
    if "://" not in url:
        return url
    scheme, rest = url.split("://", 1)
    if "@" in rest and not _has_place(rest):
        # A "/" or "?" in a password ends the address's first part for everybody who reads it.
        rest = rest.rpartition("@")[2]
    authority, slash, path = rest.split("?", 1)[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{scrubbed(path)}"


def _has_place(rest: str) -> bool:
    """Whether a host, and a port that is one, can be read where they should be."""
    try:
        return bool(urlsplit(f"//{rest}").hostname) and urlsplit(f"//{rest}").port != 0
    except ValueError:
        return False


def kind_of(url: str) -> Kind:
    """What kind of source the address names, or Invalid."""
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    match scheme:
        case "" if url.startswith("synthetic:"):
            return "synthetic"
        case "":
            return "device" if url.startswith("/dev/video") else "file"
        case "file":
            return "file"
        case "rtsp" | "rtsps" | "rtsp+udp":
            _check_place(url, scheme)
            return "rtsp"
        case "http" | "https":
            _check_place(url, scheme)
            return "hls" if urlsplit(url).path.lower().endswith(".m3u8") else "http"
        case "udp" | "tcp":
            _check_place(url, scheme, plain=True)
            return "mpegts"
        case _:
            # What stands before "://" may be anything, such as a password.
            what = f"{scheme}://" if scheme.isalnum() and len(scheme) < _LONGEST_SCHEME else "this"
            raise Invalid(f"{what} is not a kind of camera that Watchword can watch", todo=ACCEPTED)


def _check_place(url: str, scheme: str, *, plain: bool = False) -> None:
    """Raise Invalid unless the address has a host, and a port that is one. Of a `plain` one that is all it may have: in
    what follows FFmpeg reads options, such as to listen."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host = -1, None
    if not host or port == -1 or not url.isprintable():
        raise Invalid(f"this {scheme}:// address has no host and port that can be", todo=ACCEPTED)
    if plain and (port is None or parts.path.strip("/") or parts.query or parts.fragment or parts.username):
        raise Invalid(f"a {scheme}:// address is a host and a port", todo=f"write {scheme}://HOST:PORT")


def is_file(camera: Camera) -> bool:
    """Whether the camera is a file. An address that is no source at all fails when it is opened, not here."""
    try:
        return kind_of(camera.url) == "file"
    except Invalid:
        return False


def files_of(url: str) -> list[Path]:
    """The files that are played: one, or those of a folder in the order of their names, all videos or all pictures.

    Invalid when there are none, or of both kinds.
    """
    path = path_of(url)
    if not path.is_dir():
        return [path]
    known = _VIDEOS.union(PICTURES)
    try:
        found = sorted(one for one in path.iterdir() if one.suffix.lower() in known and one.is_file())
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror})", todo="may this user read it?") from error
    if not found:
        raise Invalid(f"there is no video and no picture in {path}", todo="give a folder of videos, or of pictures")
    if len({is_picture(one) for one in found}) > 1:
        raise Invalid(f"there are videos and pictures in {path}", todo="give a folder of either")
    return found


def is_picture(path: Path) -> bool:
    """Whether the file is one picture, by its name."""
    return path.suffix.lower() in PICTURES


def path_of(url: str) -> Path:
    """The path of a file or folder that is there, or Invalid."""
    path = Path(unquote(urlsplit(url).path) if url.lower().startswith("file://") else url)
    if not path.exists():
        raise Invalid(f"there is no file {path}", todo=ACCEPTED)
    return path


def identity(camera: Camera) -> str:
    """What is replayed: with another path, start, loop or content it is another replay. Invalid when there is none."""
    path = path_of(camera.url)
    how = f"{path} start={camera.start_ms} loop={camera.loop}"
    try:
        if not path.is_dir():
            found = path.stat()
            return f"{how} bytes={found.st_size} changed={found.st_mtime_ns}"
        files = [(one.name, one.stat()) for one in files_of(camera.url)]
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror})", todo="may this user read it?") from error
    digest = hashlib.sha256(repr([(name, one.st_size, one.st_mtime_ns) for name, one in files]).encode())
    return f"{how} files={len(files)} hash={digest.hexdigest()[:32]}"
