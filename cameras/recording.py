"""Which recordings stay: the ring of each camera, and of all together. Pure: time and free space are arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from proto.types import Recording

Why = Literal["days", "bytes", "total", "disk"]
DAY_MS = 86_400_000
_SEGMENTS = 8
"""A camera's budget holds at least so many segments: a smaller budget has shorter ones."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A closed segment."""

    camera: str
    start_ms: int
    end_ms: int
    size: int
    name: str
    """What its writer knows it by."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A segment that goes, and why: too old, the camera's budget, the budget of all, or the disk is full."""

    kept: Kept
    why: Why


def segment_full(budget: int, most_s: float, size: int, lasts_ms: int) -> bool:
    """Whether the open segment is to be closed before the next key frame. `budget` is what its camera may take."""
    return lasts_ms >= most_s * 1000 or size >= budget // _SEGMENTS


class Ring:
    """What is recorded, by camera, oldest first. What it gives out as removed it has forgotten."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[Kept]] = {}
        self._closed: dict[str, int] = {}
        self._open: dict[str, int] = {}

    def add(self, kept: Kept) -> None:
        """A segment was closed."""
        self._open.pop(kept.camera, None)
        self._kept.setdefault(kept.camera, deque()).append(kept)
        self._closed[kept.camera] = self._closed.get(kept.camera, 0) + kept.size

    def grown(self, camera: str, size: int) -> None:
        """The camera's open segment has this size; 0: it has none."""
        if size:
            self._open[camera] = size
        else:
            self._open.pop(camera, None)

    def used(self, camera: str | None = None) -> int:
        """Bytes of the camera's recordings, or of all."""
        if camera is None:
            return sum(self._closed.values()) + sum(self._open.values())
        return self._closed.get(camera, 0) + self._open.get(camera, 0)

    def forget(self, camera: str) -> None:
        """Know nothing of its segments: they are looked at anew."""
        self._kept.pop(camera, None)
        self._closed.pop(camera, None)
        self._open.pop(camera, None)

    def growing(self) -> int:
        """How many segments are open."""
        return len(self._open)

    def newest_ms(self, camera: str) -> int | None:
        """When the camera's latest closed segment begins."""
        kept = self._kept.get(camera)
        return kept[-1].start_ms if kept else None

    def drop(self, camera: str, is_gone: Callable[[str], bool]) -> None:
        """Forget the camera's oldest segments that somebody else removed."""
        kept = self._kept.get(camera)
        while kept and is_gone(kept[0].name):
            self._closed[camera] -= kept.popleft().size

    def expired(self, now_ms: int, limits: Mapping[str, Recording]) -> list[Removal]:
        """The segments that are older than their camera's days."""
        gone = []
        for camera, limit in limits.items():
            kept = self._kept.get(camera)
            while kept and kept[0].end_ms < now_ms - limit.days * DAY_MS:
                gone.append(self._take(camera, "days"))
        return gone

    def room(self, camera: str, size: int, limit: Recording, total: int) -> list[Removal]:
        """What goes before so many bytes of this camera are added. `total` 0 is no limit."""
        gone = []
        while self._kept.get(camera) and self.used(camera) + size > limit.bytes:
            gone.append(self._take(camera, "bytes"))
        while total and self.used() + size > total and (oldest := self._oldest()) is not None:
            gone.append(self._take(oldest, "total"))
        return gone

    def free(self, size: int) -> list[Removal]:
        """The oldest segments of all, so many bytes of them or more: the disk is full."""
        gone: list[Removal] = []
        while sum(one.kept.size for one in gone) < size and (oldest := self._oldest()) is not None:
            gone.append(self._take(oldest, "disk"))
        return gone

    def _oldest(self) -> str | None:
        """The camera with the oldest segment."""
        return min(
            (camera for camera, kept in self._kept.items() if kept),
            key=lambda camera: self._kept[camera][0].start_ms,
            default=None,
        )

    def _take(self, camera: str, why: Why) -> Removal:
        kept = self._kept[camera].popleft()
        self._closed[camera] -= kept.size
        return Removal(kept, why)


@dataclass(frozen=True, slots=True)
class Forecast:
    """How much is recorded of a camera, and for how long its limits last."""

    bytes: int
    start_ms: int
    end_ms: int
    bytes_a_day: int
    """At the pace of the latest recordings; 0 when that is not known yet."""
    days: float | None
    """How many days of this camera its limits hold at that pace. None: not known yet."""


def forecast(size: int, start_ms: int, end_ms: int, pace: tuple[int, int], limits: Recording | None) -> Forecast:
    """`pace` is how many bytes were recorded lately, in how many milliseconds of video."""
    lately, lately_ms = pace
    a_day = round(lately * DAY_MS / lately_ms) if lately_ms > 0 else 0
    days = None if limits is None or not a_day else min(limits.days, limits.bytes / a_day)
    return Forecast(size, start_ms, end_ms, a_day, days)
