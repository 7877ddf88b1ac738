"""What a worker needs beyond the row of a moment in order to go on, with it or after it: a short text that is stored
with it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proto.errors import Broken
from stream.regions import MOST_CROPS, Plan
from stream.tracks import UNKNOWN, Place, Track

_HEAD = struct.Struct("<BdddqqB")
_LOOKS = struct.Struct("<ddBBBBBBBq")
_OWED = struct.Struct("<IB3B")
_TRACK = struct.Struct("<4B4BIIB")
_BITS = struct.Struct("<H")
_LONGEST_MS = 2**32 - 1
_VERSION = 3
_REACHED = struct.Struct("<Bqq")
_REACHED_VERSION = 128
MOST_OWED = 6
"""Looks of one moment that may be under way at once: as many as its row has room for."""


class Reached(NamedTuple):
    """The latest frame that was taken of a camera: an earlier one of its run is no new one."""

    run: int = 0
    sequence: int = -1


class Owed(NamedTuple):
    """A look that is under way."""

    plan: Plan
    tracks: tuple[int, ...] = ()
    """Of the frame's crops: see stream/tracks.py."""


@dataclass(frozen=True, slots=True)
class Looks:
    """How far the frames of the moment were looked at up close."""

    credit: float = 0.0
    surplus: float = 0.0
    since: int = 0
    searched: int = 0
    whole: bool = False
    embedded: int = 0
    owed: tuple[tuple[int, Owed], ...] = ()
    """What is under way, and how far behind the moment's first offset its frame lies."""
    tracks: tuple[Track, ...] = ()
    of_regions: tuple[int, ...] = ()
    """The tracks of each region: `Followed.tracks`."""


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


def closed_text(reached: Reached) -> str:
    """What the row of a moment keeps once it is closed: a worker that begins after it knows what was sent again."""
    return base64.b85encode(_REACHED.pack(_REACHED_VERSION, reached.run, min(reached.sequence, 2**63 - 1))).decode()


def reached_by(text: str) -> Reached:
    """How far a moment reached, open or closed. Knows nothing of one that was closed by an older version."""
    try:
        data = base64.b85decode(text)
        if len(data) == _REACHED.size and data[0] == _REACHED_VERSION:
            _, *latest = _REACHED.unpack(data)
            return Reached(*latest)
        kept = from_text(text)
    except (Broken, ValueError):
        return Reached()
    return Reached(kept.run, kept.sequence)


def to_text(resume: Resume) -> str:
    """As it is stored."""
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
        *_packed(resume.looks),
    ]
    return base64.b85encode(b"".join(parts)).decode()


def from_text(text: str) -> Resume:
    """Raises Broken when it is none."""
    try:
        data = base64.b85decode(text)
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


def _packed(looks: Looks) -> list[bytes]:
    base_ms = min((one.since_ms for one in looks.tracks), default=0)
    counts = [len(part) for part in (looks.owed, looks.tracks, looks.of_regions)]
    return [
        _LOOKS.pack(
            looks.credit, looks.surplus, looks.since, looks.searched, looks.whole, looks.embedded, *counts, base_ms
        ),
        *(_OWED.pack(behind, one.plan.to_byte(), *_padded(one.tracks)) for behind, one in looks.owed),
        *(_TRACK.pack(*one.place, *one.looked, *_since(base_ms, one), _state(one)) for one in looks.tracks),
        *(_BITS.pack(bits) for bits in looks.of_regions),
    ]


def _looks(data: bytes) -> Looks:
    credit, surplus, since, searched, whole, embedded, *counts, base_ms = _LOOKS.unpack_from(data)
    parts, begin = [], _LOOKS.size
    for kind, count in zip((_OWED, _TRACK, _BITS), counts, strict=True):
        end = begin + kind.size * count
        parts.append([kind.unpack_from(data, at) for at in range(begin, end, kind.size)])
        begin = end
    if begin != len(data):
        raise ValueError("it has another length than it says")
    owed, tracks, bits = parts
    return Looks(
        credit,
        surplus,
        since,
        searched,
        bool(whole),
        embedded,
        tuple((behind, Owed(Plan.of_byte(plan), tuple(numbers))) for behind, plan, *numbers in owed),
        tuple(_track(base_ms, *fields) for fields in tracks),
        tuple(one for (one,) in bits),
    )


def _padded(tracks: Sequence[int]) -> list[int]:
    return [*tracks, *[UNKNOWN] * (MOST_CROPS - len(tracks))]


def _since(base_ms: int, track: Track) -> tuple[int, int]:
    return min(track.since_ms - base_ms, _LONGEST_MS), min(track.until_ms - base_ms, _LONGEST_MS)


def _state(track: Track) -> int:
    return track.missed | track.shown << 2 | track.searched << 3 | track.looks << 4


def _track(base_ms: int, *fields: int) -> Track:
    place, looked, (since, until, state) = fields[:4], fields[4:8], fields[8:]
    missed, shown, searched, looks = state & 3, bool(state & 4), bool(state & 8), state >> 4
    return Track(_place(place), base_ms + since, base_ms + until, missed, shown, searched, looks, _place(looked))


def _place(sides: Sequence[int]) -> Place:
    left, top, right, bottom = sides
    return left, top, right, bottom
