"""What a worker needs in order to go on with an open moment beyond its row: a short text that is stored with it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from proto.errors import Broken
from stream.regions import Place

_HEAD = struct.Struct("<BdddqqB")
_LOOKS = struct.Struct("<ddBBB")
_PLACE = struct.Struct("<4B")
_OWED = struct.Struct("<IB")
_VERSION = 2
_HEAD_1 = struct.Struct("<Bdddqq")
MOST_OWED = 6
"""Looks of one moment that may be under way at once: as many as its row has room for."""


@dataclass(frozen=True, slots=True)
class Looks:
    """How far the frames of the moment were looked at up close."""

    credit: float = 0.0
    surplus: float = 0.0
    since: int = 0
    crop: bool = False
    whole: bool = False
    places: tuple[Place, ...] = ()
    owed: tuple[tuple[int, int], ...] = ()
    """What is under way: how far behind the moment's first offset the frame lies, and the plan as a byte."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The state of a moment that its row does not show."""

    weight: float
    """The length of the weighted sum of its vectors; their mean is the row's vector."""
    farthest: float
    peak_cosine: float
    run: int
    sequence: int
    distances: Sequence[float]
    """What its noise is measured by."""
    looks: Looks = Looks()


def to_text(resume: Resume) -> str:
    """As it is stored."""
    looks = resume.looks
    parts = [
        _HEAD.pack(
            _VERSION,
            resume.weight,
            resume.farthest,
            resume.peak_cosine,
            resume.run,
            min(resume.sequence, 2**63 - 1),
            len(resume.distances),
        ),
        struct.pack(f"<{len(resume.distances)}d", *resume.distances),
        _LOOKS.pack(looks.credit, looks.surplus, looks.since, looks.crop | looks.whole << 1, len(looks.places)),
        *(_PLACE.pack(*place) for place in looks.places),
        *(_OWED.pack(*owed) for owed in looks.owed),
    ]
    return base64.b85encode(b"".join(parts)).decode()


def from_text(text: str) -> Resume:
    """Raises Broken when it is none."""
    try:
        data = base64.b85decode(text)
        if data[:1] == b"\x01":
            return _of_version_1(data)
        version, weight, farthest, peak_cosine, run, sequence, count = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise ValueError(f"version {version}")
        looks_at = _HEAD.size + 8 * count
        distances = struct.unpack(f"<{count}d", data[_HEAD.size : looks_at])
        looks = _looks(data[looks_at:])
    except (ValueError, struct.error) as error:
        raise Broken(
            f"an open moment cannot be gone on with ({error})", todo="was it stored by a newer version of Watchword?"
        ) from error
    return Resume(weight, farthest, peak_cosine, run, sequence, distances, looks)


def _looks(data: bytes) -> Looks:
    credit, surplus, since, flags, places = _LOOKS.unpack_from(data)
    owed_at = _LOOKS.size + places * _PLACE.size
    if owed_at > len(data):
        raise ValueError("it is too short")
    return Looks(
        credit,
        surplus,
        since,
        bool(flags & 1),
        bool(flags & 2),
        tuple(_PLACE.iter_unpack(data[_LOOKS.size : owed_at])),
        tuple(_OWED.iter_unpack(data[owed_at:])),
    )


def _of_version_1(data: bytes) -> Resume:
    """As moments were stored before anything was looked at up close."""
    _, weight, farthest, peak_cosine, run, sequence = _HEAD_1.unpack_from(data)
    distances = struct.unpack(f"<{(len(data) - _HEAD_1.size) // 8}d", data[_HEAD_1.size :])
    return Resume(weight, farthest, peak_cosine, run, sequence, distances)
