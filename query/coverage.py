"""The coverage of an answer: which spans of the requested time were not looked at, and how far each camera is. Pure.

A live camera delivers a picture at least every ten seconds, even of a still scene. So its mark, the time of the latest
picture looked at, stays close to the clock. An old mark means that pictures wait or were never taken. The answer
reports this as a WAITING gap, unless a declared gap explains it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest

from catalog.coverage import Gap, Reason
from proto.life import Gone
from proto.types import Camera

MOST_WATERMARKS = 100


@dataclass(frozen=True, slots=True)
class AskedTime:
    """[start_ms, end_ms), None for open, as requested at `now_ms`."""

    start_ms: int | None
    end_ms: int | None
    now_ms: int

    @property
    def until_ms(self) -> int:
        """The end of the requested time, at most now."""
        return self.now_ms if self.end_ms is None else min(self.end_ms, self.now_ms)

    def overlaps(self, gap: Gap) -> bool:
        """Whether any part of the gap, both ends inclusive, lies in it."""
        return (self.start_ms is None or gap.end_ms >= self.start_ms) and (
            self.end_ms is None or gap.start_ms < self.end_ms
        )


@dataclass(frozen=True, slots=True)
class Watermark:
    """The time up to which everything that a camera captured was looked at."""

    camera: str
    looked_ms: int


@dataclass(frozen=True, slots=True)
class CoverageTold:
    """The coverage of an answer."""

    gaps: Sequence[Gap] = ()
    """Spans of the requested time that were not looked at, earliest first."""
    watermarks: Sequence[Watermark] = ()
    """At most 100: live cameras before all others, and the furthest behind first."""
    unknown: bool = False
    """Gaps and watermarks could not be read."""


def first_gap_needed(asked: AskedTime, behind_ms: int) -> int | None:
    """The time from which declared gaps must be read. It includes recent ones whatever was asked: a camera that was
    away until just now is not waiting."""
    return None if asked.start_ms is None else min(asked.start_ms, asked.now_ms - behind_ms)


def never_looked_at(cameras: Iterable[Camera], looked: Mapping[str, int]) -> frozenset[str]:
    """The live cameras without a mark. All their gaps are needed to know since when they are watched."""
    return frozenset(camera.name for camera in cameras if camera.name not in looked and _delivers(camera))


def told(
    asked: AskedTime,
    cameras: Iterable[Camera],
    looked: Mapping[str, int],
    opened: Mapping[str, int],
    declared: Sequence[Gap],
    behind_ms: int,
) -> CoverageTold:
    """The coverage of an answer. `declared` is ordered by start.

    `opened` says when cameras without a mark were last opened. `behind_ms` is how old a camera's mark may be before
    its pictures count as waiting.
    """
    delivering = [camera.name for camera in cameras if _delivers(camera)]
    of_camera = defaultdict[str, list[Gap]](list)
    for gap in declared:
        of_camera[gap.camera].append(gap)
    up_to_date_ms = min(asked.now_ms - behind_ms, asked.until_ms)
    waiting = (
        gap
        for camera in delivering
        if looked.get(camera, -1) < up_to_date_ms
        for gap in _waiting(camera, looked.get(camera), opened.get(camera), of_camera.get(camera, []), asked, behind_ms)
    )
    gaps = [gap for gap in (*declared, *waiting) if asked.overlaps(gap)]
    gaps.sort(key=lambda gap: (gap.start_ms, gap.camera, gap.reason))
    return CoverageTold(gaps, _watermarks(looked, frozenset(delivering)))


def without(found: CoverageTold, gone: Gone) -> CoverageTold:
    """The coverage of what is not gone: a gap is cut down to the times that may be shown."""
    gaps = [
        gap if (start_ms, end_ms) == (gap.start_ms, gap.end_ms) else replace(gap, start_ms=start_ms, end_ms=end_ms)
        for gap in found.gaps
        for start_ms, end_ms in gone.parts(gap.camera, gap.start_ms, gap.end_ms)
    ]
    return replace(found, gaps=sorted(gaps, key=lambda gap: (gap.start_ms, gap.camera, gap.reason)))


def _waiting(
    camera: str,
    looked_ms: int | None,
    opened_ms: int | None,
    declared: Sequence[Gap],
    asked: AskedTime,
    behind_ms: int,
) -> Iterable[Gap]:
    """The spans in which this live camera's pictures wait."""
    until_ms = asked.until_ms
    if asked.start_ms is not None and until_ms <= asked.start_ms:
        return  # nothing can wait in the future
    recent_ms = asked.now_ms - behind_ms
    # A camera that was never looked at is watched since its earliest sign.
    signs = [gap.start_ms for gap in declared[:1]] + ([] if opened_ms is None else [opened_ms])
    if looked_ms is None and not signs:
        # Without any sign only the latest `behind_ms` counts as waiting.
        if until_ms > recent_ms:
            yield Gap(camera, Reason.WAITING, recent_ms, until_ms)
        return
    reached_ms = min(signs) if looked_ms is None else looked_ms
    for gap in declared:
        if gap.start_ms >= until_ms:
            break
        # A shorter span between the last picture and the gap need not have held another picture.
        if gap.start_ms - reached_ms > behind_ms:
            yield Gap(camera, Reason.WAITING, reached_ms, gap.start_ms)
        reached_ms = max(reached_ms, gap.end_ms)
    # Compare with the clock, not with the requested end: a camera that is an hour behind lacks these seconds too.
    if reached_ms < recent_ms and reached_ms < until_ms:
        yield Gap(camera, Reason.WAITING, reached_ms, until_ms)


def _watermarks(looked: Mapping[str, int], delivering: frozenset[str]) -> list[Watermark]:
    furthest = nsmallest(
        MOST_WATERMARKS, looked.items(), key=lambda mark: (mark[0] not in delivering, mark[1], mark[0])
    )
    return [Watermark(camera, looked_ms) for camera, looked_ms in furthest]


def _delivers(camera: Camera) -> bool:
    """Whether the camera should deliver live pictures: it is watched and not a recording."""
    return camera.wanted and not is_recording(camera.url)


def is_recording(url: str) -> bool:
    """Whether a camera's address names a file. Its pictures carry file time, which may be long ago."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() == "file" if separator else not url.startswith("/dev/video")
