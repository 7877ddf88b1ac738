"""What an answer says of the time that was asked for: which spans were not looked at, and how far each camera is. Pure.

A live camera delivers a picture every ten seconds at least, also of a scene that stands still. So its mark, the time of
the latest picture that was looked at, is never much older than the clock; where it is, pictures wait, or nobody took
any: both were not looked at. That is told as a WAITING gap, unless a gap that was declared explains it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from catalog.coverage import Gap, Reason
from proto.types import Camera

MOST_WATERMARKS = 100


@dataclass(frozen=True, slots=True)
class AskedTime:
    """[start_ms, end_ms), None for open, as it was asked at `now_ms`."""

    start_ms: int | None
    end_ms: int | None
    now_ms: int

    @property
    def until_ms(self) -> int:
        """The end of what can have been captured."""
        return self.now_ms if self.end_ms is None else min(self.end_ms, self.now_ms)

    def overlaps(self, gap: Gap) -> bool:
        """Whether the gap, both of its ends included, lies in it in part."""
        return (self.start_ms is None or gap.end_ms >= self.start_ms) and (
            self.end_ms is None or gap.start_ms < self.end_ms
        )


@dataclass(frozen=True, slots=True)
class Watermark:
    """Up to when everything that a camera captured was looked at."""

    camera: str
    looked_ms: int


@dataclass(frozen=True, slots=True)
class CoverageTold:
    """What an answer says of the time that was asked for."""

    gaps: Sequence[Gap] = ()
    """The spans in it that were not looked at, earliest first."""
    watermarks: Sequence[Watermark] = ()
    """The furthest behind first: live cameras before recordings and those that are no longer watched. At most 100."""
    unknown: bool = False
    """Gaps and watermarks could not be read."""


def first_gap_needed(asked: AskedTime, behind_ms: int) -> int | None:
    """From when on declared gaps must be known to tell the asked time: a camera that was away until just now does not
    wait, whatever was asked."""
    return None if asked.start_ms is None else min(asked.start_ms, asked.now_ms - behind_ms)


def never_looked_at(cameras: Iterable[Camera], looked: Mapping[str, int]) -> frozenset[str]:
    """The live cameras that have no mark: all of their gaps are needed to tell since when they are watched."""
    return frozenset(camera.name for camera in cameras if camera.name not in looked and _delivers(camera))


def told(
    asked: AskedTime,
    cameras: Iterable[Camera],
    looked: Mapping[str, int],
    opened: Mapping[str, int],
    declared: Sequence[Gap],
    behind_ms: int,
) -> CoverageTold:
    """What an answer says, of the asked cameras, their marks, and their declared gaps in order of their starts.

    `opened` says of those without a mark when they were opened last. `behind_ms` is how old the mark of a camera may
    be before its pictures count as waiting.
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
        return  # Of a time to come nothing can wait.
    recent_ms = asked.now_ms - behind_ms
    # Of a camera that was never looked at, the first sign of it tells since when it is watched.
    signs = [gap.start_ms for gap in declared[:1]] + ([] if opened_ms is None else [opened_ms])
    if looked_ms is None and not signs:
        # Just now it was watched, and nothing of that was looked at.
        if until_ms > recent_ms:
            yield Gap(camera, Reason.WAITING, recent_ms, until_ms)
        return
    reached_ms = min(signs) if looked_ms is None else looked_ms
    for gap in declared:
        if gap.start_ms >= until_ms:
            break
        # Between the last picture and the start of the gap there need not have been another one.
        if gap.start_ms - reached_ms > behind_ms:
            yield Gap(camera, Reason.WAITING, reached_ms, gap.start_ms)
        reached_ms = max(reached_ms, gap.end_ms)
    # By the clock, not by the asked end: a camera that is an hour behind also misses the last ten seconds before that.
    if reached_ms < recent_ms and reached_ms < until_ms:
        yield Gap(camera, Reason.WAITING, reached_ms, until_ms)


def _watermarks(looked: Mapping[str, int], delivering: frozenset[str]) -> list[Watermark]:
    furthest = nsmallest(
        MOST_WATERMARKS, looked.items(), key=lambda mark: (mark[0] not in delivering, mark[1], mark[0])
    )
    return [Watermark(camera, looked_ms) for camera, looked_ms in furthest]


def _delivers(camera: Camera) -> bool:
    """Whether the camera should deliver pictures of now: one that is watched, and that is not a recording."""
    return camera.watching and not is_recording(camera.url)


def is_recording(url: str) -> bool:
    """Whether a camera's address names a file: its pictures are of its own time, which may be long ago."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() == "file" if separator else not url.startswith("/dev/video")
