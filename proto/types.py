"""Plain values that several rooms share: no vendor types, no I/O."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from proto.errors import Invalid

Vector = NDArray[np.float32]
"""One unit-length vector, shape (dimension,)."""

Vectors = NDArray[np.float32]
"""Several unit-length vectors, shape (count, dimension)."""

MOST_GROUPS = 8
"""The most groups that a camera is in."""
CAMERA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MOMENT_ID = re.compile(r"[0-9a-f]{32}")
LOG_ID = re.compile(r"[0-9a-f]{32}")
MOST_RESUME_CHARS = 768
MOST_REGIONS = 4
"""The most regions that a moment has rows for, besides the row of its whole picture."""
MOST_OBJECT_CROPS = 6
"""The most objects of one picture whose vectors are made of their crops; further ones share that of the picture."""
KIND = re.compile(r"[a-z][a-z ]{0,31}")
"""The kind of an object, such as "traffic light"."""


def camera_name(name: str) -> str:
    """Return the name, or raise Invalid when it is not valid for a camera."""
    if not CAMERA_NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot be a camera's name",
            todo="use 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter or a digit",
        )
    return name


def group_name(name: str) -> str:
    """Return the name, or raise Invalid when it is not valid for a group of cameras."""
    if not CAMERA_NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot be a group's name",
            todo="use 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter or a digit",
        )
    return name


def site_name(name: str) -> str:
    """Return the name, or raise Invalid when it is not valid for a site. Empty: no site."""
    if name and not CAMERA_NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot be a site's name",
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


Point = tuple[float, float]
"""Across and down, in shares of the picture's width and height."""

Area = tuple[Point, ...]
"""A polygon in a picture. `proto/areas.py` says which are taken."""


@dataclass(frozen=True, slots=True)
class Recording:
    """How much of a camera's video is kept. What is older, or too much, goes: the oldest first."""

    days: float
    bytes: int
    on: bool = True
    """False: nothing is added; what was recorded stays within these limits."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A registered camera."""

    name: str
    url: str
    """rtsp://…, http(s)://…, udp://HOST:PORT, the path of a file or folder, or a device such as /dev/video0.
    cameras/address.py says all that is taken."""
    loop: bool = False
    """Restart a file when it ends."""
    speed: float = 1.0
    """Replay speed of a file: 1 is real time, 0 is as fast as it can be read (`--speed max`)."""
    start_ms: int | None = None
    """For a file: the time of its first frame. None: the wall clock when it is opened."""
    watching: bool = True
    """False once removed: its moments stay searchable, and its name stays known."""
    record: Recording | None = None
    """None: it was never recorded."""
    masks: tuple[Area, ...] = ()
    """What is blanked in every picture of it, before anything else is done with the picture."""
    unmasked_recording: bool = False
    """Packets are recorded as they come, so a mask cannot be in them. True: it is recorded all the same."""

    ignored: tuple[Area, ...] = ()
    """Where movement says nothing. What is there stays visible."""
    fps: float | None = None
    """Pictures looked at per second; None: as `camera.fps` says."""
    novelty: float | None = None
    """How much must differ for a picture to be kept; None: as `camera.novelty` says."""
    packet_gate: Literal["auto", "off"] | None = None
    """Whether its packets decide what is decoded of it; None: as `camera.packet_gate` says."""
    enabled: bool = True
    """False: it is not watched for now, and stays as it is."""
    groups: tuple[str, ...] = ()
    """The groups that it belongs to, by which it can be listed and searched."""
    site: str = ""
    """Where it can be reached from: by camera processes whose `camera.site` is this. Empty: by all."""

    @property
    def wanted(self) -> bool:
        """Whether it is to be watched now."""
        return self.watching and self.enabled

    @property
    def records(self) -> bool:
        """Whether what it sends is to be recorded now."""
        wanted = self.wanted and self.record is not None and self.record.on
        return wanted and (not self.masks or self.unmasked_recording)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in a picture, in shares of the picture's width and height: it holds at every resolution."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """The share of the picture that it covers."""
        return (self.right - self.left) * (self.bottom - self.top)

    def common(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def is_sound(self) -> bool:
        """Whether it lies in the picture and holds something."""
        return 0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1


WHOLE = Box(0.0, 0.0, 1.0, 1.0)
"""The whole picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A part of one picture of a moment, with a vector of its own: something that moved, or an object."""

    at_ms: int
    """When the picture was taken that shows it."""
    box: Box
    vector: Vector
    kind: str = ""
    """The kind of object, such as "person"; empty when that is not known."""
    score: float = 0.0
    """How sure the detector was of the kind, 0 to 1; 0 without a kind."""
    since_ms: int = 0
    """When the thing was first seen, at times before the moment began; 0: it was there as long as the moment lasted."""
    until_ms: int = 0
    """When it was last seen; 0 likewise."""


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
    objects: tuple[tuple[str, int], ...] = field(default=(), kw_only=True)
    """The kinds of objects that were seen, and how many of each at most at one time, ordered by kind."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment(Span):
    """A span with its vectors, as stored: one of the whole picture, and one for each region."""

    vector: Vector
    resume: str = ""
    """What a worker needs in order to go on with it while it is open, or after it once it is closed."""
    regions: tuple[Region, ...] = ()
    """At most MOST_REGIONS. Their order is that of their rows."""


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    """What the index must know about a space to store its vectors."""

    id: str
    dimension: int
