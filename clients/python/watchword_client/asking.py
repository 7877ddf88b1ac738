"""Requests made of arguments. Both clients, sync and async, make theirs here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypedDict, get_type_hints

from watchword_client.answers import Hit, ms_of
from watchword_client.errors import Invalid
from watchword_client.v1 import query_pb2

Names = str | Iterable[str]
"""One name, or several."""
Moment = Hit | str
"""A hit, or the id of a moment."""


class Where(TypedDict, total=False):
    """Which cameras, and when. What is left out narrows nothing."""

    cameras: Names
    """Only these, and those of `groups`. An unknown name is an error."""
    groups: Names
    """Cameras of these groups."""
    start: datetime | None
    """Only moments that overlap [start, end)."""
    end: datetime | None


class Filters(Where, total=False):
    """What narrows a search, and how its hits are given."""

    objects: Names
    """Only moments in which all of these kinds of objects were seen, such as "person"; `kinds()` has those known."""
    min_confidence: float
    """Only hits of at least this confidence, 0 to 1."""
    limit: int
    """Most hits: 1 to 1,000 unless the service says otherwise. Left out: 10."""
    by_time: bool
    """Earliest first instead of best first. The hits are the same."""
    all_moments: bool
    """Every moment by itself: neighbours that answer alike are not joined, and none is left out as a duplicate."""


def search(filters: Filters, *, text: str | None = None, like: Moment | None = None) -> query_pb2.SearchRequest:
    """A question in words, or for moments like one."""
    with _sendable():
        request = _narrowed(filters)
        if text is not None:
            request.text = text
        if like is not None:
            request.moment_id = _id(like)
        return request


def search_picture(filters: Filters, picture: bytes | str | Path) -> query_pb2.SearchRequest:
    """A question by a picture: its bytes, or its file."""
    with _sendable():
        request = _narrowed(filters)
        request.image = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        return request


def coverage(where: Where) -> query_pb2.SearchRequest:
    """A question of which only the coverage matters: it comes with answers only."""
    _check(where, Where)
    filters = Filters(
        cameras=where.get("cameras", ()),
        groups=where.get("groups", ()),
        start=where.get("start"),
        end=where.get("end"),
        limit=1,
    )
    return search(filters, text="anything")


def thumbnail(moment: Moment, at: datetime | None) -> query_pb2.ThumbnailRequest:
    """The picture in which a hit was found; that of `at`; or, of an id alone, the most representative one."""
    if at is None and isinstance(moment, Hit):
        at = moment.at
    with _sendable():
        return query_pb2.ThumbnailRequest(moment_id=_id(moment), at_ms=ms_of(at))


def clip(
    moment: Moment | None, camera: str | None, start: datetime | None, end: datetime | None
) -> query_pb2.ClipRequest:
    """A moment's whole span, or a time of a camera."""
    if (moment is None) == (camera is None):
        raise Invalid("what to play is not clear", todo="give either a moment, or a camera with start and end")
    if camera is None:
        if start is not None or end is not None:
            raise Invalid("a moment has its own start and end", todo="give a camera to play another time")
        with _sendable():
            return query_pb2.ClipRequest(moment_id=_id(moment or ""))
    if start is None or end is None:
        raise Invalid("a camera alone says not when", todo="give start and end too")
    with _sendable():
        return query_pb2.ClipRequest(camera=camera, start_ms=ms_of(start), end_ms=ms_of(end))


def _narrowed(filters: Filters) -> query_pb2.SearchRequest:
    _check(filters, Filters)
    request = query_pb2.SearchRequest(
        cameras=_names(filters.get("cameras", ())),
        groups=_names(filters.get("groups", ())),
        start_ms=ms_of(filters.get("start")),
        end_ms=ms_of(filters.get("end")),
        objects=_names(filters.get("objects", ())),
        min_confidence=filters.get("min_confidence", 0.0),
        all_moments=filters.get("all_moments", False),
        order=query_pb2.ORDER_TIME if filters.get("by_time") else query_pb2.ORDER_RELEVANCE,
    )
    if "limit" in filters:
        request.limit = filters["limit"]
    return request


def _check(given: Mapping[str, object], shape: type) -> None:
    known = get_type_hints(shape)
    if strange := sorted(given.keys() - known):
        raise Invalid(f"there is no filter {', '.join(strange)}", todo=f"known are: {', '.join(sorted(known))}")


def _names(given: Names) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _id(moment: Moment) -> str:
    return moment.moment_id if isinstance(moment, Hit) else moment


@contextmanager
def _sendable() -> Iterator[None]:
    """The block makes a request. Invalid when a value has no place on the wire, or a file cannot be read."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Invalid(f"the request cannot be sent ({error})", todo="see query.proto for what is allowed") from None
    except OSError as error:
        raise Invalid(f"{error.filename} cannot be read ({error.strerror})", todo="name another file") from None
