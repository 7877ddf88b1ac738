"""A camera's frames as the builder of moments is given them: one by one, or any history of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from proto.types import Moment, Vector
from stream.consumer import Mark
from stream.frames import Embedded
from stream.moments import MomentBuilder, Write
from stream.settings import StreamSettings
from tests.stream.rig import LOG, SPACE, START_MS, arrived, frame, unit, vector

RUN = 7


def builder(**changes: float) -> MomentBuilder:
    return MomentBuilder(SPACE.id, LOG, 0, "gate", StreamSettings.model_validate(changes))


def tilted(degrees: float) -> Vector:
    """A vector so far from vector(0)."""
    turned = np.zeros(SPACE.dimension, np.float32)
    turned[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return turned


def looked_at(
    offset: int,
    at_s: float,
    scene: int = 0,
    *,
    towards: Vector | None = None,
    log_s: float | None = None,
    sequence: int | None = None,
    **more: object,
) -> Embedded:
    """The frame at this offset, taken at `at_s`; the log's time is the same unless said otherwise."""
    made = frame(
        "gate",
        START_MS + round(at_s * 1000),
        f"picture {offset}".encode(),
        offset if sequence is None else sequence,
        **{"run": RUN, **more},
    )
    log_ms = None if log_s is None else START_MS + round(log_s * 1000)
    seen = vector(scene) if towards is None else towards
    return Embedded(arrived(offset, made, log_ms=log_ms), unit(seen))


def feed(machine: MomentBuilder, frames: Iterable[Embedded], now_s: float = 0.0) -> list[Write]:
    return [write for one in frames for write in machine.add(one, now_s)]


def offsets(marks: Iterable[Mark]) -> list[int]:
    return [mark.offset for mark in marks]


# Any history of a camera.


@dataclass(frozen=True)
class Step:
    pause_ms: int
    degrees: int
    novelty: float
    after_gap: bool
    same: bool
    kind: str
    """new: to be looked at; twice: sent before; shed: passed over."""


def steps(*kinds: str) -> st.SearchStrategy[list[Step]]:
    step = st.builds(
        Step,
        pause_ms=st.one_of(st.integers(0, 3000), st.integers(-2000, 45_000)),
        degrees=st.one_of(st.integers(0, 12), st.integers(0, 90)),
        novelty=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
        after_gap=st.integers(0, 9).map(lambda number: number == 0),
        same=st.booleans(),
        kind=st.sampled_from(kinds),
    )
    return st.lists(step, min_size=1, max_size=40)


Taken = list[tuple[str, Embedded]]


def history(made: Sequence[Step]) -> Taken:
    at_ms = log_ms = 0
    sequence, taken = -1, []
    for offset, step in enumerate(made):
        twice = step.kind == "twice" and sequence >= 0
        at_ms += 0 if twice else step.pause_ms
        log_ms += max(0, step.pause_ms)
        sequence += not twice
        one = looked_at(
            offset,
            at_ms / 1000,
            towards=tilted(step.degrees),
            log_s=log_ms / 1000,
            sequence=sequence,
            novelty=step.novelty,
            usual=0.05,
            after_gap=step.after_gap,
            same_ms=START_MS + at_ms - 1 if step.same else 0,
        )
        taken.append(("new" if step.kind == "twice" and not twice else step.kind, one))
    return taken


def take(machine: MomentBuilder, kind: str, one: Embedded, now_s: float = 0.0) -> list[Write]:
    """One frame, as the pipeline hands it over."""
    if kind == "shed":
        machine.across(one.arrived)
        return []
    if machine.was_seen(one.arrived):
        machine.again(one.arrived)
        return []
    return machine.add(one, now_s)


def told(writes: Iterable[Write], before: Iterable[Moment] = ()) -> dict[str, Moment]:
    """The latest row of each moment, as the index would hold it."""
    return {moment.id: moment for moment in (*before, *(write.moment for write in writes))}


def bounds(moments: dict[str, Moment]) -> list[tuple[object, ...]]:
    return [
        (name, one.start_ms, one.end_ms, one.frames, one.closed, one.first_offset, one.last_offset)
        for name, one in moments.items()
    ]
