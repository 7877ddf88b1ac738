"""What the service answers, as plain values. Times are datetimes in UTC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from watchword_client.errors import Invalid
from watchword_client.v1 import query_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MS


def time_of(ms: int) -> datetime:
    """The time that is so many milliseconds after the Unix epoch; what no datetime can say is the last that can."""
    return _EPOCH + max(0, min(ms, _LAST_MS)) * _MS


def ms_of(time: datetime | None) -> int:
    """Milliseconds since the Unix epoch; None is 0, which the service reads as open."""
    if time is None:
        return 0
    if getattr(time, "tzinfo", None) is None:
        raise Invalid(f"{time} has no time zone", todo="give one, such as datetime.UTC")
    return (time - _EPOCH) // _MS


@dataclass(frozen=True, slots=True)
class Box:
    """Where in a picture. The sides are shares of its width and height, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A moment that answers, or several neighbouring ones of a camera that answer alike."""

    moment_id: str
    camera: str
    start: datetime
    """From first to last seen: what was found, or the scene where that is not known."""
    peak: datetime
    """The most representative instant."""
    end: datetime
    confidence: float
    """How likely it is that this is what was asked for, 0 to 1."""
    box: Box
    """Where it was found, in the picture of `at`."""
    at: datetime
    kind: str
    """The kind of object there, such as "person"; empty when it is not known."""
    objects: Mapping[str, int]
    """The kinds of objects that were seen, and how many of each at most at one time."""
    score: float
    """Cosine similarity, -1 to 1. It says little by itself: see `confidence`."""
    closed: bool
    """False while the moment is still going on."""
    frames: int
    moments: int
    """How many moments it joins."""
    recorded: bool
    """Whether there is a recording of `at`."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which a camera was not looked at."""

    camera: str
    """Empty when it may be any camera."""
    start: datetime
    end: datetime
    frames: int
    """How many frames it is known to hold; 0 when that is not known."""
    reason: str
    """"shed", "expired", "away", "lost" or "waiting": `query.proto` says what each means."""


@dataclass(frozen=True, slots=True)
class Unsearched:
    """A part of the index that did not answer, or was not asked."""

    shard: str
    start: datetime
    end: datetime
    cold: bool = False
    """True: it is not in memory, and more was asked for than fits there. Ask about this time alone."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What an answer is based on."""

    partial: bool
    """True when a part of what was asked for could not be searched; the other fields say which."""
    looked_until: Mapping[str, datetime | None]
    """Up to when everything was looked at that a camera captured: the furthest behind first, at most 100. None: nothing
    yet."""
    gaps: tuple[Gap, ...]
    """The earliest, at most 100."""
    gaps_in_all: int
    frames_not_looked_at: int
    shards_missing: tuple[str, ...]
    unsearched: tuple[Unsearched, ...]
    spaces_unsearched: tuple[str, ...]
    unknown: bool
    """True when gaps and watermarks could not be read in time."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a question."""

    hits: tuple[Hit, ...]
    """Best first, or earliest first if that was asked for."""
    confident: bool
    """False when no hit is likely to be what was asked for: the hits, if any, are only the nearest."""
    threshold: float
    """A hit of at least this confidence counts as found."""
    coverage: Coverage
    space: str
    """In which the question and the moments were compared."""
    took_s: float

    @property
    def sure(self) -> tuple[Hit, ...]:
        """The hits that count as found."""
        return tuple(hit for hit in self.hits if hit.confidence >= self.threshold)

    def pages(self, size: int) -> Iterator[tuple[Hit, ...]]:
        """The hits, `size` at a time. All are of this one answer, so none is missing or comes twice."""
        if size < 1:
            raise Invalid(f"a page of {size} hits cannot be", todo="give 1 or more")
        return (self.hits[first : first + size] for first in range(0, len(self.hits), size))


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a moment."""

    jpeg: bytes
    at: datetime | None
    """The asked time if this is its picture. None: the most representative one, in which a hit's box may not lie."""

    def save(self, path: str | Path) -> None:
        """Write it to a file."""
        Path(path).write_bytes(self.jpeg)


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a recording."""

    start: datetime
    end: datetime
    reason: str = ""
    """For what is missing: "not recorded", or "another format"."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What a clip shows. It may begin and end a little outside the asked time."""

    camera: str
    start: datetime
    end: datetime
    codec: str
    mime: str
    bytes: int
    spans: tuple[Span, ...]
    missing: tuple[Span, ...]
    """Parts of the asked time that it does not show."""


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """How a camera is doing. Numbers are 0 where they are not known."""

    state: str
    """"live", "connecting", "silent", "failing", "done", "disabled", "removed" or "unknown"."""
    since: datetime | None
    told: datetime | None
    why: str
    fps_wanted: float
    fps_got: float
    fps_kept: float
    width: int
    height: int
    codec: str
    source_fps: float
    bits_per_second: int
    gop_frames: int
    gop_s: float
    failures: int
    lost: int
    advice: tuple[str, ...]
    """What would make it better."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that can be searched."""

    name: str
    watching: bool
    """False when it was removed. Its moments stay searchable, as long as its retention says."""
    groups: tuple[str, ...]
    status: CameraStatus


