"""What was looked at and what was not: gaps, and how far each camera is, so that an answer can say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, delete, func, or_, select, true

from catalog.store import Catalog, replacing, upsert
from catalog.tables import DECLARED, MARKS, MERGED, PARTITION_MARKS, PROGRESS
from proto.errors import Broken

TOGETHER_MS = 60_000
"""Gaps that are no farther apart are told as one, so that a camera has few however long it is behind."""
MOST_ROWS = 10_000
"""An answer that would be made of more gaps tells one for each camera and reason instead."""
_MERGED_AT_ONCE = 1000
"""So that merging holds up other writers for a few milliseconds only."""
_NAMED_AT_ONCE = 500
"""Cameras in one SQL condition; of more, all are read."""
_MINUTE_MS = 60_000
_LENGTH_CLASSES = 12
"""Class k holds gaps shorter than 4**k minutes, and the last one all that are longer than eight years."""


class Reason(StrEnum):
    """Why frames were not looked at."""

    SHED = "shed"
    """More came than could be looked at."""
    EXPIRED = "expired"
    """The broker dropped them before they were read."""
    AWAY = "away"
    """The camera did not deliver."""
    LOST = "lost"
    """The camera process had to give them up before the broker took them."""
    WAITING = "waiting"
    """Captured, and not looked at yet. It is computed for an answer and never stored."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which a camera was not looked at."""

    camera: str
    """Empty: any camera may be meant, as when the broker expired frames that nobody had read."""
    reason: Reason
    start_ms: int
    """Captured times; both are included."""
    end_ms: int
    frames: int = 0
    """How many are known to lie in it; 0 when that is not known."""
    log: str = ""
    """The place, where the frames have one (SHED, EXPIRED): of this camera, every frame from `first_offset` to
    `last_offset` of this log's partition."""
    partition: int = -1
    first_offset: int = -1
    last_offset: int = -1


@dataclass(frozen=True, slots=True)
class Looked:
    """How far a camera was looked at."""

    camera: str
    captured_ms: int
    """The captured time of the latest frame, by its offset, that was looked at."""
    log: str
    partition: int
    offset: int


class Coverage:
    """The gaps and the marks of every camera. Safe for many processes; all methods block."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def declare(self, gaps: Sequence[Gap]) -> None:
        """Keep the gaps: durable when it returns.

        The same gap (same camera, reason and first place; without a place: same camera, reason and start)
        declared again takes the place of the first, so it can grow and its frames count once. One with a place never
        shrinks. An AWAY gap that ends where it starts takes back what was declared of it: nothing was missed.
        """
        latest = {_key(gap): gap for gap in gaps if not gap.log}
        taken_back = [gap for gap in latest.values() if gap.reason is Reason.AWAY and gap.end_ms <= gap.start_ms]
        kept = [_row(gap) for gap in (*latest.values(), *(gap for gap in gaps if gap.log)) if gap not in taken_back]
        if not gaps:
            return
        statement, values = upsert(DECLARED)
        statement = statement.on_conflict_do_update(
            index_elements=list(DECLARED.primary_key.columns),
            set_=values,
            where=statement.excluded.last_offset >= DECLARED.c.last_offset,
        )
        with self._catalog.writing() as connection:
            if kept:
                connection.execute(statement, kept)
            _remove(connection, DECLARED, taken_back)

    def gaps(self, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> list[Gap]:
        """What an answer tells: the gaps that overlap [start_ms, end_ms), earliest first.

        Of these cameras (None: all) and of camera "". Neighbours of one camera and reason are told as one, without a
        place. Where very many gaps overlap, all of one camera and reason are told as one.
        """
        if cameras is not None and not cameras:
            return []
        with self._catalog.reading() as connection:
            found = [
                gap
                for table in (MERGED, DECLARED)
                for gap in _overlapping(connection, table, cameras, start_ms, end_ms)
                if cameras is None or not gap.camera or gap.camera in cameras
            ]
        told = (replace(gap, log="", partition=-1, first_offset=-1, last_offset=-1) for gap in merged(found))
        return sorted(told, key=lambda gap: (gap.start_ms, gap.camera, gap.reason))

    def declared(self, log: str, partition: int, from_offset: int) -> list[Gap]:
        """The SHED gaps of this partition, exactly as declared, that reach `from_offset` or beyond: what a worker that
        starts there must not look at again. In order of their places."""
        at = DECLARED.c
        wanted = (
            select(*_columns(DECLARED))
            .where(at.log == log, at.partition == partition, at.last_offset >= from_offset)
            .where(at.reason == Reason.SHED)
            .order_by(at.first_offset, at.camera)
        )
        with self._catalog.reading() as connection:
            return [_gap(row) for row in connection.execute(wanted)]

    def looked(self, marks: Sequence[Looked], ends: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        """Keep how far cameras were looked at, each in place of its mark before; about once a second.

        `ends` gives for each log and partition the next offset to commit and the broker's time of the last record read,
        in ms. SHED gaps that lie wholly below what was given here the time before are merged for answers:
        `declared` does not tell them any more.
        """
        with self._catalog.writing() as connection:
            if marks:
                connection.execute(replacing(MARKS), [_mark_row(mark) for mark in marks])
            for (log, partition), (next_offset, broker_ms) in ends.items():
                # By now the offset of the time before is committed: no restart goes back beyond it.
                before = _partition_mark(connection, log, partition)
                if before is not None:
                    _merge_below(connection, log, partition, min(before[0], next_offset))
                row = {"log": log, "partition": partition, "next_offset": next_offset, "broker_ms": broker_ms}
                connection.execute(replacing(PARTITION_MARKS), row)

    def marks(self, cameras: frozenset[str] | None = None) -> list[Looked]:
        """How far these cameras (None: all) were looked at, the furthest behind first. Some may have no mark yet."""
        wanted = select(MARKS).order_by(MARKS.c.captured_ms, MARKS.c.camera)
        if cameras is not None and len(cameras) <= _NAMED_AT_ONCE:
            wanted = wanted.where(MARKS.c.camera.in_(sorted(cameras)))
        with self._catalog.reading() as connection:
            found = [Looked(*row) for row in connection.execute(wanted)]
        return found if cameras is None else [mark for mark in found if mark.camera in cameras]

    def looked_until(self, cameras: frozenset[str] | None = None) -> dict[str, int]:
        """The captured time of each camera's mark: all that an answer needs of it, and a third of the work."""
        wanted = select(MARKS.c.camera, MARKS.c.captured_ms)
        if cameras is not None and len(cameras) <= _NAMED_AT_ONCE:
            wanted = wanted.where(MARKS.c.camera.in_(sorted(cameras)))
        with self._catalog.reading() as connection:
            found = connection.execute(wanted).all()
        return {camera: captured_ms for camera, captured_ms in found if cameras is None or camera in cameras}

    def opened(self, cameras: frozenset[str]) -> dict[str, int]:
        """When these cameras were opened last, as their processes noted it; they may have been watched before."""
        wanted = select(PROGRESS.c.camera, PROGRESS.c.run)
        if len(cameras) <= _NAMED_AT_ONCE:
            wanted = wanted.where(PROGRESS.c.camera.in_(sorted(cameras)))
        with self._catalog.reading() as connection:
            found = connection.execute(wanted).all()
        return {camera: opened_ms for camera, opened_ms in found if camera in cameras}

    def partition_mark(self, log: str, partition: int) -> tuple[int, int] | None:
        """The next offset to commit and the broker's time of the last record read, as they were given last."""
        with self._catalog.reading() as connection:
            return _partition_mark(connection, log, partition)


