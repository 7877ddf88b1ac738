"""The checks that every store makes before it stores or searches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from index.store import LATEST_MS, MOST_HITS, MOST_KINDS, Ask
from proto.errors import Invalid, Mismatch, WatchwordError
from proto.types import (
    KIND,
    LOG_ID,
    MOST_REGIONS,
    MOST_RESUME_CHARS,
    Moment,
    Region,
    SpaceInfo,
    Vector,
    camera_name,
    moment_id,
)

_UNIT_TOLERANCE = 1e-2


def check_ask(ask: Ask, space: SpaceInfo) -> None:
    """Raise Invalid or Mismatch unless every store can answer this."""
    if not 1 <= ask.limit <= MOST_HITS:
        raise Invalid(f"a search for {ask.limit} hits cannot be answered", todo=f"ask for 1 to {MOST_HITS}")
    _check_vector(ask.vector, space, "the question")
    check_filter(ask.cameras, ask.start_ms, ask.end_ms, ask.objects)


def check_filter(
    cameras: frozenset[str] | None,
    start_ms: int | None,
    end_ms: int | None,
    objects: Iterable[str] = (),
) -> None:
    """Raise Invalid unless moments can have these names, times and kinds of objects."""
    for name in cameras or ():
        camera_name(name)
    for kind in objects:
        _check_kind(kind, "the question")
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
    for region in moment.regions:
        _check_dimension(region.vector, space, f"a region of moment {moment.id[:32]}")


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
    _check_objects(moment, what)
    if len(moment.regions) > MOST_REGIONS:
        raise Invalid(
            f"{what} has {len(moment.regions)} regions", todo=f"give the {MOST_REGIONS} that say most of it, or fewer"
        )
    for region in moment.regions:
        _check_region(region, moment, what)


def _check_region(region: Region, moment: Moment, what: str) -> None:
    if not moment.start_ms <= region.at_ms <= moment.end_ms:
        raise Invalid(
            f"{what} runs from {moment.start_ms} to {moment.end_ms} and has a region of {region.at_ms}",
            todo="give regions of its own pictures, with the time of the picture",
        )
    times = region.since_ms, region.at_ms, region.until_ms
    if times[::2] != (0, 0) and not 0 < times[0] <= times[1] <= times[2] <= moment.end_ms:
        raise Invalid(
            f"{what} has a region of {region.at_ms} that was seen from {region.since_ms} to {region.until_ms}",
            todo="give when it was first and last seen, up to the end of the moment, or 0 and 0",
        )
    if not region.box.is_sound():
        raise Invalid(
            f"{what} has a region at {region.box}",
            todo="give left < right and top < bottom, as shares of the picture from 0 to 1",
        )
    if not 0 <= region.score <= 1:
        raise Invalid(f"{what} has a region of score {region.score}", todo="give 0 to 1; 0 without a kind")
    if region.kind:
        _check_kind(region.kind, what)
    _check_length(region.vector, f"a region of {what}")


def _check_objects(moment: Moment, what: str) -> None:
    kinds = [kind for kind, _ in moment.objects]
    for kind in kinds:
        _check_kind(kind, what)
    if kinds != sorted(set(kinds)) or len(kinds) > MOST_KINDS:
        raise Invalid(
            f"{what} has {len(kinds)} kinds of objects, unordered, repeated or too many",
            todo=f"give each kind once, ordered by name, and at most {MOST_KINDS}",
        )
    for kind, count in moment.objects:
        if not 1 <= count < 2**31:
            raise Invalid(f"{what} has {count} of {kind}", todo="count the objects of each kind that was seen from 1")


def _check_kind(kind: str, whose: str) -> None:
    if not KIND.fullmatch(kind):
        raise Invalid(
            f"{kind[:40]!r} of {whose} cannot be a kind of object",
            todo='use 1 to 32 of a-z and space and begin with a letter, such as "traffic light"',
        )


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
