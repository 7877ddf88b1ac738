"""The port of the index: what it takes, what it answers, and the rules that every store keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from proto.errors import Invalid, Mismatch, WatchwordError
from proto.types import LOG_ID, MOST_RESUME_CHARS, Moment, SpaceInfo, Span, Vector, camera_name, moment_id

MOST_HITS = 16_000
"""The largest `limit` that a store takes."""
LATEST_MS = 2**53
"""Times lie between 0 and this: exact in every language's numbers."""
_UNIT_TOLERANCE = 1e-2

SpanT = TypeVar("SpanT", bound=Span)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One question to the index. Cameras None means all; an empty set matches nothing. Times None are open."""

    vector: Vector
    limit: int
    cameras: frozenset[str] | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    timeout_s: float | None = None
    """What takes longer is not searched; None leaves it to the store."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A span and the cosine similarity of its vector and the question."""

    span: Span
    score: float


@dataclass(frozen=True, slots=True)
class Unsearched:
    """What a shard holds of the time [start_ms, end_ms) and did not answer for."""

    shard: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first (equal scores by id), and what they are based on."""

    hits: list[Scored]
    shards_missing: list[str] = field(default_factory=list)
    """Shards of which nothing answered. `unsearched` names them too, with the asked time (0 and LATEST_MS for open)."""
    shards_searched: int = 0
    buckets_searched: int = 0
    """Different time buckets that answered on at least one shard."""
    unsearched: list[Unsearched] = field(default_factory=list)
    """Every part that did not answer, by shard and time."""
    spaces: list[str] = field(default_factory=list)
    """Other spaces that may hold moments of the asked time: none of their moments can be among the hits."""


class MomentStore(Protocol):
    """Where the moments of one space rest.

    Every method may raise Transient, Overloaded or Late; the same call may then be made again. A span overlaps
    [start_ms, end_ms) when `span.end_ms >= start_ms and span.start_ms < end_ms`. A moment whose camera moved to another
    shard while it was open has a copy on both; `between`, `fetch` and `search` give the fullest copy that they see.
    """

    @property
    def space(self) -> SpaceInfo:
        """The one space of this store."""

    async def open(self) -> None:
        """Connect. Raises when the store cannot be used."""

    def shard_of(self, camera: str) -> str:
        """What takes this camera's moments now: what shares it fails together."""

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        """Store them durably. An id that is here already is replaced; of equal ids the last one counts.

        Gives what was not stored, by the moment's id, with the reason; empty when all was stored. Transient or
        Overloaded: try these moments again (they may have been stored nevertheless). Invalid: this moment can never be
        stored. Anything else, such as Denied or Broken, is about the shard that these moments belong to.

        Raises Mismatch for a vector of another space or dimension; then nothing of the batch was stored.
        """

    async def between(self, cameras: frozenset[str], start_ms: int, end_ms: int) -> list[Moment]:
        """Every moment of these cameras that overlaps [start_ms, end_ms), ordered by camera, start and id.

        Sees every upsert. Raises when the shard where one of the cameras has its home does not answer. What other
        shards hold of the cameras, from before the list of shards changed, is given if they answer soon.
        """

    async def search(self, ask: Ask) -> Answer:
        """The `limit` nearest moments that pass the filter: as many as exist, however narrow the filter is.

        What does not answer is told in the answer. Raises only when nothing answered.
        """

    async def fetch(self, ids: Sequence[str]) -> list[Moment]:
        """The moments of these ids, in this order; ids that are not here are left out. Sees every upsert."""

    async def count(
        self, cameras: frozenset[str] | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> int:
        """How many moments pass the filter; one with copies on two shards counts twice. Sees every upsert."""

    async def close(self) -> None:
        """Let go of connections. May be called twice."""


def fullness(span: Span) -> tuple[bool, int, int]:
    """Of copies of one moment, the one with the greatest fullness is the latest."""
    return span.closed, span.frames, span.last_offset


def fullest(spans: Iterable[SpanT]) -> dict[str, SpanT]:
    """By id, the fullest of its copies."""
    return {span.id: span for span in sorted(spans, key=fullness)}


def best(hits: Iterable[Scored], limit: int) -> list[Scored]:
    """The best `limit` hits, best first. Of copies of one id only the fullest is ranked."""
    latest = {hit.span.id: hit for hit in sorted(hits, key=lambda hit: (*fullness(hit.span), hit.score))}
    return sorted(latest.values(), key=lambda hit: (-hit.score, hit.span.id))[:limit]


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


def check_batch(
    moments: Sequence[Moment], space: SpaceInfo, longest_ms: int
) -> tuple[list[Moment], dict[str, WatchwordError]]:
    """What of the batch is to be stored, of equal ids only the last; and by id what can never be stored, with why.

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