def merged(gaps: Iterable[Gap]) -> list[Gap]:
    """Neighbours of one camera and reason as one gap, by camera and time. Its place, where all lie in one partition, is
    from the first to the last of theirs. Frames of a gap that lies wholly in another count once."""
    found: list[Gap] = []
    for gap in sorted(_counted_once(gaps), key=lambda one: (one.camera, one.reason, one.start_ms)):
        last = found[-1] if found else None
        if (
            last is None
            or (last.camera, last.reason) != (gap.camera, gap.reason)
            or gap.start_ms - last.end_ms > TOGETHER_MS
        ):
            found.append(gap)
            continue
        together = replace(last, end_ms=max(last.end_ms, gap.end_ms), frames=last.frames + gap.frames)
        if (last.log, last.partition) == (gap.log, gap.partition):
            first, end = min(last.first_offset, gap.first_offset), max(last.last_offset, gap.last_offset)
            found[-1] = replace(together, first_offset=first, last_offset=end)
        else:
            found[-1] = replace(together, log="", partition=-1, first_offset=-1, last_offset=-1)
    return found


def _counted_once(gaps: Iterable[Gap]) -> list[Gap]:
    """The gaps; one whose place lies wholly in another's has no frames of its own."""
    found = []
    reached: dict[tuple[str, Reason, str, int], int] = {}
    for gap in sorted(gaps, key=lambda one: (one.first_offset, -one.last_offset)):
        place = gap.camera, gap.reason, gap.log, gap.partition
        inside = bool(gap.log) and gap.last_offset <= reached.get(place, -1)
        reached[place] = max(reached.get(place, -1), gap.last_offset)
        found.append(replace(gap, frames=0) if inside else gap)
    return found


def _overlapping(
    connection: Connection, table: Table, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None
) -> list[Gap]:
    """The gaps of the table that overlap the time; of a few cameras only these and "", else all."""
    condition = _in_time(table, start_ms, end_ms)
    if cameras is not None and len(cameras) <= _NAMED_AT_ONCE:
        condition = and_(table.c.camera.in_(["", *sorted(cameras)]), condition)
    rows = connection.execute(select(*_columns(table)).where(condition).limit(MOST_ROWS + 1)).all()
    if len(rows) <= MOST_ROWS:
        return [_gap(row) for row in rows]
    return [_gap(row) for row in connection.execute(_summed(table, condition))]


