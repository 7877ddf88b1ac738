"""The cameras that are doing worst: a bounded answer about thousands of cameras. Pure: time is an argument."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from proto.errors import Invalid

MOST = 100
BY = ("silent", "failures", "lost", "sent")


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """How a camera that is watched here is doing."""

    camera: str
    now: str
    """As CameraState says."""
    view: str
    silent_s: float
    """Since its last picture; since it is watched when there was none. 0 for a file that came to its end."""
    failures: int
    """How often its source failed since it is watched here."""
    lost: int
    """Frames that never reached the broker."""
    sent: int
    """Frames that the broker took."""
    error: str
    """The last one of its source, while it lasts."""


def worst(facts: Iterable[CameraFacts], asked: Mapping[str, str]) -> dict[str, Any]:
    """The `n` cameras (20) of which the fact that `by` names (silent) is greatest, as JSON. Invalid for other words."""
    by, count = asked.get("by", "silent"), asked.get("n", "20")
    if by not in BY:
        raise Invalid(f"cameras are not told by {by[:40]!r}", todo=f"give by={'|'.join(BY)}")
    if not count.isascii() or not count.isdecimal() or not 1 <= int(count[:9]) <= MOST:
        raise Invalid(f"n={count[:40]!r} cameras cannot be told", todo=f"give 1 to {MOST}")
    every = list(facts)
    name = "silent_s" if by == "silent" else by
    found = heapq.nsmallest(int(count), every, key=lambda one: (-getattr(one, name), one.camera))
    return {"by": by, "watched": len(every), "cameras": [asdict(one) for one in found]}