@dataclass(frozen=True, slots=True)
class Known:
    """What a search can be narrowed by."""

    cameras: tuple[Camera, ...]
    kinds: tuple[str, ...]
    """The kinds of objects that can be asked for."""


def found_of(reply: query_pb2.SearchReply) -> Found:
    """The answer as plain values."""
    return Found(
        hits=tuple(_hit(one) for one in reply.hits),
        confident=not reply.no_confident_match,
        threshold=reply.threshold,
        coverage=_coverage(reply.coverage),
        space=reply.space,
        took_s=reply.timing.total_ms / 1000,
    )


def picture_of(reply: query_pb2.ThumbnailReply) -> Picture:
    """The picture as plain values."""
    return Picture(reply.jpeg, _maybe(reply.at_ms))


def known_of(reply: query_pb2.CamerasReply) -> Known:
    """The cameras and kinds as plain values."""
    return Known(tuple(_camera(one) for one in reply.cameras), tuple(reply.kinds))


def clip_of(head: query_pb2.ClipHead) -> Clip:
    """What a clip shows, as plain values."""
    return Clip(
        camera=head.camera,
        start=time_of(head.start_ms),
        end=time_of(head.end_ms),
        codec=head.codec,
        mime=head.mime,
        bytes=head.bytes,
        spans=tuple(Span(time_of(one.start_ms), time_of(one.end_ms)) for one in head.spans),
        missing=tuple(Span(time_of(one.start_ms), time_of(one.end_ms), one.reason) for one in head.missing),
    )


def _hit(one: query_pb2.Hit) -> Hit:
    return Hit(
        moment_id=one.moment_id,
        camera=one.camera,
        start=time_of(one.start_ms),
        peak=time_of(one.peak_ms),
        end=time_of(one.end_ms),
        confidence=one.confidence,
        box=Box(one.box.left, one.box.top, one.box.right, one.box.bottom),
        at=time_of(one.at_ms),
        kind=one.kind,
        objects=MappingProxyType({seen.kind: seen.count for seen in one.objects}),
        score=one.score,
        closed=one.closed,
        frames=one.frames,
        moments=one.moments,
        recorded=one.recorded,
    )


def _coverage(one: query_pb2.Coverage) -> Coverage:
    return Coverage(
        partial=one.partial,
        looked_until=MappingProxyType({mark.camera: _maybe(mark.looked_ms) for mark in one.watermarks}),
        gaps=tuple(
            Gap(gap.camera, time_of(gap.start_ms), time_of(gap.end_ms), gap.frames, gap.reason) for gap in one.gaps
        ),
        gaps_in_all=one.gaps_in_all,
        frames_not_looked_at=one.frames_not_looked_at,
        shards_missing=tuple(one.shards_missing),
        unsearched=tuple(
            Unsearched(part.shard, time_of(part.start_ms), time_of(part.end_ms), part.cold) for part in one.unsearched
        ),
        spaces_unsearched=tuple(one.spaces_unsearched),
        unknown=one.coverage_unknown,
    )


def _camera(one: query_pb2.CameraInfo) -> Camera:
    told = one.status
    status = CameraStatus(
        state=told.state,
        since=_maybe(told.since_ms),
        told=_maybe(told.told_ms),
        why=told.why,
        fps_wanted=told.fps_wanted,
        fps_got=told.fps_got,
        fps_kept=told.fps_kept,
        width=told.width,
        height=told.height,
        codec=told.codec,
        source_fps=told.source_fps,
        bits_per_second=told.bits_per_second,
        gop_frames=told.gop_frames,
        gop_s=told.gop_s,
        failures=told.failures,
        lost=told.lost,
        advice=tuple(told.advice),
    )
    return Camera(one.name, one.watching, tuple(one.groups), status)


def _maybe(ms: int) -> datetime | None:
    return time_of(ms) if ms else None
