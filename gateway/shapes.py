"""What the gateway takes and gives, as typed models. The API's description is made from them (`describing.py`).

The answers have the fields of `proto/v1/query.proto`, by the same names, and every field is always there.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

API = "/api/v1"
WHO = "/login/who"
"""Says who is logged in, also where there is no login."""


def _plain(number: float) -> float:
    """A 32-bit number as people would write it. JSON has no NaN; a number that is none counts as nothing."""
    return round(number, 6) if math.isfinite(number) else 0.0


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _said(value: Any) -> Any:
    """Of a query string, which has no other types, only what JSON says too."""
    return {"true": True, "false": False}.get(value, "no such word") if isinstance(value, str) else value


def _absent(schema: dict[str, Any]) -> None:
    """The empty default only says that nothing was given: it is no value that could be sent."""
    schema.pop("default")


Number = Annotated[float, AfterValidator(_plain)]
Names = Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=list[str] | str), Field(max_length=1000)]
Ms = Annotated[int, Field(ge=0, le=2**53)]
"""A time. JavaScript holds no larger number exactly."""
MOMENT_ID = "^[0-9a-f]{32}$"
"""For the description only: the query service says better what is wrong with another id."""


def _moment(schema: dict[str, Any]) -> None:
    _absent(schema)
    schema["pattern"] = MOMENT_ID


class Shape(BaseModel):
    """An answer or a part of one, made from a message of the query service."""

    model_config = ConfigDict(from_attributes=True, frozen=True, use_attribute_docstrings=True)


class Filters(BaseModel):
    """What narrows a search, and how its hits are given."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    camera: Names = []
    """Only these cameras; repeatable. An unknown name is an error."""
    group: Names = []
    """Cameras of these groups, and those that `camera` names; repeatable. A group without cameras is an error."""
    start_ms: Ms = 0
    """Only moments that overlap [start_ms, end_ms), in milliseconds since 1970 UTC. 0 means open."""
    end_ms: Ms = 0
    """The end of that span. 0 means until now."""
    limit: int = Field(10, ge=1, le=3000)
    """Most hits, 1 to 1,000 unless the service was told otherwise."""
    object: Names = []
    """Only moments in which all of these kinds of objects were seen, such as person; repeatable."""
    min_confidence: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    """Only hits of at least this confidence."""
    order: Literal["relevance", "time"] = "relevance"
    """Best first, or earliest first."""
    all_moments: Annotated[bool, BeforeValidator(_said)] = False
    """Every moment by itself: nothing is joined or left out."""


class Question(Filters):
    """A search: exactly one of `q` and `like`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["q"]}, {"required": ["like"]}]})

    q: str = Field("", json_schema_extra=_absent)
    """What to look for, in plain words of any language, 1 to 2,000 characters."""
    like: str = Field("", json_schema_extra=_moment)
    """The id of a moment: similar moments, without this one."""


class At(BaseModel):
    """Which picture of a moment."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    at_ms: Ms = 0
    """The `at_ms` of a hit: the picture in which its box lies. 0: the most representative one."""


class Span(BaseModel):
    """What to play: a camera and a time, or a moment."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    camera: str = ""
    """The camera, together with start_ms and end_ms."""
    start_ms: Ms = 0
    """Start of the time, in milliseconds since 1970 UTC."""
    end_ms: Ms = 0
    """Its end."""
    moment_id: str = ""
    """Instead: the id of a moment, to play its whole span."""


class Nothing(BaseModel):
    """No parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Box(Shape):
    """Sides are shares of the picture's width and height; 0, 0, 1, 1 is the whole picture."""

    left: Number
    top: Number
    right: Number
    bottom: Number


class ObjectCount(Shape):
    """A kind of object that was seen."""

    kind: str
    count: int
    """How many were seen at most at one time."""


class Hit(Shape):
    """A moment that answers, or several neighbouring ones that answer alike."""

    moment_id: str
    camera: str
    start_ms: int
    """The span in which the scene stayed the same, and its most representative instant."""
    peak_ms: int
    end_ms: int
    score: Number
    """Cosine similarity of the question and what the box shows, -1 to 1. Says little by itself: see `confidence`."""
    closed: bool
    """False while it is still going on: its end may still change."""
    frames: int
    confidence: Number
    """How likely it is that this is what was asked for, 0 to 1."""
    box: Box
    """Where in the picture it was found; the picture is that of `at_ms`."""
    at_ms: int
    kind: str
    """The kind of object there; empty when it is not known."""
    objects: list[ObjectCount]
    """The objects that were seen in it."""
    moments: int
    """How many moments this hit joins."""
    recorded: bool
    """Whether there is a recording of `at_ms`: the clip call gives it."""


