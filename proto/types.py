"""Plain values that several rooms share: no vendor types, no I/O."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proto.errors import Invalid

Vector = NDArray[np.float32]
"""One unit-length vector, shape (dimension,)."""

Vectors = NDArray[np.float32]
"""Several unit-length vectors, shape (count, dimension)."""

CAMERA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MOMENT_ID = re.compile(r"[0-9a-f]{32}")
LOG_ID = re.compile(r"[0-9a-f]{32}")
MOST_RESUME_CHARS = 512
SPACE_ID = re.compile(r"[0-9a-f]{16}")


def camera_name(name: str) -> str:
    """Return the name, or raise Invalid when it is not valid for a camera."""
    if not CAMERA_NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot be a camera's name",
            todo="use 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter or a digit",
        )
    return name


def check_moment_ids(ids: Sequence[str]) -> None:
    """Raise Invalid unless each has the form of a moment's id."""
    for text in ids:
        if not MOMENT_ID.fullmatch(text):
            raise Invalid(f"{text[:80]!r} cannot be a moment's id", todo="give the 32 hex digits that a hit shows")


def moment_id(camera: str, start_ms: int, log: str, partition: int, first_offset: int) -> str:
    """The id of a moment, derived from the place of its first frame: the same at every replay, in every space.

    The start comes first, so that ids sort by time and identify the moment's bucket.
    """
    words = f"{camera}\0{log}\0{partition}\0{first_offset}".encode()
    return f"{start_ms:014x}{hashlib.blake2b(words, digest_size=9).hexdigest()}"


def start_of(name: str) -> int:
    """The start of the moment with this id."""
    return int(name[:14], 16)


def now_ms() -> int:
    """The wall clock in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Camera:
    """A registered camera."""

    name: str
    url: str
    """rtsp://…, http(s)://…, a file's path, or a device such as /dev/video0."""
    loop: bool = False
    """Restart a file when it ends."""
    speed: float = 1.0
    """Replay speed of a file: 1 is real time, 0 is as fast as it can be read (`--speed max`)."""
    start_ms: int | None = None
    """For a file: the time of its first frame. None: the wall clock when it is opened."""
    watching: bool = True
    """False once removed: its moments stay searchable, and its name stays known."""


@dataclass(frozen=True, slots=True)
class Span:
    """A moment without its vector: a span of one camera in which the scene stayed the same."""

    id: str
    space: str
    camera: str
    start_ms: int
    peak_ms: int
    """The instant of its most representative frame; the thumbnail shows it."""
    end_ms: int
    """The time of its last frame; never before `start_ms`."""
    frames: int
    closed: bool
    """False while it is still going on."""
    log: str
    """The id of the topic that holds its frames: 32 hex digits."""
    partition: int
    first_offset: int
    """The offset of its first frame there. Its camera's frames from here to `last_offset` belong to it."""
    last_offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Moment(Span):
    """A span with its vector, as stored."""

    vector: Vector
    resume: str = ""
    """State that a worker needs to continue an open moment; empty once it is closed."""


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    """What the index must know about a space to store its vectors."""

    id: str
    dimension: int
