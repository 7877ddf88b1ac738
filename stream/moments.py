"""Frames in, moments out: a deterministic state machine per camera. It knows neither broker nor index.

The same frames give the same moments, however they were batched, because every boundary depends on nothing but the
frames of the moment before it: a restart that begins with any moment goes on as if nothing had happened. One thing
depends on the clock: a camera that fell silent has its moment closed by `tick`. The caller ticks only when it has no
frames waiting, and `silent_s` is longer than `gap_s`, so a frame that comes after such a close would have begun a new
moment anyway.

What was told stays told. Two encoders never agree to the last digit, so frames that are read again carry what the
index already holds of them (`Told`), and that counts for more than their vectors.

A frame that is older than the end of its camera's open moment means that time jumped back; it begins a new moment,
as after a gap. The same frame twice (a producer that retried) counts once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from proto.types import Moment, Vector, moment_id
from stream.scene import Change, Scene
from stream.settings import StreamSettings

Mark = TypeVar("Mark", bound=Hashable)
"""Where a frame came from: it travels with the frame, and back with the write that finishes it."""

STILL_SHARE = 1 / 3
"""A moment in which no frame was farther from the mean than this share of `scene_change` counts as still."""
_LEAST_WEIGHT = 0.2
"""What a frame weighs in the mean although nothing in it is new; the share that is new is added."""


class Told(Enum):
    """What the index already holds of a frame that is read again."""

    NOTHING = auto()
    BEGINS = auto()
    """A moment that is still open begins with it."""
    WITHIN = auto()
    """It lies inside a moment that is still open, and does not begin it."""
    DONE = auto()
    """It lies inside a moment that is closed: there is nothing left to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen(Generic[Mark]):
    """One frame with its vector."""

    mark: Mark
    captured_ms: int
    sequence: int
    after_gap: bool
    vector: Vector
    jpeg: bytes
    novelty: float = 0.0
    """The share of the picture, 0 to 1, that differs from the one before."""
    usual: float = 0.0
    """The median of that share on this camera lately."""
    same_ms: int = 0
    """Until then the frame before it still held, as the camera saw; 0 when it did not look."""
    told: Told = Told.NOTHING

    @property
    def weight(self) -> float:
        """What it counts in its moment's mean: heartbeats of a still scene do not drown what passed through it."""
        return _LEAST_WEIGHT + self.novelty


@dataclass(frozen=True, slots=True, eq=False)
class Write(Generic[Mark]):
    """A moment to be stored. Once it is, the frames in `finishes` are done."""

    moment: Moment
    thumbnail: bytes | None
    """The picture of the peak, when it is another one than was written before."""
    finishes: tuple[Mark, ...]

    @property
    def begins(self) -> bool:
        """Whether the moment is told for the first time."""
        return self.moment.frames == 1 and not self.moment.closed


