"""A moment as rows: one of its whole picture, and one of each region. All have the fields of its span, so that a filter
passes all rows of a moment or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from index.store import Scored, fullness
from proto.types import (
    MOST_REGIONS,
    MOST_RESUME_CHARS,
    WHOLE,
    Box,
    Moment,
    Region,
    Span,
    Vector,
    Vectors,
    check_moment_ids,
)

Row = dict[str, Any]

MOST_ROWS_EACH = 1 + MOST_REGIONS
"""The most rows that a moment has."""
WHOLE_ROWS = "row == 0"
"""An expression that passes one row of each moment: that of its whole picture."""

# The space is in the collection's name.
_SPAN_FIELDS = [field.name for field in fields(Span) if field.name not in ("space", "objects")]
_BOX_FIELDS = [field.name for field in fields(Box)]
HIT_FIELDS = [*_SPAN_FIELDS, "objects", "row", "at_ms", *_BOX_FIELDS, "kind", "since_ms", "until_ms"]
"""What a hit needs, without its vector."""
ROW_FIELDS = [*HIT_FIELDS, "score", "resume", "vector"]


def schema(dimension: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The fields of a collection: Milvus' type of each, and its options."""
    return {
        # That of the whole picture's row is the moment's id.
        "id": ("VARCHAR", {"is_primary": True, "max_length": 34}),
        # Not a partition key: Milvus 2.3 routes upserts by primary key, so a filter on the key would lose most
        # rows, and milvus-lite cannot filter by one.
        "camera": ("VARCHAR", {"max_length": 64}),
        **{name: ("INT64", {}) for name in ("start_ms", "peak_ms", "end_ms")},
        "frames": ("INT32", {}),
        "closed": ("BOOL", {}),
        "log": ("VARCHAR", {"max_length": 32}),
        "partition": ("INT32", {}),
        **{name: ("INT64", {}) for name in ("first_offset", "last_offset")},
        "objects": ("JSON", {}),
        "row": ("INT8", {}),
        "at_ms": ("INT64", {}),
        **{name: ("DOUBLE", {}) for name in _BOX_FIELDS},
        "kind": ("VARCHAR", {"max_length": 32}),
        **{name: ("INT64", {}) for name in ("since_ms", "until_ms")},
        "score": ("DOUBLE", {}),
        # Of the whole picture's row only.
        "resume": ("VARCHAR", {"max_length": MOST_RESUME_CHARS}),
        "vector": ("FLOAT_VECTOR", {"dim": dimension}),
    }


def rows_of(moment: Moment) -> list[Row]:
    """The rows that store this moment; the first is that of its whole picture."""
    whole = Region(moment.peak_ms, WHOLE, moment.vector)
    return [_row(moment, number, region) for number, region in enumerate((whole, *moment.regions))]


def rows_beyond(moment: Moment) -> list[str]:
    """The ids of the rows that this moment does not have, but had if it was told with more regions before."""
    return [_row_id(moment.id, number) for number in range(1 + len(moment.regions), MOST_ROWS_EACH)]


def row_ids(ids: Sequence[str]) -> list[str]:
    """The ids of all rows that these moments may have."""
    check_moment_ids(ids)
    return [_row_id(name, number) for name in ids for number in range(MOST_ROWS_EACH)]


def moments_from(rows: Iterable[Mapping[str, Any]], space: str) -> list[Moment]:
    """The moments of these rows, which must be all rows of each."""
    by_moment: defaultdict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_moment[_moment_of(row)][row["row"]] = row
    return [_moment(of_one, space) for of_one in by_moment.values() if 0 in of_one]


def scored(row: Mapping[str, Any], score: float, space: str) -> Scored:
    """The hit of a row with the fields HIT_FIELDS, and its vector if the row has it."""
    vector = _vector(row) if "vector" in row else None
    return Scored(
        _span(row, space), score, row["at_ms"], _box(row), row["kind"], vector, row["since_ms"], row["until_ms"]
    )


def vectors_out_of(reply: Any) -> Vectors:
    """The vectors of pymilvus' reply to a search, which has none afterwards; no vectors when it had none.

    pymilvus would make a list of Python numbers of each, which took two thirds of a search's processor time.
    """
    for field in reply.lazy_field_data if reply else ():
        if field.field_name == "vector":
            reply.lazy_field_data.remove(field)
            # A packed repeated field is a tag, a length, and then the numbers.
            numbers = len(reply) * field.vectors.dim
            packed = field.vectors.float_vector.SerializeToString()
            found = np.frombuffer(packed, np.dtype("<f4"), numbers, len(packed) - 4 * numbers)
            return found.astype(np.float32, copy=False).reshape(len(reply), -1)
    return np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Bare:
    """A row without what it shows: enough to remove it, and to tell which of two copies is the fuller one."""

    id: str
    camera: str
    start_ms: int
    end_ms: int
    frames: int = 0
    closed: bool = False
    last_offset: int = 0

    @property
    def moment(self) -> str:
        """The id of its moment."""
        return self.id.partition(".")[0]


BARE_FIELDS = ["id", "camera", "start_ms", "end_ms", "frames", "closed", "last_offset"]


def bare_of(row: Mapping[str, Any]) -> Bare:
    """The row with these fields."""
    return Bare(**{name: row[name] for name in BARE_FIELDS})


def bare_rows(moment: Moment) -> list[Bare]:
    """The rows of a moment."""
    return [bare_of(row) for row in rows_of(moment)]


def _row_id(moment_id: str, number: int) -> str:
    return f"{moment_id}.{number}" if number else moment_id


def _moment_of(row: Mapping[str, Any]) -> str:
    return str(row["id"]).partition(".")[0]


def _row(moment: Moment, number: int, region: Region) -> Row:
    return {
        **{name: getattr(moment, name) for name in _SPAN_FIELDS},
        "id": _row_id(moment.id, number),
        "objects": dict(moment.objects),
        "row": number,
        "at_ms": int(region.at_ms),
        **{name: float(getattr(region.box, name)) for name in _BOX_FIELDS},
        "kind": region.kind,
        "since_ms": int(region.since_ms),
        "until_ms": int(region.until_ms),
        "score": float(region.score),
        "resume": "" if number else moment.resume,
        "vector": region.vector,
    }


def _moment(rows: Mapping[int, Mapping[str, Any]], space: str) -> Moment:
    span = _span(rows[0], space)
    # A write that was cut off may have left rows of an earlier telling.
    regions = [_region(rows[n]) for n in sorted(rows) if n and fullness(_span(rows[n], space)) == fullness(span)]
    told = {field.name: getattr(span, field.name) for field in fields(Span)}
    return Moment(**told, vector=_vector(rows[0]), resume=rows[0]["resume"], regions=tuple(regions))


def _span(row: Mapping[str, Any], space: str) -> Span:
    told = {name: row[name] for name in _SPAN_FIELDS}
    return Span(**told | {"id": _moment_of(row)}, space=space, objects=tuple(sorted(row["objects"].items())))


def _region(row: Mapping[str, Any]) -> Region:
    return Region(row["at_ms"], _box(row), _vector(row), row["kind"], row["score"], row["since_ms"], row["until_ms"])


def _box(row: Mapping[str, Any]) -> Box:
    return Box(**{name: row[name] for name in _BOX_FIELDS})


def _vector(row: Mapping[str, Any]) -> Vector:
    return np.asarray(row["vector"], dtype=np.float32)
