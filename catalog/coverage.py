"""Coverage: gaps, and how far each camera was looked at, so that answers can report both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    cast,
    func,
    or_,
    select,
    true,
)

from catalog.forgetting import in_parts, is_gone
from catalog.store import Catalog, remove
from catalog.tables import DECLARED, MARKS, MERGED, PARTITION_MARKS, PROGRESS
from proto.errors import Broken
from proto.life import Gone

TOGETHER_MS = 60_000
"""Gaps at most this far apart are reported as one, so that a camera has few gaps however long it is behind."""
MOST_ROWS = 10_000
"""If more gaps match, the answer reports one per camera and reason."""
_MERGED_AT_ONCE = 1000
"""Keeps merging from blocking other writers for more than a few milliseconds."""
_NAMED_AT_ONCE = 500
"""Most cameras in one SQL condition. For more, the rows of all cameras are read and filtered."""
_MINUTE_MS = 60_000
_LENGTH_CLASSES = 12
"""Class k holds gaps shorter than 4**k minutes; the last class holds everything longer than eight years."""


class Reason(StrEnum):
    """Why frames were not looked at."""

    SHED = "shed"
    """More frames arrived than the worker could look at."""
    EXPIRED = "expired"
    """The broker dropped them before they were read."""
    AWAY = "away"
    """The camera did not deliver."""
    LOST = "lost"
    """The camera process dropped them before the broker accepted them."""
    WAITING = "waiting"
    """Captured but not looked at yet. Computed for an answer, never stored."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which a camera was not looked at."""

    camera: str
    """Empty when it may be any camera, as for expired frames that nobody had read."""
    reason: Reason
    start_ms: int
    """Captured times, both inclusive."""
    end_ms: int
    frames: int = 0
    """How many frames it is known to hold; 0 when unknown."""
    log: str = ""
    """The place, for frames that have one (SHED, EXPIRED): every frame of this camera from `first_offset` to
    `last_offset` in this log's partition."""
    partition: int = -1
    first_offset: int = -1
    last_offset: int = -1


@dataclass(frozen=True, slots=True)
class Looked:
    """How far a camera was looked at."""

    camera: str
    captured_ms: int
    """The captured time of the frame with the highest offset that was looked at."""
    log: str
    partition: int
    offset: int


class Coverage:
    """The gaps and the marks of every camera. Safe for many processes; all methods block."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def declare(self, gaps: Sequence[Gap]) -> None:
        """Store the gaps durably.

        Declaring the same gap again (same camera, reason and first offset; without a place: same camera, reason and
        start) replaces it, so it can grow and its frames count once. A gap with a place never shrinks. An AWAY gap
        that ends where it starts removes the declared one: nothing was missed.
        """
        latest = {_key(gap): gap for gap in gaps if not gap.log}
        taken_back = [gap for gap in latest.values() if gap.reason is Reason.AWAY and gap.end_ms <= gap.start_ms]
        placed = sorted((gap for gap in gaps if gap.log), key=lambda gap: gap.last_offset)
        kept = [_row(gap) for gap in (*latest.values(), *placed) if gap not in taken_back]
        if not gaps:
            return
        with self._catalog.writing() as connection:
            self._catalog.put(connection, DECLARED, kept, where=lambda new: new.last_offset >= DECLARED.c.last_offset)
            _remove(connection, DECLARED, taken_back)

    def gaps(self, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> list[Gap]:
        """The gaps that overlap [start_ms, end_ms), earliest first.

        Covers these cameras (None: all) and camera "". Neighbours of one camera and reason are merged and have no
        place. If more than MOST_ROWS gaps overlap, all of one camera and reason are merged.
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
        """The SHED gaps of this partition that reach `from_offset` or beyond, exactly as declared, ordered by offset. A
        worker that starts there must not look at these frames."""
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
        """Replace the marks of these cameras; called about once a second.

        `ends` gives for each log and partition the next offset to commit and the broker's time of the last record read,
        in ms. SHED gaps wholly below the next offset of the previous call are merged for answers; `declared` no longer
        returns them.
        """
        with self._catalog.writing() as connection:
            self._catalog.put(connection, MARKS, [_mark_row(mark) for mark in marks])
            for (log, partition), (next_offset, broker_ms) in sorted(ends.items()):
                # The previous call's offset is committed by now: no restart goes back beyond it.
                before = _partition_mark(connection, log, partition, lock=True)
                if before is not None:
                    self._merge_below(connection, log, partition, min(before[0], next_offset))
                row = {"log": log, "partition": partition, "next_offset": next_offset, "broker_ms": broker_ms}
                self._catalog.put(connection, PARTITION_MARKS, [row])

    def marks(self, cameras: frozenset[str] | None = None) -> list[Looked]:
        """The marks of these cameras (None: all), the furthest behind first. A camera may have no mark yet."""
        wanted = select(MARKS).order_by(MARKS.c.captured_ms, MARKS.c.camera)
        if cameras is not None and len(cameras) <= _NAMED_AT_ONCE:
            wanted = wanted.where(MARKS.c.camera.in_(sorted(cameras)))
        with self._catalog.reading() as connection:
            found = [Looked(*row) for row in connection.execute(wanted)]
        return found if cameras is None else [mark for mark in found if mark.camera in cameras]

    def looked_until(self, cameras: frozenset[str] | None = None) -> dict[str, int]:
        """The captured time of each camera's mark: all that an answer needs, for a third of the work of `marks`."""
        wanted = select(MARKS.c.camera, MARKS.c.captured_ms)
        if cameras is not None and len(cameras) <= _NAMED_AT_ONCE:
            wanted = wanted.where(MARKS.c.camera.in_(sorted(cameras)))
        with self._catalog.reading() as connection:
            found = connection.execute(wanted).all()
        return {camera: captured_ms for camera, captured_ms in found if cameras is None or camera in cameras}

    def opened(self, cameras: frozenset[str]) -> dict[str, int]:
        """When these cameras were last opened, as recorded by their processes. They may have been watched before."""
        wanted = select(PROGRESS.c.camera, PROGRESS.c.run)
        if len(cameras) <= _NAMED_AT_ONCE:
            wanted = wanted.where(PROGRESS.c.camera.in_(sorted(cameras)))
        with self._catalog.reading() as connection:
            found = connection.execute(wanted).all()
        return {camera: opened_ms for camera, opened_ms in found if camera in cameras}

    def partition_mark(self, log: str, partition: int) -> tuple[int, int] | None:
        """The next offset to commit and the broker's time of the last record read, from the last `looked`."""
        with self._catalog.reading() as connection:
            return _partition_mark(connection, log, partition)

    def newest_ms(self) -> int:
        """The broker's time of the latest record that was ever read; 0 if none was."""
        with self._catalog.reading() as connection:
            return connection.scalar(select(func.max(PARTITION_MARKS.c.broker_ms))) or 0

    def forget_gone(self, gone: Gone, *, count_only: bool = False) -> int:
        """Remove the gaps that lie wholly in times that are gone; how many they were."""
        removed = 0
        for table in (DECLARED, MERGED):
            for part in in_parts(gone):
                removed += self._forget(table, is_gone(table, part), count_only=count_only)
        return removed

    def _forget(self, table: Table, condition: ColumnElement[bool], *, count_only: bool) -> int:
        if count_only:
            with self._catalog.reading() as connection:
                return connection.scalar(select(func.count()).select_from(table).where(condition)) or 0
        removed, more = 0, _MERGED_AT_ONCE
        while more == _MERGED_AT_ONCE:
            with self._catalog.writing() as connection:
                some = select(*_columns(table)).where(condition).limit(_MERGED_AT_ONCE)
                found = [_gap(row) for row in connection.execute(some)]
                _remove(connection, table, found)
            more = len(found)
            removed += more
        return removed

    def _merge_below(self, connection: Connection, log: str, partition: int, offset: int) -> None:
        """Move up to _MERGED_AT_ONCE of the partition's SHED gaps wholly below the offset to the merged table."""
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
        self._catalog.put(connection, MERGED, [_row(gap) for gap in merged([*neighbours, *done])])


