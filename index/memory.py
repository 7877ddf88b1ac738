"""The store in memory: compares with every moment. What the real store must agree with, and what tests use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from index.store import Answer, Ask, Scored, best, check_ask, check_filter, last_of_each, overlaps
from proto.types import Moment, SpaceInfo, Span, check_moment_ids


class MemoryStore:
    """A MomentStore that forgets everything when it is gone."""

    def __init__(self, space: SpaceInfo) -> None:
        self._space = space
        self._moments: dict[str, Moment] = {}

    @property
    def space(self) -> SpaceInfo:
        return self._space

    async def open(self) -> None:
        return None

    async def upsert(self, moments: Sequence[Moment]) -> None:
        self._moments.update({moment.id: moment for moment in last_of_each(moments, self._space)})

    async def search(self, ask: Ask) -> Answer:
        check_ask(ask, self._space)
        matching = self._matching(ask.cameras, ask.start_ms, ask.end_ms)
        if not matching:
            return Answer([], shards_searched=1, buckets_searched=1)
        scores = np.stack([moment.vector for moment in matching]) @ ask.vector
        hits = (Scored(bare(moment), float(score)) for moment, score in zip(matching, scores, strict=True))
        return Answer(best(hits, ask.limit), shards_searched=1, buckets_searched=1)

    async def fetch(self, ids: Sequence[str]) -> list[Moment]:
        check_moment_ids(ids)
        return [self._moments[name] for name in ids if name in self._moments]

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        check_filter(cameras, start_ms, end_ms)
        return len(self._matching(cameras, start_ms, end_ms))

    async def close(self) -> None:
        return None

    def _matching(self, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> list[Moment]:
        return [
            moment
            for moment in self._moments.values()
            if (cameras is None or moment.camera in cameras) and overlaps(moment, start_ms, end_ms)
        ]


def bare(moment: Moment) -> Span:
    """The moment without its vector."""
    return Span(
        id=moment.id,
        space=moment.space,
        camera=moment.camera,
        start_ms=moment.start_ms,
        peak_ms=moment.peak_ms,
        end_ms=moment.end_ms,
        frames=moment.frames,
        closed=moment.closed,
    )
