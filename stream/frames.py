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
from proto.types import Moment, camera_name
from proto.v1.events_pb2 import Frame
from stream.consumer import Mark, Record

# Tuples: several are made of every frame, and they are made in a third of the time that frozen dataclasses take.


class Arrived(NamedTuple):
    """A record that is a frame."""

    record: Record
    mark: Mark
    camera: str
    frame: Frame
    jpeg: bytes
    """The frame's picture: reading it from there copies it each time."""
    log_ms: int
    """The time of its partition when it was taken."""

    @property
    def key(self) -> tuple[int, str]:
        """Its camera in its partition: what moments are made of."""
        return self.mark.partition, self.camera


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
    captured_ms = frame.captured_ms
    if not 0 < captured_ms <= LATEST_MS:
        raise Poison("bad_frame", f"{captured_ms} is not a time")
    if not (0 <= frame.novelty <= 1 and 0 <= frame.usual <= 1):
        raise Poison("bad_frame", f"a novelty of {frame.novelty} and usually {frame.usual} are no shares")
    if abs(captured_ms - record.at_ms) > clock_s * 1000:
        _check_clock(frame, record.at_ms, clock_s)
    return Arrived(record, record.mark, camera, frame, frame.jpeg, log_ms)


def _check_clock(frame: Frame, at_ms: int, clock_s: float) -> None:
    ahead_s = (frame.captured_ms - at_ms) / 1000
    if ahead_s > clock_s:
        raise Poison(
            "clock",
            f"{frame.camera} says that a picture was taken {ahead_s:.0f} s after the broker had it",
            todo="set the clock of the camera's host, or the start of the recording",
        )
    if not frame.recorded and -ahead_s > clock_s:
        raise Poison(
            "clock",
            f"{frame.camera} says that a live picture was taken {-ahead_s:.0f} s before the broker had it",
            todo="set the clock of the camera's host",
        )
