"""What happens to the frames of one assignment, step by step: recall, shed, embed, build.

A step takes frames of one type and gives them as the next one (stream/frames.py). Beside them go writing
(stream/writer.py), which frames wait for only when too much waits to be written, and looking at parts of pictures up
close (stream/looker.py), which live frames do not wait for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import Histogram

from catalog.coverage import Gap, Looked, Reason
from proto import tracing
from proto.errors import Poison, WatchwordError
from proto.life import NOTHING, AllKept, Gone, GoneNow
from proto.metrics import FRAMES_SHED, HOP_SECONDS
from proto.types import now_ms
from stream.consumer import Mark
from stream.embedding import Embedding
from stream.fence import Fence
from stream.frames import NEW, OVER, PASSED, Arrived, Embedded, Inside, Passed, Recalled, Unit
from stream.letters import Letters
from stream.looker import Looker
from stream.looks import Found, Look
from stream.moments import MomentBuilder, Write
from stream.patience import Patience
from stream.recall import Recall
from stream.regions import Costs
from stream.resume import Reached
from stream.settings import StreamSettings
from stream.shedding import Candidate, shed
from stream.writer import Writer
from workers.client import EncoderInfo

log = logging.getLogger("watchword.stream")

_CONSUMED, _EMBEDDED = (HOP_SECONDS.labels(hop=hop) for hop in ("consumed", "embedded"))
_OPENS_SHARE, _OPENS_MORE = 0.3, 0.2
"""A picture of which so much is new, and so much more than usual, is taken for another scene before it is looked at."""
_TIMELY_MS = 60_000
"""A recorded picture that is older than this when it reaches the broker is not of now: shedding it wins nothing."""


_LOOKS_SHARE = 0.5
"""When frames have been waiting for this share of `behind_s`, live ones are not looked at up close any more."""
_LAST_LOOKS_S = 3.0


class Declares(Protocol):
    """Where frames that were passed over are declared. Blocks; Broken when it cannot be written."""

    def declare(self, gaps: Sequence[Gap]) -> None:
        """Durable when it returns."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the steps use."""

    space: str
    log: str
    recall: Recall
    embedding: Embedding
    writer: Writer
    letters: Letters
    patience: Patience
    coverage: Declares
    fence: Fence
    settings: StreamSettings
    done: Callable[[Iterable[Mark]], None]
    clock: Callable[[], float]
    """Monotonic seconds."""
    life: GoneNow = field(default_factory=AllKept)
    """What may not be written any more."""


