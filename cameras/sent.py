"""How far a camera's own clock is from this machine's, by its RTCP sender reports. Pure: time is an argument.

Such a report says by the camera's clock when a time stamp of its stream was taken, and FFmpeg says it of each packet.
Between the two lie the camera's encoder and the network, so a clock that is right seems a little behind: by the least
delay that was seen.
"""

from __future__ import annotations

import struct

_WINDOW_MS = 30_000
_REFERENCE = struct.Struct("<q")
"""The head of FFmpeg's AVProducerReferenceTime: microseconds since 1970."""


def reference_ms(data: bytes) -> int | None:
    """The time in a packet's producer reference time; None when it is none."""
    return _REFERENCE.unpack_from(data)[0] // 1000 if len(data) >= _REFERENCE.size else None


class SentClock:
    """The clock of one connection's camera. A clock that is set shows within a minute."""

    def __init__(self) -> None:
        self._before: int | None = None
        self._now: int | None = None
        self._begun_ms = 0

    @property
    def ahead_ms(self) -> int | None:
        """How far it is ahead, negative when it is behind; None when the camera does not tell."""
        known = [one for one in (self._before, self._now) if one is not None]
        return max(known, default=None)

    def packet(self, taken_ms: int, arrived_ms: int) -> None:
        """A packet came that was taken then by the camera's clock."""
        if self._now is None or not 0 <= arrived_ms - self._begun_ms < _WINDOW_MS:
            self._before, self._now, self._begun_ms = self._now, None, arrived_ms
        ahead_ms = taken_ms - arrived_ms
        self._now = ahead_ms if self._now is None else max(self._now, ahead_ms)