def _in_time(table: Table, start_ms: int | None, end_ms: int | None) -> ColumnElement[bool]:
    """Whether the gap overlaps [start_ms, end_ms).

    A gap that overlaps began before `start_ms` by less than its length class allows, so the index finds it without
    reading all gaps that ended earlier or began later.
    """
    at = table.c
    begun = true() if end_ms is None else at.start_ms < end_ms
    if start_ms is None:
        return begun
    classes = [
        and_(at.length_class == number, at.start_ms > start_ms - _MINUTE_MS * 4**number, begun)
        for number in range(_LENGTH_CLASSES)
    ]
    longer = and_(at.length_class == _LENGTH_CLASSES, begun)
    return and_(or_(*classes, longer), at.end_ms >= start_ms)


def _summed(table: Table, condition: ColumnElement[bool]) -> Select[Any]:
    at = table.c
    return (
        select(
            at.camera,
            at.reason,
            func.min(at.start_ms).label("start_ms"),
            func.max(at.end_ms).label("end_ms"),
            func.sum(at.frames).label("frames"),
        )
        .where(condition)
        .group_by(at.camera, at.reason)
    )


def _merge_below(connection: Connection, log: str, partition: int, offset: int) -> None:
    """Move the partition's SHED gaps that lie wholly below the offset, some at a time, to those that are merged."""
    at, kept = DECLARED.c, MERGED.c
    below = (
        select(*_columns(DECLARED))
        .where(at.log == log, at.partition == partition, at.last_offset < offset, at.reason == Reason.SHED)
        .order_by(at.last_offset)
        .limit(_MERGED_AT_ONCE)
    )
    done = [_gap(row) for row in connection.execute(below)]
    if not done:
        return
    near = (
        select(*_columns(MERGED))
        .where(kept.camera.in_({gap.camera for gap in done}), kept.reason == Reason.SHED)
        .where(kept.log == log, kept.partition == partition)
        .where(kept.end_ms >= min(gap.start_ms for gap in done) - TOGETHER_MS)
        .where(kept.start_ms <= max(gap.end_ms for gap in done) + TOGETHER_MS)
    )
    neighbours = [_gap(row) for row in connection.execute(near)]
    _remove(connection, DECLARED, done)
    _remove(connection, MERGED, neighbours)
    connection.execute(replacing(MERGED), [_row(gap) for gap in merged([*neighbours, *done])])


def _remove(connection: Connection, table: Table, gaps: Iterable[Gap]) -> None:
    at = table.c
    for gap in gaps:
        connection.execute(
            delete(table).where(
                at.camera == gap.camera,
                at.reason == gap.reason,
                at.log == gap.log,
                at.partition == gap.partition,
                at.anchor == _anchor(gap),
            )
        )


def _partition_mark(connection: Connection, log: str, partition: int) -> tuple[int, int] | None:
    at = PARTITION_MARKS.c
    wanted = select(at.next_offset, at.broker_ms).where(at.log == log, at.partition == partition)
    row = connection.execute(wanted).first()
    return None if row is None else (row.next_offset, row.broker_ms)


def _key(gap: Gap) -> tuple[str, Reason, int]:
    """What tells gaps without a place apart."""
    return gap.camera, gap.reason, gap.start_ms


def _anchor(gap: Gap) -> int:
    """What tells gaps of one camera and reason apart: the first place, or the start of one without a place."""
    return gap.first_offset if gap.log else gap.start_ms


def _row(gap: Gap) -> dict[str, Any]:
    start_ms, end_ms = min(gap.start_ms, gap.end_ms), max(gap.start_ms, gap.end_ms)
    return {
        "camera": gap.camera,
        "reason": gap.reason,
        "log": gap.log,
        "partition": gap.partition,
        "anchor": _anchor(gap),
        "first_offset": gap.first_offset,
        "last_offset": gap.last_offset,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "frames": gap.frames,
        "length_class": _length_class(end_ms - start_ms),
    }


def _length_class(length_ms: int) -> int:
    minutes = length_ms // _MINUTE_MS
    return min((minutes.bit_length() + 1) // 2, _LENGTH_CLASSES)


def _columns(table: Table) -> list[ColumnElement[Any]]:
    """The columns of a gap, in the order of its fields."""
    return [table.c[field.name] for field in fields(Gap)]


def _gap(row: Row[Any]) -> Gap:
    values = tuple(row)
    try:
        return Gap(values[0], Reason(values[1]), *values[2:])
    except ValueError as error:
        raise Broken(
            f"the catalog tells of a gap for a reason that is not known here ({values[1]!r})",
            todo="use the Watchword that made it, or stop Watchword and move the catalog away",
        ) from error


def _mark_row(mark: Looked) -> dict[str, Any]:
    return {
        "camera": mark.camera,
        "captured_ms": mark.captured_ms,
        "log": mark.log,
        "partition": mark.partition,
        "offset": mark.offset,
    }
