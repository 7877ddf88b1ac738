"""The port of the index: its types and its contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from proto.errors import WatchwordError
from proto.life import NOTHING, Gone
from proto.types import WHOLE, Box, Moment, SpaceInfo, Span, Vector

MOST_HITS = 3_200
"""The largest `limit` that a store accepts. Milvus gives at most 16,384 rows, and a moment has up to five."""
MOST_KINDS = 100
"""The most kinds of objects that a moment may have."""
LATEST_MS = 2**53
"""Times lie between 0 and this, so that a double holds them exactly."""

SpanT = TypeVar("SpanT", bound=Span)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One search. Cameras None means all; an empty set matches nothing. Times None are open."""

    vector: Vector
    limit: int
    cameras: frozenset[str] | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    timeout_s: float | None = None
    """Parts that take longer are reported as not searched. None: the store's own timeout."""
    objects: frozenset[str] = frozenset()
    """Only moments in which all of these kinds of objects were seen."""
    with_vectors: bool = False
    """Whether hits carry the vector of their row."""
    without: Gone = NOTHING
    """What may not be found although it is still stored."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A span, and the cosine similarity of the best of its rows to the question: the whole picture, or a region."""

    span: Span
    score: float
    at_ms: int = 0
    """When the picture was taken that the row is of; 0 in place of `span.peak_ms`. Stores always tell it."""
    box: Box = WHOLE
    """Where in that picture."""
    kind: str = ""
    """The kind of object there; empty when it is not known."""
    vector: Vector | None = None
    """The row's vector, if `Ask.with_vectors`."""
    since_ms: int = 0
    """When what the row shows was first seen; 0: it was there for the whole span."""
    until_ms: int = 0
    """When it was last seen; 0 likewise."""

    @property
    def times(self) -> tuple[int, int]:
        """Since when and until when what the row shows was there, as far as it is known."""
        return (self.since_ms, self.until_ms) if self.until_ms else (self.span.start_ms, self.span.end_ms)


@dataclass(frozen=True, slots=True)
class Unsearched:
    """A shard did not answer for the time [start_ms, end_ms), or was not asked about it."""

    shard: str
    start_ms: int
    end_ms: int
    cameras: tuple[str, ...] = ()
    """Whose moments it may have, of those that were asked for; a store leaves that to whoever knows all cameras."""
    cold: bool = False
    """It is not in memory, and the question asked for more than fits there. One about this time alone finds it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first (equal scores by id), and what they are based on."""

    hits: list[Scored]
    shards_missing: list[str] = field(default_factory=list)
    """Shards that did not answer at all. `unsearched` has them too, with the asked time (open: 0, LATEST_MS)."""
    shards_searched: int = 0
    buckets_searched: int = 0
    """Distinct time buckets that answered on at least one shard."""
    unsearched: list[Unsearched] = field(default_factory=list)
    """Every part that did not answer, by shard and time."""
    loading_s: float = 0.0
    """How long the search waited for what had to be loaded into memory."""
    moments_searched: int = 0
    """About how many moments the hits were chosen from, at least as many as there are hits.

    Exact when all of them are hits. Otherwise counted at most five minutes ago, and for a time that cuts a bucket
    scaled as if its moments were spread evenly. A moment with copies on two shards counts twice.
    """
    spaces: list[str] = field(default_factory=list)
    """Other spaces that may hold moments of the asked time, and this space of earlier versions. Hits never include
    their moments."""


class MomentStore(Protocol):
    """Stores the moments of one space.

    Every method may raise Transient, Overloaded or Late; the call may then be repeated. A span overlaps
    [start_ms, end_ms) when `span.end_ms >= start_ms and span.start_ms < end_ms`. A moment whose camera moved to another
    shard while it was open has a copy on both; `between`, `fetch` and `search` return the fullest copy they see.
    """

    @property
    def space(self) -> SpaceInfo:
        """The one space of this store."""

    async def open(self) -> None:
        """Connect. Raises when the store cannot be used."""

    def shard_of(self, camera: str) -> str:
        """The shard that stores this camera's moments now. Cameras on one shard fail together."""

    def cameras_at(self, shard: str, cameras: Iterable[str]) -> list[str]:
        """Those of these cameras that may have moments on the shard."""

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        """Store them durably. An existing id is replaced, with all its regions; the last of equal ids counts.

        Returns the moments that were not stored, as errors by id; empty when all were stored. Transient or Overloaded:
        retry these moments (they may have been stored nevertheless). Invalid: this moment can never be stored. Other
        errors, such as Denied or Broken, concern the whole shard.

        Raises Mismatch for a vector of another space or dimension; then nothing was stored.
        """

    async def between(self, cameras: frozenset[str], start_ms: int, end_ms: int) -> list[Moment]:
        """Every moment of these cameras that overlaps [start_ms, end_ms), ordered by camera, start and id.

        Sees every upsert. Raises when the home shard of one of the cameras does not answer. Moments on other shards,
        from before the list of shards changed, are included if those shards answer soon.
        """

    async def search(self, ask: Ask) -> Answer:
        """The `limit` nearest moments that pass the filter; fewer only if fewer exist, however narrow the filter.

        A moment is as near as the nearest of its rows, and is a hit once, with that row.
        The answer names the parts that did not answer. Raises only when no part answered.
        """

    async def fetch(self, ids: Sequence[str], *, exact: bool = True) -> list[Moment]:
        """The moments with these ids, in this order; unknown ids are left out. Sees every upsert; unless `exact`, those
        of the last moments only as far as a search does, and in a fraction of the time."""

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        """How many moments pass the filter; one with copies on two shards counts twice. Sees every upsert."""

    async def close(self) -> None:
        """Close the connections. May be called twice."""


def fullness(span: Span) -> tuple[bool, int, int]:
    """Orders the copies of one moment: the greatest is the latest."""
    return span.closed, span.frames, span.last_offset


def fullest(spans: Iterable[SpanT]) -> dict[str, SpanT]:
    """The fullest copy of each id, by id."""
    return {span.id: span for span in sorted(spans, key=fullness)}


def best(hits: Iterable[Scored], limit: int) -> list[Scored]:
    """The best `limit` moments by their best rows, best first. Only the fullest copy of each id is ranked.

    Of rows that score alike, the widest stands for the moment.
    """
    latest = {hit.span.id: hit for hit in sorted(hits, key=_precedence)}
    return sorted(latest.values(), key=lambda hit: (-hit.score, hit.span.id))[:limit]


def _precedence(hit: Scored) -> tuple[float, ...]:
    return (*fullness(hit.span), hit.score, hit.box.area, -hit.at_ms, -hit.box.left, -hit.box.top)
