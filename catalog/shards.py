"""The map of shards, as rows: names, addresses, and where each slot's moments lie."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select, update

from catalog.store import Catalog
from catalog.tables import META, SHARD_SLOTS, SHARDS
from proto.errors import Broken, Invalid, Transient
from proto.shards import ACTIVE, DRAINING, GONE, ShardEntry, ShardMap, Slot, check_name, first_map, named

_COUNTER = "shards"
_CLUSTER = "shards_cluster"

Check = Callable[[Mapping[str, ShardEntry], Mapping[str, ShardEntry]], None]
"""Raises when the shards must not become what they would be: by name, as they are and as they would be."""


class Shards:
    """The map of a catalog. Safe for many threads and processes. Methods block; changes are durable and atomic.

    Each change is counted, and the slots that it concerns are stamped with the count, their epoch. What was read is
    kept, so that reading again costs one small query, and the slots that changed.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._known = ShardMap(-1)

    def map(self) -> ShardMap:
        """The map now; without shards before `take_over`."""
        with self._lock:
            with self._catalog.reading() as connection:
                epoch, cluster = _counts(connection)
                if epoch == self._known.epoch:
                    return self._known
                # Fewer changes than before: the catalog was restored, and everything may be different.
                since = self._known.epoch if epoch > self._known.epoch and cluster == self._known.cluster else -1
                slots = list(self._known.slots) if since >= 0 else []
                _put_in(slots, _slots(connection, since))
                self._known = ShardMap(epoch, cluster, _shards(connection), slots)
            return self._known

    def take_over(self, endpoints: Sequence[str], check: Check = lambda _, __: None) -> list[str]:
        """Make the settings' list of addresses, each with or without a name, part of the map; what was changed.

        The first time this makes the map: every camera stays where it was hashed to. Later a name that is new is a new
        shard, and a name with another address than the settings had before is at that address now. What `check` raises
        leaves the map as it was.
        """
        with self._catalog.writing() as connection:
            epoch = _counted(connection)
            shards = _shards(connection)
            wanted = dict.fromkeys(map(named, endpoints))
            _check_unlike(wanted)
            if not shards:
                return self._first(connection, list(wanted), epoch, check) if wanted else []
            changes = _settled(shards, list(wanted))
            check(shards, shards | {entry.name: entry for entry, _ in changes})
            self._put(connection, [entry for entry, _ in changes])
            return [what for _, what in changes if what]

    def add(self, name: str, address: str) -> None:
        """A new shard, one that was gone, or one that is to be drained no more. It gets cameras by rebalancing."""
        check_name(name)
        address = address.rstrip("/")
        with self._catalog.writing() as connection:
            _counted(connection)
            shards = _shards(connection)
            _check_free(shards, name, address)
            there = shards.get(name)
            if there is not None and there.state == ACTIVE:
                raise Invalid(f"there is a shard {name} already", todo="choose another name")
            if there is not None and there.state == DRAINING and there.address != address:
                raise Invalid(
                    f"shard {name} is at {there.address}", todo=f"watchword index shards address {name} {address}"
                )
            entry = ShardEntry(name, address) if there is None else replace(there, address=address, state=ACTIVE)
            self._put(connection, [entry])

    def move_to(self, name: str, address: str) -> None:
        """The same shard has another address now."""
        address = address.rstrip("/")
        with self._catalog.writing() as connection:
            epoch = _counted(connection)
            shards = _shards(connection)
            entry = ShardMap(epoch, 0, shards).get(name)
            _check_free(shards, name, address)
            self._put(connection, [replace(entry, address=address)])

    def drain(self, name: str) -> None:
        """Have rebalancing empty it."""
        with self._catalog.writing() as connection:
            epoch = _counted(connection)
            shards = _shards(connection)
            entry = ShardMap(epoch, 0, shards).get(name)
            if not any(one.state == ACTIVE for one in shards.values() if one.name != name):
                raise Invalid(
                    f"{name} is the only active shard", todo="add another: `watchword index shards add NAME ADDRESS`"
                )
            self._put(connection, [replace(entry, state=DRAINING)])

    def remove(self, name: str) -> None:
        """It is gone. Invalid while moments may lie there by the map."""
        with self._catalog.writing() as connection:
            epoch = _counted(connection)
            entry = ShardMap(epoch, 0, _shards(connection)).get(name)
            if entry.state != DRAINING or any(name in slot.places for _, slot in _slots(connection, -1)):
                raise Invalid(
                    f"shard {name} holds moments, or may get some",
                    todo=f"`watchword index shards drain {name}`, then `watchword index rebalance`",
                )
            # Its mark may be used again, by its own name only.
            self._put(connection, [replace(entry, state=GONE)])

    def marked(self, name: str) -> None:
        """The store behind its address has its mark."""
        with self._catalog.writing() as connection:
            _counted(connection)
            connection.execute(update(SHARDS).where(SHARDS.c.name == name).values(marked=True))

    def begin(self, numbers: Collection[int], to: str) -> None:
        """These slots go to that shard: it is asked from now on."""

        def begun(slot: Slot) -> Slot:
            if slot.coming or slot.now == to or (slot.also and not slot.unsure):
                raise _Changed
            return slot.begun(to)

        self._change(numbers, begun)

    def switch(self, numbers: Collection[int], to: str) -> None:
        """They are written to where they were going."""

        def switched(slot: Slot) -> Slot:
            if slot.coming != to:
                raise _Changed
            return slot.switched()

        self._change(numbers, switched)

    def finish(self, numbers: Collection[int], name: str) -> None:
        """Nothing of these slots is left on that shard, where they were before."""

        def without(slot: Slot) -> Slot:
            if name in (slot.now, slot.coming):
                raise _Changed
            return slot.without(name)

        self._change(numbers, without)

    def found(self, numbers: Collection[int], name: str) -> None:
        """Moments of these slots were found on that shard, where nobody would have looked."""
        self._change(numbers, lambda slot: slot if name in slot.places else slot.with_also(name))

    def _change(self, numbers: Collection[int], changed: Callable[[Slot], Slot]) -> None:
        with self._catalog.writing() as connection:
            epoch = _counted(connection)
            slots = dict(_slots(connection, -1))
            try:
                rows = [_row(number, replace(changed(slots[number]), epoch=epoch)) for number in sorted(numbers)]
            except (_Changed, KeyError):
                raise Transient("somebody else moves these cameras", todo="`watchword index rebalance` again") from None
            self._catalog.put(connection, SHARD_SLOTS, rows)

    def _first(
        self, connection: Connection, wanted: list[tuple[str | None, str]], epoch: int, check: Check
    ) -> list[str]:
        taken = {name for name, _ in wanted}
        free = (name for number in range(1, 2 + 2 * len(wanted)) if (name := f"shard-{number}") not in taken)
        made = first_map([(name or next(free), address, address) for name, address in wanted], secrets.randbits(62) + 1)
        check({}, made.shards)
        self._put(connection, list(made.shards.values()))
        self._catalog.put(
            connection, SHARD_SLOTS, [_row(n, replace(slot, epoch=epoch)) for n, slot in enumerate(made.slots)]
        )
        self._catalog.put(connection, META, [{"name": _CLUSTER, "value": made.cluster}])
        return [f"the shard at {one.address} is named {one.name}" for one in made.shards.values()]

    def _put(self, connection: Connection, entries: Sequence[ShardEntry]) -> None:
        rows = [{column.name: getattr(entry, column.name) for column in SHARDS.columns} for entry in entries]
        self._catalog.put(connection, SHARDS, rows)


