"""Limits, erasures and holds, as rows: who asked for what, and what was done for it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, extract, func, select, update

from catalog.store import Catalog
from catalog.tables import ERASURE_WORK, ERASURES, FLOORS, HOLDS, KEYS, META, RETENTION, SIZE_LIMITS
from proto.errors import Broken, Invalid, Unknown
from proto.life import ALWAYS_MS, DEFAULT, Erasure, Hold, Rules, Stretch, check_bytes, check_days
from proto.types import camera_name

DAYS, BYTES = "days", "bytes"
"""The kinds of limits."""
_LIMITS = {DAYS: RETENTION, BYTES: SIZE_LIMITS}
_COUNTER = "life"
_CLOCK = "life_clock"
_MOST_REASON = 1000


@dataclass(frozen=True, slots=True)
class Work:
    """What was done for an erasure in one store."""

    store: str
    place: str
    """Which machine's, for a store that is a machine's own; else empty."""
    removed: int
    begun_ms: int
    done_ms: int
    """0 while it is going on."""


class Life:
    """The rules of a catalog. Safe for many threads and processes. Methods block; changes are durable.

    Each change is counted, and erasures and holds are numbered by that count: their order is the order in which they
    took effect. What was read is kept, so that reading again costs one small query.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._rules = Rules()

    def rules(self) -> Rules:
        """All rules in force."""
        with self._lock, self._catalog.reading() as connection:
            wanted = select(META.c.name, META.c.value).where(META.c.name.in_([_COUNTER, _CLOCK]))
            found = {name: int(value) for name, value in connection.execute(wanted)}
            if _COUNTER not in found:
                raise Broken("the catalog does not count its rules' changes", todo="restore it from a backup")
            trusted_ms = found.get(_CLOCK, 0)
            # A catalog that was restored may have counted less.
            if found[_COUNTER] == self._rules.version:
                if trusted_ms != self._rules.trusted_ms:
                    self._rules = replace(self._rules, trusted_ms=trusted_ms)
            else:
                self._rules = Rules(
                    found[_COUNTER],
                    {one.camera: one.days for one in connection.execute(select(RETENTION))},
                    tuple(map(_erasure, connection.execute(select(ERASURES).order_by(ERASURES.c.number)))),
                    tuple(
                        map(
                            _hold,
                            connection.execute(select(HOLDS).where(HOLDS.c.lifted_ms == 0).order_by(HOLDS.c.number)),
                        )
                    ),
                    trusted_ms,
                    {one.camera: one.bytes for one in connection.execute(select(SIZE_LIMITS))},
                    {one.camera: one.floor_ms for one in connection.execute(select(FLOORS))},
                )
            return self._rules

    def keep(self, camera: str, days: float) -> None:
        """Keep the camera's moments for so many days; DEFAULT: those of cameras without a limit of their own."""
        check_days(days)
        with self._catalog.writing() as connection:
            _counted(connection)
            self._catalog.put(connection, RETENTION, [{"camera": _named(camera), "days": days}])

    def keep_within(self, camera: str, size: int) -> None:
        """Keep what fits into so many bytes; DEFAULT: of each camera without a limit of its own."""
        check_bytes(size)
        with self._catalog.writing() as connection:
            _counted(connection)
            self._catalog.put(connection, SIZE_LIMITS, [{"camera": _named(camera), "bytes": size}])

    def raise_floors(self, floors: Mapping[str, int]) -> None:
        """Let cameras begin later. One that begins later already stays as it is."""
        with self._catalog.writing() as connection:
            # Before they are compared, so that nobody else raises one meanwhile.
            _counted(connection)
            self._raise(connection, floors)

    def _raise(self, connection: Connection, floors: Mapping[str, int]) -> None:
        rows = [{"camera": _named(camera), "floor_ms": floor_ms} for camera, floor_ms in floors.items()]
        self._catalog.put(connection, FLOORS, rows, where=lambda new: new.floor_ms > FLOORS.c.floor_ms)

    def keep_as_others(self, camera: str, limits: Collection[str] = (DAYS, BYTES)) -> None:
        """Drop the camera's limits of these kinds. Unknown when it has none."""
        with self._catalog.writing() as connection:
            _counted(connection)
            tables: list[Table] = [table for kind, table in _LIMITS.items() if kind in limits]
            # All of them, also after the first one that had a row.
            if not sum(connection.execute(delete(one).where(one.c.camera == camera)).rowcount for one in tables):
                whose = f"{camera} has no limit of its own" if camera else "there is no limit for all cameras"
                raise Unknown(whose, todo="`watchword retention show` lists the limits")

    def erase(self, stretch: Stretch, asked_ms: int, *, moment: str = "", reason: str = "") -> Erasure:
        """Have this erased, from now on and for ever."""
        _check(stretch, reason)
        with self._catalog.writing() as connection:
            erasure = Erasure(_counted(connection), stretch, moment, reason, asked_ms)
            row = {**_columns(erasure.number, stretch, reason), "moment": moment, "asked_ms": asked_ms, "done_ms": 0}
            self._catalog.put(connection, ERASURES, [row])
        return erasure

    def erasure(self, number: int) -> Erasure:
        """The erasure with this number. Unknown when there is none."""
        with self._catalog.reading() as connection:
            row = connection.execute(select(ERASURES).where(ERASURES.c.number == number)).first()
        if row is None:
            raise Unknown(f"there is no erasure {number}", todo="`watchword erase --list` shows them")
        return _erasure(row)

    def hold(self, stretch: Stretch, placed_ms: int, reason: str) -> Hold:
        """Keep what this touches, until it is lifted. Erasures that were asked for before stay in force."""
        _check(stretch, reason)
        with self._catalog.writing() as connection:
            hold = Hold(_counted(connection), stretch, reason, placed_ms)
            row = {**_columns(hold.number, stretch, reason), "placed_ms": placed_ms, "lifted_ms": 0}
            self._catalog.put(connection, HOLDS, [row])
        return hold

    def lift(self, number: int, now_ms: int) -> None:
        """End the hold. What it kept goes by its age and the erasures, which are carried out anew."""
        with self._catalog.writing() as connection:
            _counted(connection)
            here = (HOLDS.c.number == number) & (HOLDS.c.lifted_ms == 0)
            row = connection.execute(select(HOLDS).where(here).with_for_update()).first()
            if row is None:
                raise Unknown(f"no hold {number} is in force", todo="`watchword hold list` shows those that are")
            connection.execute(update(HOLDS).where(here).values(lifted_ms=now_ms))
            later = (ERASURES.c.camera == row.camera) & (ERASURES.c.number > number)
            numbers = connection.scalars(select(ERASURES.c.number).where(later)).all()
            connection.execute(update(ERASURES).where(later).values(done_ms=0))
            connection.execute(
                update(ERASURE_WORK).where(ERASURE_WORK.c.number.in_(numbers)).values(begun_ms=now_ms, done_ms=0)
            )

    def worked(self, number: int, store: str, removed: int, now_ms: int, *, place: str = "", done: bool) -> None:
        """Note that so much more was removed from a store for an erasure, and whether that was all."""
        at = ERASURE_WORK.c
        with self._catalog.writing() as connection:
            here = (at.number == number) & (at.store == store) & (at.place == place)
            before = connection.execute(select(ERASURE_WORK).where(here).with_for_update()).first()
            row = {
                "number": number,
                "store": store,
                "place": place,
                "removed": removed + (before.removed if before else 0),
                "begun_ms": before.begun_ms if before else now_ms,
                "done_ms": now_ms if done else 0,
            }
            self._catalog.put(connection, ERASURE_WORK, [row])

    def work(self, number: int) -> list[Work]:
        """What was done for an erasure, by store and place."""
        at = ERASURE_WORK.c
        wanted = select(at.store, at.place, at.removed, at.begun_ms, at.done_ms)
        with self._catalog.reading() as connection:
            rows = connection.execute(wanted.where(at.number == number).order_by(at.store, at.place)).all()
        return [Work(*row) for row in rows]

    def done(self, number: int, now_ms: int) -> None:
        """The erasure was carried out everywhere."""
        with self._catalog.writing() as connection:
            _counted(connection)
            connection.execute(update(ERASURES).where(ERASURES.c.number == number).values(done_ms=now_ms))

    def take_over(self, theirs: Rules) -> list[int]:
        """Have the rules of a catalog that was backed up in force here too; the numbers of those that were not.

        A limit that is set here stays; of two floors the later one counts. Erasures are carried out here anew. They and
        the holds follow those of here, in their own order, so a hold that comes spares nothing that was erased here.
        Numbers stay where there are none.
        """
        with self._catalog.writing() as connection:
            # Locks the rules: nobody else changes one until the end.
            connection.execute(update(META).where(META.c.name == _COUNTER).values(value=META.c.value))
            erased = {_identity(_erasure(row)) for row in connection.execute(select(ERASURES))}
            held = {_identity(_hold(row)) for row in connection.execute(select(HOLDS))}
            new: list[Erasure | Hold] = [
                *(one for one in theirs.erasures if _identity(one) not in erased),
                *(one for one in theirs.holds if _identity(one) not in held),
            ]
            numbers = []
            for one in sorted(new, key=lambda one: one.number):
                counted = _counted(connection)
                number = counted if erased or held else one.number
                self._put_rule(connection, replace(one, number=number))
                numbers.append(number)
            for kind, limits in ((DAYS, theirs.days), (BYTES, theirs.bytes)):
                ours = set(connection.scalars(select(_LIMITS[kind].c.camera)))
                for camera, limit in limits.items():
                    if camera not in ours:
                        _counted(connection)
                        self._catalog.put(connection, _LIMITS[kind], [{"camera": camera, kind: limit}])
            if theirs.floors:
                _counted(connection)
                self._raise(connection, theirs.floors)
            if numbers:
                counter = META.c.name == _COUNTER
                at_least = (META.c.value < max(numbers)) & counter
                connection.execute(update(META).where(at_least).values(value=max(numbers)))
        return numbers

    def _put_rule(self, connection: Connection, one: Erasure | Hold) -> None:
        row = _columns(one.number, one.stretch, one.reason)
        if isinstance(one, Hold):
            self._catalog.put(connection, HOLDS, [{**row, "placed_ms": one.placed_ms, "lifted_ms": 0}])
        else:
            more = {"moment": one.moment, "asked_ms": one.asked_ms, "done_ms": 0}
            self._catalog.put(connection, ERASURES, [{**row, **more}])

    def trust(self, now_ms: int) -> None:
        """The clock is known to be right now. No rule changes."""
        with self._catalog.writing() as connection:
            self._catalog.put(connection, META, [{"name": _CLOCK, "value": now_ms}])

    def clock_ms(self) -> int | None:
        """The time by the store's own clock; None where that is this machine's."""
        with self._catalog.reading() as connection:
            if connection.dialect.name != "postgresql":
                return None
            found = connection.scalar(select(extract("epoch", func.clock_timestamp())))
        return None if found is None else round(found * 1000)

    def key(self, name: str, new: bytes) -> bytes:
        """The key with this name; `new` where there was none."""
        with self._catalog.writing() as connection:
            self._catalog.add(connection, KEYS, {"name": name, "value": new})
            found: bytes = connection.scalar(select(KEYS.c.value).where(KEYS.c.name == name)) or new
        return found


