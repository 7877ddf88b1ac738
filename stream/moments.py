"""Frames in, moments out: a deterministic state machine per camera. It knows neither broker nor index.

The same frames give the same moments, however they were batched: every boundary depends on nothing but the frames of
the moment before it and on the time of the log. A camera that fell silent has its moment closed when the log moved on
past it by `silent_s`; a frame that comes after such a silence begins a new moment, whoever noticed the silence first.

Frames are known by their place. A worker that goes on with a moment which another one told is seeded from its row
(`go_on`): frames up to the row's last offset are in it already, so what was told never shrinks, and none of them is
looked at twice. Time is only shown: a frame that is older than the end of its camera's open moment means that a clock
stepped back; it begins a new moment, as after a gap.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from proto.errors import Broken
from proto.types import Moment, moment_id
from stream.attention import Attention, CloseUp
from stream.consumer import Mark
from stream.frames import Arrived, Embedded, Unit
from stream.looks import Found, Look
from stream.open_moment import OpenMoment
from stream.regions import Costs
from stream.resume import Reached, Resume, closed_text, from_text, to_text
from stream.scene import Departure, Scene
from stream.settings import StreamSettings
from stream.tracks import Tracks

log = logging.getLogger("watchword.stream")

STILL_SHARE = 1 / 3
"""A moment in which no frame was farther from the mean than this share of `scene_change` counts as still."""
_NEARER = 1e-9
"""Less than this is rounding: of frames that are equally near to the mean the first is the peak."""
_LEAST_WEIGHT = 0.2
"""What a frame weighs in the mean although nothing in it is new; the share that is new is added. Heartbeats of a still
scene do not drown what passed through it."""


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """A moment to be stored. Once it is, the frames in `finishes` are done."""

    moment: Moment
    thumbnail: bytes | None
    """The picture of the peak, when it is another one than was written before."""
    finishes: tuple[Mark, ...]
    began: Arrived | None = None
    """The frame that began the moment, when it is told for the first time."""
    pictures: tuple[tuple[int, bytes], ...] = ()
    """Of the frames that show its regions, by time, as far as they were not handed over before."""
    view: int = 0
    """`Frame.view` when it began."""


class MomentBuilder:
    """The moments of one camera in one partition of a log."""

    def __init__(
        self,
        space: str,
        log: str,
        partition: int,
        camera: str,
        settings: StreamSettings,
        costs: Costs | None = None,
        reached: Reached | None = None,
    ) -> None:
        """`costs`: what looks up close cost; None: there are none. `reached`: the latest frame that a worker before
        this one took."""
        self._space = space
        self._log = log
        self._partition = partition
        self._camera = camera
        self._settings = settings
        self._open: OpenMoment | None = None
        self._ending: dict[str, OpenMoment] = {}
        """Moments that are over, and wait for looks that are under way."""
        self._attention = Attention(costs)
        self._run, self._sequence = reached or Reached()

    @property
    def open_id(self) -> str | None:
        """The moment that is going on."""
        return self._open.name if self._open else None

    @property
    def open_times(self) -> tuple[int, int] | None:
        """When the moment that is going on began, and its latest frame."""
        return (self._open.start_ms, self._open.end_ms) if self._open else None

    def was_seen(self, arrived: Arrived) -> bool:
        """Whether the very same picture came before: a producer that tried again, a camera process that was killed."""
        frame = arrived.frame
        return frame.run != 0 and frame.run == self._run and frame.sequence <= self._sequence

    @property
    def must_wait(self) -> bool:
        """Whether looks must be answered before it can be decided whether to look at the next frame."""
        return self._attention.must_wait(len(self._open.close_up.owed) if self._open else 0)

    def looks(self) -> list[Look]:
        """What was decided to be looked at up close since the last call. Each is answered by `saw`."""
        return self._attention.take()

    def add(self, embedded: Embedded, now_s: float, *, may_look: bool = True) -> list[Write]:
        """Take the next frame. A moment that begins is told at once, one that goes on now and then."""
        arrived, vector = embedded
        frame, moment = arrived.frame, self._open
        self._run, self._sequence = frame.run, frame.sequence
        if moment is None:
            self._attention.cut()
            return [self._begin(arrived, vector, now_s, may_look=may_look, tracks=Tracks())]
        departure = Departure(1.0 - moment.cosine(vector), frame.novelty, frame.usual)
        self._still_held(moment, arrived)
        cut = self._is_cut(moment, arrived)
        if cut or self._is_over(moment, arrived, departure):
            if cut:
                self._attention.cut()
            tracks = Tracks() if cut else moment.close_up.tracks.going_on()
            return [*self.close(), self._begin(arrived, vector, now_s, may_look=may_look, tracks=tracks)]
        self._extend(moment, arrived, vector, departure)
        self._attention.consider(arrived, moment.name, moment.close_up, may_look=may_look)
        # What came into the picture is found at once, also where the vectors say that the moment goes on.
        return self._refreshed(moment, now_s, 0.0 if departure.is_plain else self._settings.refresh_s)

    def go_on(self, arrived: Arrived, moment: Moment, now_s: float) -> list[Write]:
        """Take a frame that `moment` was told with, before this worker had the partition."""
        writes: list[Write] = []
        if self.open_id != moment.id:
            writes = self.close()
            self._seed(moment, arrived, now_s)
        self._pass(arrived)
        assert self._open is not None
        self._attention.repeat(arrived, moment.id, self._open.close_up)
        return writes

    def saw(self, look: Look, found: Found, now_s: float) -> list[Write]:
        """Take the answer to one of `looks`. What it shows is told at once when it is new to the moment."""
        moment = self._open if self._open and self._open.name == look.moment else self._ending.get(look.moment)
        telling = self._attention.saw(look, found, moment.close_up if moment else CloseUp())
        if moment is None:
            return []
        if moment is self._open:
            return self._refreshed(moment, now_s, 0.0) if telling else []
        if moment.close_up.owed:
            return []
        return [self._write(self._ending.pop(moment.name), closed=True)]

    def over(self, arrived: Arrived) -> list[Write]:
        """Take a frame of a moment that is closed: no moment reaches across it, and it may come again."""
        self._run, self._sequence = arrived.frame.run, arrived.frame.sequence
        return self.close()

    def across(self, arrived: Arrived) -> bool:
        """Let the open moment reach across a frame that is passed over. False when there is none."""
        if self._open is None or self._is_silence(self._open, arrived.log_ms):
            return False
        self._open.touched_ms = arrived.log_ms
        self._open.cut = self._open.cut or arrived.frame.after_gap
        return True

    def again(self, arrived: Arrived) -> bool:
        """Take a frame that `was_seen`: it is done with the open moment. False when there is none."""
        if self._open is None or self._is_silence(self._open, arrived.log_ms):
            return False
        self._pass(arrived)
        return True

    def close(self) -> list[Write]:
        """End the open moment: what comes next is known not to belong to it.

        Where looks are under way it is told when they are answered.
        """
        moment, self._open = self._open, None
        if moment is None:
            return []
        if moment.close_up.owed:
            self._ending[moment.name] = moment
            return []
        return [self._write(moment, closed=True)]

    def tick(self, log_ms: int, now_s: float) -> list[Write]:
        """The log moved on to `log_ms`: a silent camera has its moment closed, others are told again."""
        moment = self._open
        if moment is None:
            return []
        if self._is_silence(moment, log_ms):
            return self.close()
        return self._refreshed(moment, now_s, self._settings.refresh_s)

    def refresh(self, now_s: float) -> list[Write]:
        """Tell what is not closed as it stands, for instance before leaving."""
        open_now = [*self._ending.values(), *([self._open] if self._open else [])]
        return [write for moment in open_now for write in self._refreshed(moment, now_s, 0.0)]

    def _pass(self, arrived: Arrived) -> None:
        assert self._open is not None
        self._open.marks.append(arrived.mark)
        self._open.touched_ms = arrived.log_ms

    def _is_silence(self, moment: OpenMoment, log_ms: int) -> bool:
        return log_ms - moment.touched_ms >= self._settings.silent_s * 1000

    def _still_held(self, moment: OpenMoment, arrived: Arrived) -> None:
        """The camera looked until `same_ms` and saw nothing new: so long the frame before held."""
        frame = arrived.frame
        if not frame.same_ms:
            return
        follows = frame.run == moment.run and frame.sequence == moment.sequence + 1 and not frame.after_gap
        in_time = not self._is_silence(moment, arrived.log_ms)
        if follows and in_time and frame.captured_ms - moment.end_ms <= self._settings.gap_s * 1000:
            # A search reaches back by the longest moment and no further.
            longest_ms = round(max(self._settings.still_most_s, self._settings.busy_most_s) * 1000)
            held_ms = min(frame.same_ms, frame.captured_ms - 1, moment.start_ms + longest_ms)
            moment.end_ms = max(moment.end_ms, held_ms)
            moment.close_up.tracks.hold(held_ms)

    def _is_cut(self, moment: OpenMoment, arrived: Arrived) -> bool:
        """Whether what happened between `moment` and the frame was not seen."""
        frame, captured_ms = arrived.frame, arrived.frame.captured_ms
        if frame.after_gap or moment.cut or frame.run != moment.run or captured_ms < moment.end_ms:
            return True
        return captured_ms - moment.end_ms > self._settings.gap_s * 1000 or self._is_silence(moment, arrived.log_ms)

    def _is_over(self, moment: OpenMoment, arrived: Arrived, departure: Departure) -> bool:
        """Whether the frame shows another scene, or `moment` is as long as it may be."""
        settings = self._settings
        lasted_ms = arrived.frame.captured_ms - moment.start_ms
        if moment.scene.ends_with(departure, young=lasted_ms < settings.shortest_s * 1000):
            return True
        still = max(departure.distance, moment.farthest) <= settings.scene_change * STILL_SHARE
        most_s = max(settings.still_most_s, settings.busy_most_s) if still else settings.busy_most_s
        return lasted_ms > most_s * 1000

    def _begin(self, arrived: Arrived, vector: Unit, now_s: float, *, may_look: bool, tracks: Tracks) -> Write:
        frame, offset = arrived.frame, arrived.record.offset
        self._open = OpenMoment(
            name=moment_id(self._camera, frame.captured_ms, self._log, self._partition, offset),
            start_ms=frame.captured_ms,
            end_ms=frame.captured_ms,
            first_offset=offset,
            last_offset=offset,
            run=frame.run,
            sequence=frame.sequence,
            view=frame.view,
            total=_weight(arrived) * vector,
            length=_weight(arrived),
            scene=Scene(self._settings.scene_change),
            peak_ms=frame.captured_ms,
            peak_cosine=1.0,
            peak_vector=vector.copy(),
            peak_jpeg=arrived.jpeg,
            touched_ms=arrived.log_ms,
            written_s=now_s,
            marks=[arrived.mark],
            close_up=CloseUp(tracks=tracks),
        )
        self._attention.consider(arrived, self._open.name, self._open.close_up, may_look=may_look)
        return self._write(self._open, closed=False, began=arrived)

    def _seed(self, moment: Moment, arrived: Arrived, now_s: float) -> None:
        try:
            kept = from_text(moment.resume)
        except Broken as error:
            log.warning("moment %s of %s goes on from its row alone: %s", moment.id, self._camera, error)
            kept = Resume(float(moment.frames), 0.0, 1.0, 0, -1, ())
        self._run, self._sequence = kept.run, kept.sequence
        self._open = OpenMoment(
            name=moment.id,
            start_ms=moment.start_ms,
            end_ms=moment.end_ms,
            first_offset=moment.first_offset,
            last_offset=moment.last_offset,
            run=kept.run,
            sequence=kept.sequence,
            view=arrived.frame.view,
            total=kept.weight * moment.vector.astype(np.float64),
            length=kept.weight,
            scene=Scene(self._settings.scene_change, kept.distances),
            peak_ms=moment.peak_ms,
            peak_cosine=kept.peak_cosine,
            peak_vector=None,
            peak_jpeg=None,
            touched_ms=0,
            written_s=now_s,
            frames=moment.frames,
            farthest=kept.farthest,
            thumbnail_ms=moment.peak_ms,
            written_frames=moment.frames,
            close_up=self._attention.go_on(kept.looks, moment.first_offset, moment.regions, moment.objects),
        )

    def _extend(self, moment: OpenMoment, arrived: Arrived, vector: Unit, departure: Departure) -> None:
        frame = arrived.frame
        moment.end_ms, moment.last_offset = frame.captured_ms, arrived.record.offset
        moment.run, moment.sequence = frame.run, frame.sequence
        moment.frames += 1
        moment.farthest = max(moment.farthest, departure.distance)
        moment.scene.keeps(departure)
        cosine = moment.add(vector, _weight(arrived), 1.0 - departure.distance)
        self._pass(arrived)
        if moment.peak_vector is not None:
            moment.peak_cosine = moment.cosine(moment.peak_vector)
        if cosine > moment.peak_cosine + _NEARER:
            moment.peak_ms, moment.peak_cosine = frame.captured_ms, cosine
            # A copy: the vector is a row of its batch, which would be kept as long.
            moment.peak_vector, moment.peak_jpeg = vector.copy(), arrived.jpeg

    def _refreshed(self, moment: OpenMoment, now_s: float, at_most_every_s: float) -> list[Write]:
        new = moment.frames != moment.written_frames or moment.close_up.changed
        if not new or now_s - moment.written_s < at_most_every_s:
            return []
        moment.written_s, moment.written_frames = now_s, moment.frames
        return [self._write(moment, closed=False)]

    def _write(self, moment: OpenMoment, *, closed: bool, began: Arrived | None = None) -> Write:
        thumbnail = None if moment.thumbnail_ms == moment.peak_ms else moment.peak_jpeg
        moment.thumbnail_ms = moment.peak_ms
        close_up = moment.close_up
        close_up.changed = False
        told = Moment(
            id=moment.name,
            space=self._space,
            camera=self._camera,
            start_ms=moment.start_ms,
            peak_ms=moment.peak_ms,
            end_ms=moment.end_ms,
            frames=moment.frames,
            closed=closed,
            log=self._log,
            partition=self._partition,
            first_offset=moment.first_offset,
            last_offset=moment.last_offset,
            objects=tuple(sorted(close_up.objects.items())),
            vector=moment.mean(),
            resume=closed_text(Reached(moment.run, moment.sequence)) if closed else self._resume(moment),
            regions=close_up.regions,
        )
        marks = tuple(moment.marks) if closed else ()
        return Write(told, thumbnail, marks, began, close_up.take_pictures(), moment.view)

    def _resume(self, moment: OpenMoment) -> str:
        return to_text(
            Resume(
                weight=moment.length,
                farthest=moment.farthest,
                peak_cosine=moment.peak_cosine,
                run=moment.run,
                sequence=moment.sequence,
                distances=moment.scene.distances,
                looks=self._attention.state(moment.close_up, moment.first_offset),
            )
        )


def _weight(arrived: Arrived) -> float:
    return _LEAST_WEIGHT + arrived.frame.novelty