class Pipeline:
    """The steps, and the moments that are going on. Made for one assignment and dropped with it."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._settings = tools.settings
        self._builders: dict[tuple[int, str], MomentBuilder] = {}
        self._reached: dict[tuple[int, str], Reached] = {}
        self._latest: dict[str, Arrived] = {}
        self._not_told: dict[str, Looked] = {}
        self._declares = True
        self._shards_away = False
        self._costs: Costs | None = None
        self._gone: Gone = NOTHING
        self._looker = Looker(tools.embedding, tools.patience, self._saw)

    async def recall(self, frames: Sequence[Arrived]) -> tuple[list[Recalled], list[Arrived]]:
        """What the index knows of each; and those of which it cannot be asked now."""
        memory = await self._tools.recall.of(frames)
        self._gone = await self._tools.life.unwritable()
        if not self._gone.nothing:
            memory.recalled = [self._looked_over(one) for one in memory.recalled]
        for one in memory.recalled:
            tracing.step(one.arrived.record.trail, "recall")
        self._reached |= memory.reached
        await self._tools.writer.write([Write(moment, None, ()) for moment in memory.left_open])
        if memory.why is not None and not self._shards_away:
            log.warning("frames wait until the index can say what it holds of them: %s", memory.why)
        self._shards_away = memory.why is not None
        if memory.recalled:
            _observe(_CONSUMED, memory.recalled[0].arrived)
        return memory.recalled, memory.unknown

    async def in_turn(self, waiting: Sequence[Recalled], late_s: float, per_s: float) -> list[Recalled]:
        """What waits, in the order in which it is to be looked at: cameras with a scene that begins go first.

        When frames have been waiting for too long, some are marked as passed over; they are declared when this returns.
        """
        if self._settings.catch_up == "all":
            return list(waiting)
        candidates = self._candidates(waiting)
        left = list(waiting)
        going = shed(candidates, late_s, per_s, self._settings.behind_s)
        if going and await self._declared(waiting, going):
            FRAMES_SHED.inc(len(going))
            left = [one._replace(known=PASSED) if place in going else one for place, one in enumerate(waiting)]
        first = {one.arrived.key for one, says in zip(left, candidates, strict=True) if says.opens and one.known is NEW}
        # The order is stable, so the frames of each camera stay in theirs.
        return sorted(left, key=lambda one: one.arrived.key not in first)

    async def embed(self, items: Sequence[Recalled]) -> list[Recalled | Embedded]:
        """Every new frame with its vector; one that can never have one is buried and left out."""
        asked = [one.arrived for one in items if one.known is NEW]
        answers: Sequence[Unit | Poison] = ()
        if asked:
            trails = [one.record.trail for one in asked if one.record.trail is not None]
            for trail in trails:
                trail.step("turn")
            with tracing.together("embed", trails):
                answers = await self._tools.embedding.vectors([one.jpeg for one in asked])
            _observe(_EMBEDDED, asked[0])
        found = iter(answers)
        done: list[Recalled | Embedded] = []
        for item in items:
            answer = next(found) if item.known is NEW else None
            if answer is None:
                done.append(item)
            elif isinstance(answer, Poison):
                await self.bury(item.arrived, answer)
            else:
                done.append(Embedded(item.arrived, answer))
        return done

    async def build(self, items: Sequence[Recalled | Embedded], late_s: float = 0.0) -> None:
        """Make moments of them, and hand those over that are to be stored.

        `late_s` is how long frames have been waiting: looking at them up close gives way first.
        """
        if self._settings.regions and self._costs is None:
            self._costs = costs_of(await self._tools.embedding.info())
        self._looker.check()
        now_s = self._tools.clock()
        writes: list[Write] = []
        finished: list[Mark] = []
        for item in items:
            builder = self._builder(item.arrived)
            may_look = not (builder.must_wait or not self._looker.has_room)
            if not may_look and self._is_patient(item.arrived):
                # Nothing may be in hand while others write: an older row would follow a newer one.
                self._tools.done(finished)
                await self._tools.writer.write(writes)
                await self._looker.answered()
                writes, finished, may_look = [], [], True
            may_look = may_look and (late_s <= self._settings.behind_s * _LOOKS_SHARE or self._is_patient(item.arrived))
            writes += self._built(builder, item, now_s, finished, may_look=may_look)
            tracing.step(item.arrived.record.trail, "build")
            self._looker.add(builder.looks())
            self._latest[item.arrived.camera] = item.arrived
        self._tools.done(finished)
        await self._tools.writer.write(writes)

    async def tick(self, log_ms: Callable[[int], int], held: Collection[tuple[int, str]] = ()) -> None:
        """Close the moments of cameras that fell silent; `log_ms` gives the time of a partition's log.

        Cameras of which frames are held are not silent.
        """
        now_s = self._tools.clock()
        writes = []
        for (partition, camera), builder in self._builders.items():
            if (partition, camera) not in held:
                writes += builder.tick(log_ms(partition), now_s)
        await self._tools.writer.write(writes)

    async def refresh(self) -> None:
        """Tell the open moments as they stand, before leaving, with what looks show that are answered soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LOOKS_S):
                await self._looker.answered()
        now_s = self._tools.clock()
        await self._tools.writer.write([one for builder in self._builders.values() for one in builder.refresh(now_s)])

    async def bury(self, one: Arrived, reason: Poison) -> None:
        """Give a frame up."""
        await self._tools.letters.bury(one.record, reason)
        self._tools.done([one.mark])

    def looked(self) -> list[Looked]:
        """How far each camera was looked at since the last call, of those whose moments are stored."""
        waiting = self._tools.writer.cameras_waiting()
        marks, self._not_told = self._not_told, {}
        for camera in self._latest.keys() - waiting:
            one = self._latest.pop(camera)
            marks[camera] = Looked(camera, one.frame.captured_ms, self._tools.log, *one.mark)
        return list(marks.values())

    def looked_again(self, marks: Sequence[Looked]) -> None:
        """Give marks back that could not be kept; newer ones stay."""
        self._not_told = {one.camera: one for one in marks}

    @property
    def writing_s(self) -> float:
        """For how long a call that writes has been under way without any answer."""
        return self._tools.writer.waiting_s

    @property
    def stored_late_s(self) -> float:
        """How long the oldest moment has waited that is to be stored; 0 without one."""
        return self._tools.writer.late_s

    async def flushed(self) -> None:
        """Wait until everything that was handed over is stored."""
        await self._tools.writer.flushed()

    async def looked_at(self) -> None:
        """Wait until every look is answered."""
        await self._looker.answered()

    async def close(self) -> None:
        """Drop what waits to be looked at and to be stored."""
        await self._looker.close()
        await self._tools.writer.close()

    async def _saw(self, answers: Sequence[tuple[Look, Found]]) -> None:
        now_s = self._tools.clock()
        writes = [write for look, found in answers for write in self._builders[look.key].saw(look, found, now_s)]
        await self._tools.writer.write(writes)

    def _is_patient(self, one: Arrived) -> bool:
        """Whether the frame is to be looked at whole and up close, however late it is."""
        return self._settings.catch_up == "all" or _is_old(one)

    def _built(
        self, builder: MomentBuilder, item: Recalled | Embedded, now_s: float, finished: list[Mark], *, may_look: bool
    ) -> list[Write]:
        if not self._gone.nothing and (times := builder.open_times) and self._gone.covers(item.arrived.camera, *times):
            # What comes now is not of it, and is not lost with it.
            return [*builder.close(), *self._built_on(builder, item, now_s, finished, may_look=may_look)]
        return self._built_on(builder, item, now_s, finished, may_look=may_look)

    def _built_on(
        self, builder: MomentBuilder, item: Recalled | Embedded, now_s: float, finished: list[Mark], *, may_look: bool
    ) -> list[Write]:
        match item:
            case Embedded() if builder.was_seen(item.arrived):
                if not builder.again(item.arrived):
                    finished.append(item.arrived.mark)
                return []
            case Embedded():
                return builder.add(item, now_s, may_look=may_look)
            case Recalled(known=Inside(moment)):
                return builder.go_on(item.arrived, moment, now_s)
            case Recalled(known=Passed()):
                builder.across(item.arrived)
                finished.append(item.arrived.mark)
                return []
        finished.append(item.arrived.mark)
        return builder.over(item.arrived)

    def _looked_over(self, item: Recalled) -> Recalled:
        """A frame of a time that is gone is as one of a moment that is over: nobody looks at it."""
        at_ms = item.arrived.frame.captured_ms
        return item._replace(known=OVER) if self._gone.covers(item.arrived.camera, at_ms, at_ms) else item

    def _builder(self, one: Arrived) -> MomentBuilder:
        builder = self._builders.get(one.key)
        if builder is None:
            builder = MomentBuilder(
                self._tools.space,
                self._tools.log,
                *one.key,
                self._settings,
                self._costs,
                self._reached.pop(one.key, None),
            )
            self._builders[one.key] = builder
        return builder

    def _candidates(self, waiting: Sequence[Recalled]) -> list[Candidate]:
        candidates = []
        met: set[tuple[int, str]] = {key for key, builder in self._builders.items() if builder.open_id}
        for item in waiting:
            frame, key = item.arrived.frame, item.arrived.key
            more = frame.novelty - frame.usual
            opens = key not in met or frame.after_gap or (frame.novelty >= _OPENS_SHARE and more >= _OPENS_MORE)
            met.add(key)
            free = item.known is not NEW or _is_old(item.arrived)
            candidates.append(Candidate(item.arrived.camera, opens, more, free=free))
        return candidates

    async def _declared(self, waiting: Sequence[Recalled], going: frozenset[int]) -> bool:
        """Declare them. False when that is not possible now: then nothing is passed over."""
        gaps = _gaps(waiting, going, self._tools.log)
        try:
            await self._tools.fence.passes(lambda: _in_thread(self._tools.coverage.declare, gaps))
        except WatchwordError as error:
            if self._declares:
                log.warning("no frame is passed over, since that cannot be declared: %s", error)
            self._declares = False
            return False
        self._declares = True
        return True


