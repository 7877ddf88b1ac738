"""A look: parts of one frame that are looked at up close, and what was found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proto.types import WHOLE, Box, Region
from stream.frames import Arrived, Part, Said
from stream.regions import WHOLE_PICTURE, Plan


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is to be looked at of one frame."""

    key: tuple[int, str]
    """Partition and camera."""
    moment: str
    """The id of the moment that the frame is in."""
    offset: int
    at_ms: int
    jpeg: bytes
    """The whole picture: its regions are shown in it."""
    crops: tuple[Part, ...]
    """To be embedded."""
    detect: Part | None
    """To be searched for objects."""
    moved: tuple[tuple[Box, int], ...] = ()
    """Where something moved in the frame, and the track of each (stream/tracks.py)."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a look showed. Nothing, where the parts could not be read or the encoder did not answer."""

    regions: tuple[Region, ...] = ()
    embedded: int = 0
    """Pictures that were embedded for the objects that the detection found."""


def boxes_of(frame: Said) -> list[Box | None]:
    """Where the frame's crops lie; None for one that cannot be used."""
    return [None if part is None else part.box for part in frame.crops]


def look_at(arrived: Arrived, moment: str, plan: Plan, tracks: Sequence[int]) -> Look:
    """The parts of the frame that the plan names; those that it does not have are left out.

    `tracks` are those of the frame's crops.
    """
    frame = arrived.frame

    def part(place: int) -> Part | None:
        if place == WHOLE_PICTURE:
            return Part(WHOLE, arrived.jpeg)
        return frame.crops[place] if place < len(frame.crops) else None

    crops = tuple(one for place in plan.crops if (one := part(place)) is not None)
    detect = None if plan.detect is None else part(plan.detect)
    moved = tuple((box, track) for box, track in zip(boxes_of(frame), tracks, strict=False) if box is not None)
    return Look(arrived.key, moment, arrived.record.offset, frame.captured_ms, arrived.jpeg, crops, detect, moved)