class _Changed(Exception):
    """A slot is not as the caller thinks it is."""


def _settled(shards: dict[str, ShardEntry], wanted: list[tuple[str | None, str]]) -> list[tuple[ShardEntry, str]]:
    """The entries that the settings change, and what that is in words; empty where nobody need know."""
    changes: list[tuple[ShardEntry, str]] = []
    serving = [one for one in shards.values() if one.state != GONE]
    for given, address in wanted:
        name = given or _name_at(serving, address, alone=len(wanted) == 1)
        there = shards.get(name)
        if there is None:
            _check_free(shards, name, address)
            changes.append((ShardEntry(name, address, told=address), f"{address} is the new shard {name}"))
        elif there.state == GONE:
            raise Invalid(
                f"milvus.endpoints has shard {name}, which was removed",
                todo=f"take it out, or add it again: `watchword index shards add {name} {address}`",
            )
        elif there.told != address:
            if there.address != address:
                _check_free(shards, name, address)
            what = "" if there.address == address else f"shard {name} is at {address} now, and was at {there.address}"
            changes.append((replace(there, address=address, told=address), what))
    return changes


def _name_at(serving: list[ShardEntry], address: str, *, alone: bool) -> str:
    """The shard that an address without a name means. If it is the only one on both sides, it is the same."""
    found = [one for one in serving if address in (one.address, one.told)]
    if not found and alone and len(serving) == 1:
        found = serving
    if not found:
        raise Invalid(
            f"milvus.endpoints has {address}, and no shard has this address",
            todo="write NAME=ADDRESS: `watchword index shards list` shows the names; a new name is a new shard",
        )
    return found[0].name


