"""Moments and pictures as Parquet, and back. The same moments make the same bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from index.rows import ROW_FIELDS, moments_from, rows_of
from proto.errors import Broken, Invalid, Mismatch
from proto.types import Moment, SpaceInfo, check_moment_ids

Picture = tuple[str, int | None, bytes]
"""A moment, the instant of the picture (None: the moment's own), and the JPEG."""

_SPACE = b"watchword.space"
_TYPES = {
    **dict.fromkeys(("id", "camera", "log", "objects", "kind", "resume"), pa.string()),
    **dict.fromkeys(("start_ms", "peak_ms", "end_ms", "at_ms", "since_ms", "until_ms"), pa.int64()),
    **dict.fromkeys(("first_offset", "last_offset"), pa.int64()),
    **dict.fromkeys(("frames", "partition", "row"), pa.int32()),
    **dict.fromkeys(("left", "top", "right", "bottom", "score"), pa.float64()),
    "closed": pa.bool_(),
}
_PICTURES = pa.schema([("moment", pa.string()), ("at_ms", pa.int64()), ("jpeg", pa.binary())])


def moments_packed(moments: Iterable[Moment], space: SpaceInfo) -> bytes:
    """The moments of one space, with all their rows."""
    rows = [row for moment in sorted(moments, key=lambda one: one.id) for row in rows_of(moment)]
    columns = [_column(name, rows, space.dimension) for name in ROW_FIELDS]
    table = pa.table(dict(zip(ROW_FIELDS, columns, strict=True)))
    return _written(table.replace_schema_metadata({_SPACE: space.id.encode()}))


def moments_unpacked(data: bytes, space: SpaceInfo, name: str) -> list[Moment]:
    """The moments of a file. Mismatch when they are of another space, Broken when it cannot be read."""
    table = _read(data, name)
    if (table.schema.metadata or {}).get(_SPACE) != space.id.encode():
        raise Mismatch(f"{name} of the backup has moments of another space", todo="restore from another copy")
    try:
        vectors = table.column("vector").combine_chunks()
        numbers = np.asarray(vectors.flatten(), np.float32).reshape(len(vectors), space.dimension)
        rest = table.select([one for one in ROW_FIELDS if one != "vector"]).to_pylist()
        rows = [
            {**row, "objects": json.loads(row["objects"]), "vector": v} for row, v in zip(rest, numbers, strict=True)
        ]
        return moments_from(rows, space.id)
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise _unreadable(name, error) from error


def ids_packed(data: bytes, name: str) -> set[str]:
    """The ids of the moments of a file."""
    try:
        found = pq.read_table(pa.BufferReader(data), columns=["id", "row"]).to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _unreadable(name, error) from error
    return {row["id"] for row in found if row["row"] == 0}


def pictures_packed(pictures: Sequence[Picture]) -> bytes:
    """The pictures, in this order."""
    columns = [list(column) for column in zip(*pictures, strict=True)] or [[], [], []]
    # JPEGs become no smaller.
    return _written(pa.table(columns, schema=_PICTURES), compression="none")


def pictures_unpacked(data: bytes, name: str) -> list[Picture]:
    """The pictures of a file."""
    table = _read(data, name)
    if table.schema.remove_metadata() != _PICTURES:
        raise _unreadable(name, "it has other columns")
    pictures = [(row["moment"], row["at_ms"], row["jpeg"] or b"") for row in table.to_pylist()]
    try:
        check_moment_ids([str(moment) for moment, _, _ in pictures])
    except Invalid as error:
        raise _unreadable(name, error.message) from error
    return pictures


def _column(name: str, rows: Sequence[Mapping[str, Any]], dimension: int) -> Any:
    if name == "vector":
        stacked = np.stack([row["vector"] for row in rows]) if rows else np.empty((0, dimension), np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(stacked.reshape(-1), pa.float32()), dimension)
    if name == "objects":
        return pa.array([json.dumps(row["objects"], sort_keys=True) for row in rows], pa.string())
    return pa.array([row[name] for row in rows], _TYPES[name])


def _written(table: Any, compression: str = "zstd") -> bytes:
    into = io.BytesIO()
    pq.write_table(table, into, compression=compression)
    return into.getvalue()


def _read(data: bytes, name: str) -> Any:
    try:
        return pq.read_table(pa.BufferReader(data), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, why: object) -> Broken:
    said = str(why).partition("\n")[0][:200]
    return Broken(f"{name} of the backup cannot be read ({said})", todo="restore from another copy")