@dataclass(slots=True)
class _Open(Generic[Mark]):
    """The moment that is going on. Holds one picture at most, whatever its length."""

    start_ms: int
    end_ms: int
    sequence: int
    total: NDArray[np.float64]
    scene: Scene
    peak_ms: int
    peak_vector: NDArray[np.float64]
    peak_jpeg: bytes
    touched_s: float
    written_s: float
    farthest: float = 0.0
    frames: int = 1
    thumbnail_ms: int | None = None
    written_frames: int = 1
    marks: list[Mark] = field(default_factory=list)

    def distance(self, vector: NDArray[np.float64]) -> float:
        """1 - cosine between `vector` and the weighted mean of the frames so far."""
        return 1.0 - float(self.total @ vector) / (math.sqrt(float(self.total @ self.total)) or 1.0)

    def mean(self) -> Vector:
        """The mean at unit length."""
        length = math.sqrt(float(self.total @ self.total))
        return (self.total / length if length > 1e-9 else self.peak_vector).astype(np.float32)


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
        moment, vector = self._open, seen.vector.astype(np.float64)
        if moment is None:
            return [self._begin(seen, vector, now_s)]
        moment.touched_s = now_s
        if seen.captured_ms == moment.end_ms and seen.sequence == moment.sequence:
            moment.marks.append(seen.mark)
            return []
        if seen.sequence == moment.sequence + 1 and not seen.after_gap:
            moment.end_ms = max(moment.end_ms, min(seen.same_ms, seen.captured_ms - 1))
        change = Change(moment.distance(vector), seen.novelty, seen.usual)
        if self._ends_before(moment, seen, change):
            return [*self.close(), self._begin(seen, vector, now_s)]
        self._extend(moment, seen, vector, change)
        # What came into the picture is found at once, also where the vectors say that the moment goes on.
        return self._refreshed(moment, now_s, 0.0 if change.is_plain else self._settings.refresh_s)

    def close(self) -> list[Write[Mark]]:
        """End the open moment: what comes next is known not to belong to it."""
        moment, self._open = self._open, None
        return [] if moment is None else [self._write(moment, closed=True)]

    def tick(self, now_s: float) -> list[Write[Mark]]:
        """Let the clock run: a camera that was silent for too long has its moment closed, others are told again."""
        moment = self._open
        if moment is None:
            return []
        if now_s - moment.touched_s < self._settings.silent_s:
            return self._refreshed(moment, now_s, self._settings.refresh_s)
        return self.close()

    def refresh(self, now_s: float) -> list[Write[Mark]]:
        """Tell the open moment as it stands, for instance before leaving."""
        return [] if self._open is None else self._refreshed(self._open, now_s, 0.0)

    def _ends_before(self, moment: _Open[Mark], seen: Seen[Mark], change: Change) -> bool:
        """Whether `moment` is over, so that `seen` begins the next."""
        settings = self._settings
        if seen.told is not Told.NOTHING:
            return seen.told is Told.BEGINS
        if seen.after_gap or seen.captured_ms < moment.end_ms:
            return True
        if seen.captured_ms - moment.end_ms > settings.gap_s * 1000:
            return True
        lasted_ms = seen.captured_ms - moment.start_ms
        if moment.scene.ends_with(change, young=lasted_ms < settings.shortest_s * 1000):
            return True
        still = max(change.distance, moment.farthest) <= settings.scene_change * STILL_SHARE
        most_s = max(settings.still_most_s, settings.busy_most_s) if still else settings.busy_most_s
        return lasted_ms > most_s * 1000

    def _begin(self, seen: Seen[Mark], vector: NDArray[np.float64], now_s: float) -> Write[Mark]:
        self._open = _Open(
            start_ms=seen.captured_ms,
            end_ms=seen.captured_ms,
            sequence=seen.sequence,
            total=seen.weight * vector,
            scene=Scene(self._settings.scene_change),
            peak_ms=seen.captured_ms,
            peak_vector=vector,
            peak_jpeg=seen.jpeg,
            touched_s=now_s,
            written_s=now_s,
            marks=[seen.mark],
        )
        return self._write(self._open, closed=False)

    def _extend(self, moment: _Open[Mark], seen: Seen[Mark], vector: NDArray[np.float64], change: Change) -> None:
        moment.end_ms, moment.sequence = seen.captured_ms, seen.sequence
        moment.frames += 1
        moment.farthest = max(moment.farthest, change.distance)
        moment.scene.keeps(change)
        moment.total += seen.weight * vector
        moment.marks.append(seen.mark)
        if float(moment.total @ vector) > float(moment.total @ moment.peak_vector):
            moment.peak_ms, moment.peak_vector, moment.peak_jpeg = seen.captured_ms, vector, seen.jpeg

    def _refreshed(self, moment: _Open[Mark], now_s: float, at_most_every_s: float) -> list[Write[Mark]]:
        if moment.frames == moment.written_frames or now_s - moment.written_s < at_most_every_s:
            return []
        moment.written_s, moment.written_frames = now_s, moment.frames
        return [self._write(moment, closed=False)]

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
