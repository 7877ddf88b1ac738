"""Made moments for the tests: unit vectors of a fixed seed, times on one day."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np

from index.store import Answer, Ask, MomentStore, Scored
from proto.types import Box, Moment, Region, SpaceInfo, Vector, moment_id

SPACE = SpaceInfo("5ace" * 4, 16)
NOON = 1_767_268_800_000
"""2026-01-01 12:00 UTC: the middle of a bucket of 24 hours."""
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LOG = "106a" * 8
FRESH_S = 5.0


def unit(seed: int, dimension: int = SPACE.dimension) -> Vector:
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def moment(
    camera: str,
    start_ms: int = NOON,
    *,
    length_ms: int = 2000,
    vector: Vector | None = None,
    frames: int = 3,
    closed: bool = True,
    space: SpaceInfo = SPACE,
    log: str = LOG,
    partition: int = 0,
    first_offset: int | None = None,
    last_offset: int | None = None,
    resume: str = "",
    regions: Sequence[Region] = (),
    objects: tuple[tuple[str, int], ...] = (),
) -> Moment:
    """A moment whose offsets follow from its start, so that each start has its own."""
    first = start_ms if first_offset is None else first_offset
    return Moment(
        id=moment_id(camera, start_ms, log, partition, first),
        space=space.id,
        camera=camera,
        start_ms=start_ms,
        peak_ms=start_ms + length_ms // 2,
        end_ms=start_ms + length_ms,
        frames=frames,
        closed=closed,
        log=log,
        partition=partition,
        first_offset=first,
        last_offset=first + frames if last_offset is None else last_offset,
        vector=unit(start_ms % 10_007, space.dimension) if vector is None else vector,
        resume=resume,
        regions=tuple(regions),
        objects=objects,
    )


def region(seed: int, *, at_ms: int = NOON, kind: str = "", score: float = 0.0, vector: Vector | None = None) -> Region:
    """A region whose box and vector follow from the seed."""
    left, top = (seed % 97) / 100, (seed % 89) / 100
    box = Box(left, top, left + 0.03, top + 0.1)
    return Region(at_ms, box, unit(seed) if vector is None else vector, kind, score)


def near(vector: Vector, seed: int, by: float = 0.2) -> Vector:
    """A vector that points nearly the same way."""
    moved: Vector = vector + np.float32(by) * unit(seed + 50)
    return (moved / np.linalg.norm(moved)).astype(np.float32)


def ranked(moments: Sequence[Moment], question: Vector) -> list[str]:
    """The ids, nearest first, by comparing with every row."""

    def nearness(one: Moment) -> float:
        return max(float(row @ question) for row in (one.vector, *(region.vector for region in one.regions)))

    return [m.id for m in sorted(moments, key=lambda m: (-nearness(m), m.id))]


def ids(hits: Sequence[Scored]) -> list[str]:
    return [hit.span.id for hit in hits]


def of(*names: str) -> frozenset[str]:
    return frozenset(names)


async def until_found(store: MomentStore, question: Ask, wanted: int) -> Answer:
    """The answer once it has `wanted` hits: a store may take a moment until it finds what was stored."""
    deadline = time.monotonic() + FRESH_S
    while True:
        answer = await store.search(question)
        if len(answer.hits) == wanted or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Return once the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.005)
