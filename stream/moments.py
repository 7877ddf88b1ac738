"""Frames in, moments out: a deterministic state machine per camera. It knows neither broker nor index.

The same frames give the same moments, however they were batched, because every boundary depends on nothing but
the frames before it. One thing depends on the clock: a camera that fell silent has its moment closed by `tick`.
The caller ticks only when it has no frames waiting, and `silent_s` is longer than `gap_s`, so a frame that comes
after such a close would have begun a new moment anyway.

A frame that is older than the end of its camera's open moment means that time jumped back; it begins a new moment,
as after a gap. The same frame twice (a producer that retried) counts once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from proto.types import Moment, Vector, moment_id
from stream.settings import StreamSettings

Mark = TypeVar("Mark", bound=Hashable)
"""Where a frame came from: it travels with the frame, and back with the write that finishes it."""

STILL_SHARE = 1 / 3
"""A moment in which no frame was farther from the mean than this share of `scene_change` counts as still."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen(Generic[Mark]):
    """One frame with its vector."""

    mark: Mark
    captured_ms: int
    sequence: int
    after_gap: bool
    vector: Vector
    jpeg: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Write(Generic[Mark]):
    """A moment to be stored. Once it is, the frames in `finishes` are done."""

    moment: Moment
    thumbnail: bytes | None
    """The picture of the peak, when it is another one than was written before."""
    finishes: tuple[Mark, ...]


@dataclass(slots=True)
class _Open(Generic[Mark]):
    """The moment that is going on. Holds one picture at most, whatever its length."""

    start_ms: int
    end_ms: int
    sequence: int
    total: NDArray[np.float64]
    peak_ms: int
    peak_vector: Vector
    peak_jpeg: bytes
    touched_s: float
    written_s: float
    farthest: float = 0.0
    frames: int = 1
    thumbnail_ms: int | None = None
    written_frames: int = 1
    marks: list[Mark] = field(default_factory=list)

    def distance(self, vector: Vector) -> float:
        """1 - cosine between `vector` and the mean of the frames so far."""
        return 1.0 - float(self.total @ vector) / (float(np.linalg.norm(self.total)) or 1.0)

    def mean(self) -> Vector:
        """The mean at unit length."""
        length = float(np.linalg.norm(self.total))
        return self.peak_vector if length < 1e-9 else (self.total / length).astype(np.float32)


class MomentBuilder(Generic[Mark]):
    """The moments of one camera."""

    def __init__(self, space: str, camera: str, settings: StreamSettings) -> None:
        self._space = space
        self._camera = camera
        self._settings = settings
        self._open: _Open[Mark] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a moment is going on."""
        return self._open is not None

    def add(self, seen: Seen[Mark], now_s: float) -> list[Write[Mark]]:
        """Take the next frame. A moment that begins is told at once, one that goes on now and then."""
        moment = self._open
        if moment is None:
            return [self._begin(seen, now_s)]
        moment.touched_s = now_s
        if seen.captured_ms == moment.end_ms and seen.sequence == moment.sequence:
            moment.marks.append(seen.mark)
            return []
        distance = moment.distance(seen.vector)
        if self._ends_before(moment, seen, distance):
            return [self._close(moment), self._begin(seen, now_s)]
        self._extend(moment, seen, distance)
        return self._refreshed(moment, now_s, self._settings.refresh_s)

    def tick(self, now_s: float) -> list[Write[Mark]]:
        """Let the clock run: a camera that was silent for too long has its moment closed, others are told again."""
        moment = self._open
        if moment is None:
            return []
        if now_s - moment.touched_s < self._settings.silent_s:
            return self._refreshed(moment, now_s, self._settings.refresh_s)
        self._open = None
        return [self._close(moment)]

    def refresh(self, now_s: float) -> list[Write[Mark]]:
        """Tell the open moment as it stands, for instance before leaving."""
        return [] if self._open is None else self._refreshed(self._open, now_s, 0.0)

    def _ends_before(self, moment: _Open[Mark], seen: Seen[Mark], distance: float) -> bool:
        """Whether `moment` is over, so that `seen` begins the next."""
        settings = self._settings
        if seen.after_gap or seen.captured_ms < moment.end_ms:
            return True
        if seen.captured_ms - moment.end_ms > settings.gap_s * 1000 or distance > settings.scene_change:
            return True
        still = max(distance, moment.farthest) <= settings.scene_change * STILL_SHARE
        most_s = max(settings.still_most_s, settings.busy_most_s) if still else settings.busy_most_s
        return seen.captured_ms - moment.start_ms > most_s * 1000

    def _begin(self, seen: Seen[Mark], now_s: float) -> Write[Mark]:
        self._open = _Open(
            start_ms=seen.captured_ms,
            end_ms=seen.captured_ms,
            sequence=seen.sequence,
            total=seen.vector.astype(np.float64),
            peak_ms=seen.captured_ms,
            peak_vector=seen.vector,
            peak_jpeg=seen.jpeg,
            touched_s=now_s,
            written_s=now_s,
            marks=[seen.mark],
        )
        return self._write(self._open, closed=False)

    def _extend(self, moment: _Open[Mark], seen: Seen[Mark], distance: float) -> None:
        moment.end_ms, moment.sequence = seen.captured_ms, seen.sequence
        moment.frames += 1
        moment.farthest = max(moment.farthest, distance)
        moment.total += seen.vector
        moment.marks.append(seen.mark)
        if moment.distance(seen.vector) < moment.distance(moment.peak_vector):
            moment.peak_ms, moment.peak_vector, moment.peak_jpeg = seen.captured_ms, seen.vector, seen.jpeg

    def _refreshed(self, moment: _Open[Mark], now_s: float, at_most_every_s: float) -> list[Write[Mark]]:
        if moment.frames == moment.written_frames or now_s - moment.written_s < at_most_every_s:
            return []
        moment.written_s, moment.written_frames = now_s, moment.frames
        return [self._write(moment, closed=False)]

    def _close(self, moment: _Open[Mark]) -> Write[Mark]:
        return self._write(moment, closed=True)

    def _write(self, moment: _Open[Mark], *, closed: bool) -> Write[Mark]:
        thumbnail = None if moment.thumbnail_ms == moment.peak_ms else moment.peak_jpeg
        moment.thumbnail_ms = moment.peak_ms
        told = Moment(
            id=moment_id(self._space, self._camera, moment.start_ms),
            space=self._space,
            camera=self._camera,
            start_ms=moment.start_ms,
            peak_ms=moment.peak_ms,
            end_ms=moment.end_ms,
            frames=moment.frames,
            closed=closed,
            vector=moment.mean(),
        )
        return Write(told, thumbnail, finishes=tuple(moment.marks) if closed else ())