def merged(gaps: Iterable[Gap]) -> list[Gap]:
    """The gaps with neighbours of one camera and reason merged, sorted by camera, reason and time. If all parts lie in
    one partition, the merged place spans them. Frames of a gap that lies wholly inside another count once."""
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
    """The gaps, with 0 frames for one whose place lies wholly inside another's."""
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
    """The gaps of the table that overlap the time. Up to _NAMED_AT_ONCE cameras, only theirs and those of ""."""
    condition = _in_time(table, start_ms, end_ms)
    if cameras is not None and len(cameras) <= _NAMED_AT_ONCE:
        condition = and_(table.c.camera.in_(["", *sorted(cameras)]), condition)
    rows = connection.execute(select(*_columns(table)).where(condition).limit(MOST_ROWS + 1)).all()
    if len(rows) <= MOST_ROWS:
        return [_gap(row) for row in rows]
    return [_gap(row) for row in connection.execute(_summed(table, condition))]


def _in_time(table: Table, start_ms: int | None, end_ms: int | None) -> ColumnElement[bool]:
    """Whether the gap overlaps [start_ms, end_ms).

    A gap of class k that overlaps starts less than 4**k minutes before `start_ms`, so the index finds it without
    reading all gaps that ended earlier or start later.
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
            cast(func.sum(at.frames), BigInteger).label("frames"),
        )
        .where(condition)
        .group_by(at.camera, at.reason)
    )


def _remove(connection: Connection, table: Table, gaps: Iterable[Gap]) -> None:
    remove(connection, table, [(gap.camera, gap.reason, gap.log, gap.partition, _anchor(gap)) for gap in gaps])


def _partition_mark(connection: Connection, log: str, partition: int, *, lock: bool = False) -> tuple[int, int] | None:
    at = PARTITION_MARKS.c
    wanted = select(at.next_offset, at.broker_ms).where(at.log == log, at.partition == partition)
    row = connection.execute(wanted.with_for_update() if lock else wanted).first()
    return None if row is None else (row.next_offset, row.broker_ms)


def _key(gap: Gap) -> tuple[str, Reason, int]:
    """The identity of a gap without a place."""
    return gap.camera, gap.reason, gap.start_ms


def _anchor(gap: Gap) -> int:
    """Tells gaps of one camera and reason apart: the first offset, or the start where there is no place."""
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
            f"the catalog has a gap with an unknown reason ({values[1]!r})",
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
