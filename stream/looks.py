"""A look: parts of one frame that are looked at up close, and what was found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proto.types import WHOLE, Box, Region
from proto.v1.events_pb2 import Frame
from stream.frames import Arrived
from stream.regions import MOST_CROPS, WHOLE_PICTURE, Plan


class Part(NamedTuple):
    """A part of a picture, and where in it."""

    box: Box
    jpeg: bytes


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


def boxes_of(frame: Frame) -> list[Box | None]:
    """Where the frame's crops lie; None for one that cannot be."""
    boxes: list[Box | None] = []
    for crop in frame.crops[:MOST_CROPS]:
        box = Box(crop.left, crop.top, crop.right, crop.bottom)
        boxes.append(box if box.is_sound() and crop.jpeg else None)
    return boxes


def look_at(arrived: Arrived, moment: str, plan: Plan, tracks: Sequence[int]) -> Look:
    """The parts of the frame that the plan names; those that it does not have are left out.

    `tracks` are those of the frame's crops.
    """
    frame = arrived.frame
    boxes = boxes_of(frame)

    def part(place: int) -> Part | None:
        if place == WHOLE_PICTURE:
            return Part(WHOLE, arrived.jpeg)
        box = boxes[place] if place < len(boxes) else None
        return None if box is None else Part(box, frame.crops[place].jpeg)

    crops = tuple(one for place in plan.crops if (one := part(place)) is not None)
    detect = None if plan.detect is None else part(plan.detect)
    moved = tuple((box, track) for box, track in zip(boxes, tracks, strict=False) if box is not None)
    return Look(arrived.key, moment, arrived.record.offset, frame.captured_ms, arrived.jpeg, crops, detect, moved)
