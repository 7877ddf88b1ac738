"""The port of the index: what it takes, what it answers, and the rules that every store keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from proto.errors import Invalid, Mismatch
from proto.types import Moment, SpaceInfo, Span, Vector, camera_name, moment_id

MOST_HITS = 16_000
"""The largest `limit` that a store takes."""
LATEST_MS = 2**53
"""Times lie between 0 and this: exact in every language's numbers."""
_UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One question to the index. Cameras None means all; an empty set matches nothing. Times None are open."""

    vector: Vector
    limit: int
    cameras: frozenset[str] | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    timeout_s: float | None = None
    """A shard that takes longer counts as missing; None leaves it to the store."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A span and the cosine similarity of its vector and the question."""

    span: Span
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first (equal scores by id), and what they are based on."""

    hits: list[Scored]
    shards_missing: list[str] = field(default_factory=list)
    shards_searched: int = 0
    buckets_searched: int = 0


class MomentStore(Protocol):
    """Where the moments of one space rest.

    Every method may raise Transient or Late; the same call may then be made again. A span overlaps a search
    when `span.end_ms >= start_ms and span.start_ms < end_ms`.
    """

    @property
    def space(self) -> SpaceInfo:
        """The one space of this store."""

    async def open(self) -> None:
        """Connect. Raises when the store cannot be used."""

    async def upsert(self, moments: Sequence[Moment]) -> None:
        """Store them durably. An id that is here already is replaced; of equal ids the last one counts.

        Raises Mismatch for a vector of another space and Invalid for a moment that breaks the rules; then
        nothing of the batch was stored. After Transient, parts of it may have been: call again.
        """

    async def search(self, ask: Ask) -> Answer:
        """The `limit` nearest moments that pass the filter: as many as exist, however narrow the filter is."""

    async def fetch(self, ids: Sequence[str]) -> list[Moment]:
        """The moments of these ids, in this order; ids that are not here are left out. Sees every upsert."""

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        """How many moments pass the filter. Exact; sees every upsert."""

    async def close(self) -> None:
        """Let go of connections. May be called twice."""


def overlaps(span: Span, start_ms: int | None, end_ms: int | None) -> bool:
    """Whether the span passes a search of [start_ms, end_ms)."""
    return (start_ms is None or span.end_ms >= start_ms) and (end_ms is None or span.start_ms < end_ms)


def best(hits: Iterable[Scored], limit: int) -> list[Scored]:
    """The best `limit` hits, best first, each id once."""
    ranked = sorted(hits, key=lambda hit: (-hit.score, hit.span.id))
    return list({hit.span.id: hit for hit in reversed(ranked)}.values())[::-1][:limit]


def check_ask(ask: Ask, space: SpaceInfo) -> None:
    """Raise unless every store can answer this."""
    if not 1 <= ask.limit <= MOST_HITS:
        raise Invalid(f"a search for {ask.limit} hits cannot be answered", todo=f"ask for 1 to {MOST_HITS}")
    _check_vector(ask.vector, space, "the question")
    check_filter(ask.cameras, ask.start_ms, ask.end_ms)


def check_filter(cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> None:
    """Raise Invalid unless names and times are ones that moments can have."""
    for name in cameras or ():
        camera_name(name)
    for moment in (start_ms, end_ms):
        if moment is not None and not 0 <= moment <= LATEST_MS:
            raise Invalid(
                f"{moment} is not a time", todo="give milliseconds since 1970 UTC, such as 1767225600000 for 2026"
            )


def last_of_each(moments: Sequence[Moment], space: SpaceInfo) -> list[Moment]:
    """The batch as it is to be stored: every moment checked, and of equal ids only the last."""
    for moment in moments:
        _check_moment(moment, space)
    return list({moment.id: moment for moment in moments}.values())


def _check_moment(moment: Moment, space: SpaceInfo) -> None:
    if moment.space != space.id:
        raise Mismatch(
            f"a moment of space {moment.space[:32]} cannot be stored in space {space.id}",
            todo="stream worker and encoder must run the same bundle",
        )
    camera_name(moment.camera)
    if moment.id != moment_id(space.id, moment.camera, moment.start_ms):
        raise Invalid(f"moment {moment.id[:32]!r} has not the id of its camera and start", todo="use moment_id()")
    if not 0 <= moment.start_ms <= moment.peak_ms <= moment.end_ms <= LATEST_MS:
        raise Invalid(
            f"moment {moment.id} of {moment.camera} runs from {moment.start_ms} over {moment.peak_ms} "
            f"to {moment.end_ms}",
            todo="start, peak and end must follow each other",
        )
    if not 0 <= moment.frames < 2**31:
        raise Invalid(f"moment {moment.id} of {moment.camera} has {moment.frames} frames", todo="count them from 0")
    _check_vector(moment.vector, space, f"moment {moment.id}")


def _check_vector(vector: Vector, space: SpaceInfo, whose: str) -> None:
    if vector.shape != (space.dimension,):
        raise Mismatch(
            f"the vector of {whose} has shape {vector.shape}, the space {space.id} has dimension {space.dimension}",
            todo="encoder and index must run the same bundle",
        )
    length = float(np.linalg.norm(vector))
    if not abs(length - 1.0) <= _UNIT_TOLERANCE:
        raise Invalid(f"the vector of {whose} has length {length:.3f}", todo="vectors must be finite, of length 1")