def costs_of(info: EncoderInfo) -> Costs:
    """What looks cost this encoder."""
    return Costs(info.detect_cost if info.kinds else None)


def _is_old(one: Arrived) -> bool:
    return one.frame.recorded and one.record.at_ms - one.frame.captured_ms > _TIMELY_MS


def _gaps(waiting: Sequence[Recalled], going: frozenset[int], log_id: str) -> list[Gap]:
    """Runs of frames of one camera that all go."""
    runs: dict[tuple[int, str], list[list[Arrived]]] = defaultdict(list)
    unbroken: set[tuple[int, str]] = set()
    for place, item in enumerate(waiting):
        one = item.arrived
        key = one.key
        if place not in going:
            unbroken.discard(key)
        elif key in unbroken:
            runs[key][-1].append(one)
        else:
            runs[key].append([one])
            unbroken.add(key)
    return [
        Gap(
            camera=camera,
            reason=Reason.SHED,
            start_ms=min(one.frame.captured_ms for one in run),
            end_ms=max(one.frame.captured_ms for one in run),
            frames=len(run),
            log=log_id,
            partition=partition,
            first_offset=run[0].record.offset,
            last_offset=run[-1].record.offset,
        )
        for (partition, camera), found in runs.items()
        for run in found
    ]


def _in_thread(call: Callable[..., None], *arguments: Any) -> Coroutine[Any, Any, None]:
    return asyncio.to_thread(call, *arguments)


def _observe(hop: Histogram, one: Arrived) -> None:
    hop.observe(max(0, now_ms() - one.frame.grabbed_ms) / 1000)