def _identity(one: Erasure | Hold) -> tuple[object, ...]:
    """What stays the same in another catalog."""
    if isinstance(one, Hold):
        return one.stretch, one.reason, one.placed_ms
    return one.stretch, one.moment, one.reason, one.asked_ms


def _named(camera: str) -> str:
    return camera if camera == DEFAULT else camera_name(camera)


def _check(stretch: Stretch, reason: str) -> None:
    camera_name(stretch.camera)
    if not 0 <= stretch.start_ms < stretch.end_ms <= ALWAYS_MS:
        raise Invalid("the time does not end after it begins", todo="give --from before --to")
    if len(reason) > _MOST_REASON:
        raise Invalid(f"the reason has {len(reason)} characters", todo=f"give at most {_MOST_REASON}")


def _columns(number: int, stretch: Stretch, reason: str) -> dict[str, Any]:
    times = {"start_ms": stretch.start_ms, "end_ms": stretch.end_ms}
    return {"number": number, "camera": stretch.camera, **times, "reason": reason}


def _counted(connection: Connection) -> int:
    """Count one more change. From here on to the end of the transaction nobody else changes a rule."""
    counter = META.c.name == _COUNTER
    connection.execute(update(META).where(counter).values(value=META.c.value + 1))
    found: int | None = connection.scalar(select(META.c.value).where(counter))
    if found is None:
        raise Broken("the catalog does not count its rules' changes", todo="restore it from a backup")
    return found


def _erasure(row: Row[Any]) -> Erasure:
    stretch = Stretch(row.camera, row.start_ms, row.end_ms)
    return Erasure(row.number, stretch, row.moment, row.reason, row.asked_ms, row.done_ms)


def _hold(row: Row[Any]) -> Hold:
    return Hold(row.number, Stretch(row.camera, row.start_ms, row.end_ms), row.reason, row.placed_ms)