class Gap(Shape):
    """A span in which a camera was not looked at. It may extend beyond the requested time."""

    camera: str
    """Empty when it may be any camera."""
    start_ms: int
    end_ms: int
    frames: int
    """How many frames it is known to hold; 0 when unknown."""
    reason: str
    """shed, expired, away, lost or waiting: see query.proto."""


class Watermark(Shape):
    """Up to when everything that a camera captured was looked at."""

    camera: str
    looked_ms: int


class Unsearched(Shape):
    """A part of the index that did not answer, or was not asked."""

    shard: str
    start_ms: int
    end_ms: int
    cameras: list[str]
    """The requested cameras whose moments may lie there: at most 100."""
    cold: bool
    """True: it is not in memory, and more was asked for than fits there. One about this time alone searches it."""


class Coverage(Shape):
    """What the answer is based on."""

    partial: bool
    """True when part of what was asked for could not be searched; the other fields say which."""
    shards_missing: list[str]
    shards_searched: int
    buckets_searched: int
    gaps: list[Gap]
    """Spans of the requested time in which a camera was not looked at: the earliest, at most 100."""
    gaps_in_all: int
    frames_not_looked_at: int
    watermarks: list[Watermark]
    """The furthest behind first, at most 100."""
    unsearched: list[Unsearched]
    spaces_unsearched: list[str]
    coverage_unknown: bool
    """True when gaps and watermarks could not be read in time."""


class Timing(Shape):
    """Where the time went, in milliseconds."""

    total_ms: Number
    embed_ms: Number
    index_ms: Number
    vector_cached: bool
    loading_ms: Number
    """Of `index_ms`: how long it took to load into memory what was not there."""


class SearchReply(Shape):
    """The answer to a search."""

    hits: list[Hit]
    coverage: Coverage
    timing: Timing
    space: str
    """The space in which the question and the moments were compared."""
    no_confident_match: bool
    """True when no hit is likely to be what was asked for: the hits are only the nearest."""
    threshold: Number
    """A hit of at least this confidence counts as found."""


class CameraStatus(Shape):
    """How a camera is doing, as the process that watches it told. Numbers are 0 where they are not known."""

    state: str
    """connecting, live, silent, failing, done, disabled, removed or unknown: see query.proto."""
    since_ms: int
    told_ms: int
    why: str
    fps_wanted: Number
    """Pictures a second that are to be looked at; that were, lately; and that were kept."""
    fps_got: Number
    fps_kept: Number
    width: int
    height: int
    codec: str
    source_fps: Number
    bits_per_second: int
    gop_frames: int
    """From one key frame to the next, in pictures and in seconds."""
    gop_s: Number
    failures: int
    lost: int
    advice: list[str]
    """What would make it better, in sentences."""
    decoded_share: Number
    """The share of its packets that were decoded lately."""
    gate: str
    """What its packet gate is doing: off, learning, gating, open, intra or unable; and why."""
    gate_why: str
    clock_ahead_ms: int
    """How far its own clock is ahead of the machine's that watches it; 0 where it does not tell."""


class CameraInfo(Shape):
    """A camera that can be searched."""

    name: str
    watching: bool
    """False when it was removed. Its moments stay searchable, as long as its retention says."""
    groups: list[str]
    """The groups that it is in."""
    status: CameraStatus


class CamerasReply(Shape):
    """The cameras, and the kinds of objects that can be asked for."""

    cameras: list[CameraInfo]
    kinds: list[str]


class Health(BaseModel):
    """Whether questions can be answered now."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ready: bool
    version: str
    todo: str | None = None
    """What is wrong and what to do; only there when it is not ready."""


class ProblemBody(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: str
    title: str
    status: int
    detail: str
    """What is wrong."""
    todo: str
    """What to do next; may be empty."""
    reason: str
    """A stable word for programs."""
