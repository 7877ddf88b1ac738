"""A frame on its way: each step gives it a type of its own, with all that is known by then.

Record --decode--> Arrived --recall--> Recalled --embed--> Embedded --build--> Write (stream/moments.py)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from index.store import LATEST_MS
from proto.errors import Invalid, Poison
from proto.types import Box, Moment, camera_name
from proto.v1.events_pb2 import Crop, Frame
from stream.consumer import Mark, Record
from stream.regions import MOST_CROPS

# Tuples: several are made of every frame, and they are made in a third of the time that frozen dataclasses take.


class Part(NamedTuple):
    """A part of a picture, and where in it."""

    box: Box
    jpeg: bytes


@dataclass(slots=True)
class Said:
    """What a frame's message says besides its picture, read once: the message itself holds another copy of the picture.
    Nobody changes it."""

    captured_ms: int
    grabbed_ms: int
    novelty: float
    usual: float
    after_gap: bool
    sequence: int
    run: int
    same_ms: int
    recorded: bool
    view: int
    crops: tuple[Part | None, ...] = ()
    """What moved; None in place of a part that cannot be used."""


class Arrived(NamedTuple):
    """A record that is a frame."""

    record: Record
    mark: Mark
    key: tuple[int, str]
    """Its camera in its partition: what moments are made of."""
    frame: Said
    jpeg: bytes
    log_ms: int
    """The time of its partition when it was taken."""

    @property
    def camera(self) -> str:
        return self.key[1]


Unit = NDArray[np.float64]
"""A vector of unit length, with digits enough to be summed."""


class New:
    """What the index knows of a frame: nothing. It is to be looked at."""


class Over:
    """It lies in a moment that is closed: there is nothing left to do."""


class Passed:
    """It was passed over, and declared: no moment counts it, and the open one may reach across it."""


@dataclass(frozen=True, slots=True)
class Inside:
    """It is among the frames that `moment` was told with, and the moment is still open."""

    moment: Moment


Known = New | Over | Passed | Inside
NEW, OVER, PASSED = New(), Over(), Passed()


class Recalled(NamedTuple):
    """A frame, and what the index knows of it."""

    arrived: Arrived
    known: Known


class Embedded(NamedTuple):
    """A frame with its vector."""

    arrived: Arrived
    vector: Unit


_checked_name = lru_cache(maxsize=65_536)(camera_name)


def decoded(record: Record, log_ms: int, clock_s: float) -> Arrived:
    """The frame in the record. Raises Poison when it is none, or when its time cannot be true."""
    frame = Frame()
    try:
        frame.ParseFromString(record.value)
        camera = _checked_name(frame.camera)
    except DecodeError as error:
        raise Poison("undecodable", "the record is not a frame") from error
    except Invalid as error:
        raise Poison("bad_frame", error.message) from error
    said = said_by(frame)
    captured_ms = said.captured_ms
    if not 0 < captured_ms <= LATEST_MS:
        raise Poison("bad_frame", f"{captured_ms} is not a time")
    if not (0 <= said.novelty <= 1 and 0 <= said.usual <= 1):
        raise Poison("bad_frame", f"a novelty of {said.novelty} and usually {said.usual} are no shares")
    if abs(captured_ms - record.at_ms) > clock_s * 1000:
        _check_clock(camera, said, record.at_ms, clock_s)
    return Arrived(record, record.mark, (record.partition, camera), said, frame.jpeg, log_ms)


def said_by(frame: Frame) -> Said:
    """What the message says."""
    return Said(
        frame.captured_ms,
        frame.grabbed_ms,
        frame.novelty,
        frame.usual,
        frame.after_gap,
        frame.sequence,
        frame.run,
        frame.same_ms,
        frame.recorded,
        frame.view,
        tuple(map(_part, frame.crops[:MOST_CROPS])),
    )


def _part(crop: Crop) -> Part | None:
    box = Box(crop.left, crop.top, crop.right, crop.bottom)
    return Part(box, crop.jpeg) if box.is_sound() and crop.jpeg else None


def _check_clock(camera: str, frame: Said, at_ms: int, clock_s: float) -> None:
    ahead_s = (frame.captured_ms - at_ms) / 1000
    if ahead_s > clock_s:
        raise Poison(
            "clock",
            f"{camera} says that a picture was taken {ahead_s:.0f} s after the broker had it",
            todo="set the clock of the camera's host, or the start of the recording",
        )
    if not frame.recorded and -ahead_s > clock_s:
        raise Poison(
            "clock",
            f"{camera} says that a live picture was taken {-ahead_s:.0f} s before the broker had it",
            todo="set the clock of the camera's host",
        )
