"""The in-memory store: exact, by comparing with every moment. Tests use it, and the real store must agree with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np

from index.filters import overlapping
from index.store import Answer, Ask, Scored, best, check_ask, check_batch, check_filter
from proto.errors import WatchwordError
from proto.types import Moment, SpaceInfo, Span, check_moment_ids

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

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        good, refused = check_batch(moments, self._space, self._longest_ms)
        self._moments.update({moment.id: moment for moment in good})
        return refused

    async def between(self, cameras: frozenset[str], start_ms: int, end_ms: int) -> list[Moment]:
        check_filter(cameras, start_ms, end_ms)
        return sorted(
            self._matching(cameras, start_ms, end_ms), key=lambda moment: (moment.camera, moment.start_ms, moment.id)
        )

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
        if cameras is not None and not cameras:
            return []
        which = overlapping(cameras, start_ms, end_ms)
        return [moment for moment in self._moments.values() if which.passes(moment)]


def bare(moment: Moment) -> Span:
    """The moment without its vector."""
    return Span(**{name: getattr(moment, name) for name in _SPAN_FIELDS})
