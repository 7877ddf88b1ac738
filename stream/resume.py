"""What a worker needs in order to go on with an open moment beyond its row: a short text that is stored with it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from proto.errors import Broken

_HEAD = struct.Struct("<Bdddqq")
_VERSION = 1


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


def to_text(resume: Resume) -> str:
    """As it is stored."""
    head = _HEAD.pack(
        _VERSION, resume.weight, resume.farthest, resume.peak_cosine, resume.run, min(resume.sequence, 2**63 - 1)
    )
    return base64.b85encode(head + struct.pack(f"<{len(resume.distances)}d", *resume.distances)).decode()


def from_text(text: str) -> Resume:
    """Raises Broken when it is none."""
    try:
        data = base64.b85decode(text)
        version, weight, farthest, peak_cosine, run, sequence = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise ValueError(f"version {version}")
        distances = struct.unpack(f"<{(len(data) - _HEAD.size) // 8}d", data[_HEAD.size :])
    except (ValueError, struct.error) as error:
        raise Broken(
            f"an open moment cannot be gone on with ({error})", todo="was it stored by a newer version of Watchword?"
        ) from error
    return Resume(weight, farthest, peak_cosine, run, sequence, distances)
