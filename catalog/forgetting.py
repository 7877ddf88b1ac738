"""Which gaps may not be told any more, as a condition of SQL."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Table, and_, not_, or_

from proto.life import Gone, Stretch

_AT_ONCE = 100
"""Erasures in one condition: SQLite takes a few hundred, and there may be thousands."""


def in_parts(gone: Gone) -> Iterator[Gone]:
    """The same as several, each of few erasures: what is gone is gone by one of them."""
    yield Gone(gone.before_ms, gone.own, gone.erased[:_AT_ONCE], gone.held)
    for first in range(_AT_ONCE, len(gone.erased), _AT_ONCE):
        yield Gone(erased=gone.erased[first : first + _AT_ONCE])


def is_gone(table: Table, gone: Gone) -> ColumnElement[bool]:
    """Whether a gap may not be told any more. `gone` is one of `in_parts`."""
    at = table.c
    own = [camera for _, cameras in gone.own for camera in cameras]
    aged = [and_(at.camera.in_(sorted(cameras)), at.end_ms < before_ms) for before_ms, cameras in gone.own]
    aged.append(and_(at.camera.not_in(["", *sorted(own)]), at.end_ms < gone.before_ms))
    aged.append(and_(at.camera == "", at.end_ms < gone.floor_ms))
    held = [_touches(table, one) for one in gone.held]
    erased = [
        and_(
            at.camera == one.stretch.camera,
            at.start_ms >= one.stretch.start_ms,
            at.end_ms < one.stretch.end_ms,
            *(not_(_touches(table, spared)) for spared in one.unless),
        )
        for one in gone.erased
    ]
    return or_(and_(or_(*aged), *map(not_, held)), *erased)


def _touches(table: Table, stretch: Stretch) -> ColumnElement[bool]:
    at = table.c
    return and_(at.camera == stretch.camera, at.end_ms >= stretch.start_ms, at.start_ms < stretch.end_ms)
