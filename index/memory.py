"""The in-memory store: exact, by comparing with every row. Tests use it, and the real store must agree with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields

import numpy as np

from index.checks import check_ask, check_batch, check_filter
from index.filters import Filter, asked, overlapping
from index.store import Answer, Ask, Scored, best
from proto.errors import WatchwordError
from proto.types import WHOLE, Moment, Region, SpaceInfo, Span, check_moment_ids

_SPAN_FIELDS = [field.name for field in fields(Span)]


class MemoryStore:
    """A MomentStore that keeps nothing on disk."""

    def __init__(self, space: SpaceInfo, longest_moment_s: int = 3600) -> None:
        self._space = space
        self._longest_ms = longest_moment_s * 1000
        self._moments: dict[str, Moment] = {}

    @property
    def space(self) -> SpaceInfo:
        return self._space

    async def open(self) -> None:
        return None

    def shard_of(self, camera: str) -> str:  # noqa: ARG002 - there is one
        return "memory"

    def cameras_at(self, shard: str, cameras: Iterable[str]) -> list[str]:  # noqa: ARG002 - there is one
        return list(cameras)

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        good, refused = check_batch(moments, self._space, self._longest_ms)
        self._moments.update({moment.id: moment for moment in good})
        return refused

    async def between(self, cameras: frozenset[str], start_ms: int, end_ms: int) -> list[Moment]:
        check_filter(cameras, start_ms, end_ms)
        passing = self._matching(overlapping(cameras, start_ms, end_ms)) if cameras else []
        return sorted(passing, key=lambda moment: (moment.camera, moment.start_ms, moment.id))

    async def search(self, ask: Ask) -> Answer:
        check_ask(ask, self._space)
        matching = self._matching(asked(ask)) if ask.cameras is None or ask.cameras else []
        return Answer(nearest(matching, ask), shards_searched=1, buckets_searched=1, moments_searched=len(matching))

    async def fetch(self, ids: Sequence[str], *, exact: bool = True) -> list[Moment]:  # noqa: ARG002  # it always is
        check_moment_ids(ids)
        return [self._moments[name] for name in ids if name in self._moments]

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        check_filter(cameras, start_ms, end_ms)
        return len(self._matching(overlapping(cameras, start_ms, end_ms))) if cameras is None or cameras else 0

    async def close(self) -> None:
        return None

    def _matching(self, which: Filter) -> list[Moment]:
        return [moment for moment in self._moments.values() if which.passes(moment)]


def nearest(moments: Sequence[Moment], ask: Ask) -> list[Scored]:
    """The best of these moments, by comparing the question with every row."""
    rows = [(bare(moment), row) for moment in moments for row in _rows(moment)]
    if not rows:
        return []
    scores = np.stack([row.vector for _, row in rows]) @ ask.vector
    hits = (
        Scored(
            span,
            float(score),
            row.at_ms,
            row.box,
            row.kind,
            row.vector if ask.with_vectors else None,
            row.since_ms,
            row.until_ms,
        )
        for (span, row), score in zip(rows, scores, strict=True)
    )
    return best(hits, ask.limit)


def bare(moment: Moment) -> Span:
    """The moment without its vectors."""
    return Span(**{name: getattr(moment, name) for name in _SPAN_FIELDS})


def _rows(moment: Moment) -> Iterator[Region]:
    yield Region(moment.peak_ms, WHOLE, moment.vector)
    yield from moment.regions