def _check_unlike(wanted: Collection[tuple[str | None, str]]) -> None:
    for which, what in ((1, "address"), (0, "name")):
        given = [one[which] for one in wanted if one[which] is not None]
        twice = sorted({one for one in given if one is not None and given.count(one) > 1})
        if twice:
            raise Invalid(f"milvus.endpoints has the {what} {twice[0]} twice", todo="give each shard its own")


def _check_free(shards: dict[str, ShardEntry], name: str, address: str) -> None:
    for other in shards.values():
        if other.address == address and other.name != name and other.state != GONE:
            raise Invalid(f"{address} is the address of shard {other.name}", todo="give each shard a Milvus of its own")


def _counts(connection: Connection) -> tuple[int, int]:
    rows = connection.execute(select(META.c.name, META.c.value).where(META.c.name.in_([_COUNTER, _CLUSTER])))
    found = {row.name: row.value for row in rows}
    return found.get(_COUNTER, 0), found.get(_CLUSTER, 0)


def _counted(connection: Connection) -> int:
    """Count one more change. From here on to the end of the transaction nobody else changes the map."""
    counter = META.c.name == _COUNTER
    connection.execute(update(META).where(counter).values(value=META.c.value + 1))
    found: int | None = connection.scalar(select(META.c.value).where(counter))
    if found is None:
        raise Broken("the catalog does not count its shards' changes", todo="restore it from a backup")
    return found


def _shards(connection: Connection) -> dict[str, ShardEntry]:
    return {row.name: ShardEntry(**row._asdict()) for row in connection.execute(select(SHARDS).order_by(SHARDS.c.name))}


def _slots(connection: Connection, since: int) -> list[tuple[int, Slot]]:
    at = SHARD_SLOTS.c
    rows = connection.execute(select(SHARD_SLOTS).where(at.epoch > since).order_by(at.number))
    return [
        (row.number, Slot(row.now, tuple(row.also.split()), row.coming, bool(row.unsure), row.epoch)) for row in rows
    ]


def _put_in(slots: list[Slot], changed: list[tuple[int, Slot]]) -> None:
    for number, slot in changed:
        if number == len(slots):
            slots.append(slot)
        else:
            slots[number] = slot


def _row(number: int, slot: Slot) -> dict[str, Any]:
    return {
        "number": number,
        "now": slot.now,
        "also": " ".join(slot.also),
        "coming": slot.coming,
        "unsure": slot.unsure,
        "epoch": slot.epoch,
    }
