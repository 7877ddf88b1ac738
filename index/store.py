"""The port of the index: its types, its contract, and the checks that every store makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from proto.errors import Invalid, Mismatch, WatchwordError
from proto.types import LOG_ID, MOST_RESUME_CHARS, WHOLE, Box, Moment, SpaceInfo, Span, Vector, camera_name, moment_id

MOST_HITS = 16_000
"""The largest `limit` that a store accepts."""
LATEST_MS = 2**53
"""Times lie between 0 and this, so that a double holds them exactly."""
_UNIT_TOLERANCE = 1e-2

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


@dataclass(frozen=True, slots=True)
class Scored:
    """A span, and the cosine similarity of the best of its rows to the question: the whole picture, or a region."""

    span: Span
    score: float
    at_ms: int = 0
    """When the picture was taken that the row is of; 0 in place of `span.peak_ms`."""
    box: Box = WHOLE
    """Where in that picture."""
    kind: str = ""
    """The kind of object there; empty when it is not known."""
    vector: Vector | None = None
    """The row's vector, if `Ask.with_vectors`."""


@dataclass(frozen=True, slots=True)
class Unsearched:
    """A shard did not answer for the time [start_ms, end_ms)."""

    shard: str
    start_ms: int
    end_ms: int


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
    moments_searched: int = 0
    """About how many moments the hits were chosen from. A count that is some seconds old, or an estimate, will do."""
    spaces: list[str] = field(default_factory=list)
    """Other spaces that may hold moments of the asked time. Hits never include their moments."""


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

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        """Store them durably. An existing id is replaced; the last of equal ids in the batch counts.

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

        The answer names the parts that did not answer. Raises only when no part answered.
        """

    async def fetch(self, ids: Sequence[str]) -> list[Moment]:
        """The moments with these ids, in this order; unknown ids are left out. Sees every upsert."""

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
    """The best `limit` hits, best first. Only the fullest copy of each id is ranked."""
    latest = {hit.span.id: hit for hit in sorted(hits, key=lambda hit: (*fullness(hit.span), hit.score))}
    return sorted(latest.values(), key=lambda hit: (-hit.score, hit.span.id))[:limit]


def check_ask(ask: Ask, space: SpaceInfo) -> None:
    """Raise Invalid or Mismatch unless every store can answer this."""
    if not 1 <= ask.limit <= MOST_HITS:
        raise Invalid(f"a search for {ask.limit} hits cannot be answered", todo=f"ask for 1 to {MOST_HITS}")
    _check_vector(ask.vector, space, "the question")
    check_filter(ask.cameras, ask.start_ms, ask.end_ms)


def check_filter(cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> None:
    """Raise Invalid unless moments can have these names and times."""
    for name in cameras or ():
        camera_name(name)
    for moment in (start_ms, end_ms):
        if moment is not None and not 0 <= moment <= LATEST_MS:
            raise Invalid(
                f"{moment} is not a time", todo="give milliseconds since 1970 UTC, such as 1767225600000 for 2026"
            )


def check_batch(
    moments: Sequence[Moment], space: SpaceInfo, longest_ms: int
) -> tuple[list[Moment], dict[str, WatchwordError]]:
    """The moments to store, only the last of equal ids; and the errors, by id, of those that can never be stored.

    Raises Mismatch when one is of another space.
    """
    for moment in moments:
        _check_space(moment, space)
    good: list[Moment] = []
    refused: dict[str, WatchwordError] = {}
    for moment in {moment.id: moment for moment in moments}.values():
        try:
            _check_moment(moment, longest_ms)
        except Invalid as error:
            refused[moment.id] = error
        else:
            good.append(moment)
    return good, refused


def _check_space(moment: Moment, space: SpaceInfo) -> None:
    if moment.space != space.id:
        raise Mismatch(
            f"a moment of space {moment.space[:32]} cannot be stored in space {space.id}",
            todo="stream worker and encoder must run the same bundle",
        )
    _check_dimension(moment.vector, space, f"moment {moment.id[:32]}")


def _check_moment(moment: Moment, longest_ms: int) -> None:
    camera_name(moment.camera)
    what = f"moment {moment.id[:32]} of {moment.camera}"
    if not 0 <= moment.start_ms <= moment.peak_ms <= moment.end_ms <= LATEST_MS:
        raise Invalid(
            f"{what} runs from {moment.start_ms} over {moment.peak_ms} to {moment.end_ms}",
            todo="start, peak and end must follow each other",
        )
    if moment.end_ms - moment.start_ms > longest_ms:
        raise Invalid(
            f"{what} is longer than {longest_ms / 1000:g} s: a search could miss it",
            todo="raise the index's longest_moment_s above the longest moment of the stream",
        )
    if not 0 <= moment.frames < 2**31:
        raise Invalid(f"{what} has {moment.frames} frames", todo="count them from 0")
    _check_place(moment, what)
    _check_resume(moment, what)
    _check_length(moment.vector, what)


def _check_place(moment: Moment, what: str) -> None:
    if not LOG_ID.fullmatch(moment.log):
        raise Invalid(f"{what} comes from the log {moment.log[:40]!r}", todo="give the topic's id, 32 hex digits")
    if not (0 <= moment.partition < 2**31 and 0 <= moment.first_offset <= moment.last_offset < 2**63):
        raise Invalid(
            f"{what} comes from partition {moment.partition}, offsets {moment.first_offset} to {moment.last_offset}",
            todo="give the partition and the offsets of its first and its last frame",
        )
    if moment.id != moment_id(moment.camera, moment.start_ms, moment.log, moment.partition, moment.first_offset):
        raise Invalid(f"{what} has not the id of its camera, start and first frame", todo="use moment_id()")


def _check_resume(moment: Moment, what: str) -> None:
    if moment.closed and moment.resume:
        raise Invalid(f"{what} is closed and says how to go on with it", todo="leave `resume` of a closed moment empty")
    try:
        size = len(moment.resume.encode())
    except UnicodeEncodeError as error:
        raise Invalid(f"what {what} needs to go on is not text", todo="give `resume` as UTF-8") from error
    # Milvus counts bytes.
    if size > MOST_RESUME_CHARS:
        raise Invalid(f"what {what} needs to go on has {size} bytes", todo=f"give `resume` at most {MOST_RESUME_CHARS}")


def _check_vector(vector: Vector, space: SpaceInfo, whose: str) -> None:
    _check_dimension(vector, space, whose)
    _check_length(vector, whose)


def _check_dimension(vector: Vector, space: SpaceInfo, whose: str) -> None:
    if vector.shape != (space.dimension,):
        raise Mismatch(
            f"the vector of {whose} has shape {vector.shape}, the space {space.id} has dimension {space.dimension}",
            todo="encoder and index must run the same bundle",
        )


def _check_length(vector: Vector, whose: str) -> None:
    length = float(np.linalg.norm(vector))
    if not abs(length - 1.0) <= _UNIT_TOLERANCE:
        raise Invalid(f"the vector of {whose} has length {length:.3f}", todo="vectors must be finite, of length 1")
