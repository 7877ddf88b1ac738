"""What a process knows of the rows of a bucket, as of one transaction. Never changes: a later one is another view.

Rows that have codes are the *base*, in the order of their slots; later rows are the *tail*. An entry of the base counts
as long as no transaction after that of the codes touched its slot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from index.filters import Filter
from index.scan.codes import Codes
from index.scan.masks import Columns, Mask, Names, Numbers, passing
from index.scan.rows import Changes
from index.scan.tables import COLUMNS

_MOST_MASKS = 4
"""Questions come with the same filter again and again: most ask about everything that is not gone."""


@dataclass(frozen=True, slots=True)
class Told:
    """Rows, in the order of their slots."""

    slot: Numbers
    stamp: Numbers
    moment: Numbers
    row: Numbers
    columns: Columns

    @classmethod
    def of(cls, table: NDArray[np.int64]) -> Told:
        """From rows with COLUMNS."""
        by_name = dict(zip(COLUMNS, np.ascontiguousarray(table.T), strict=True))
        own = {name: by_name.pop(name) for name in ("slot", "stamp", "moment", "row")}
        return cls(**own, columns=Columns(**by_name))

    def table(self) -> NDArray[np.int64]:
        """The rows with COLUMNS."""
        rest = self.columns
        own = (self.slot, self.stamp, self.moment, self.row)
        return np.stack([*own, rest.camera, rest.start_ms, rest.end_ms, rest.kinds], axis=1)

    def __len__(self) -> int:
        return len(self.slot)


NO_ROWS = Told.of(np.empty((0, len(COLUMNS)), np.int64))


class Base:
    """The rows that were there when codes were made, and the codes, unless the bucket stays exact."""

    def __init__(self, stamp: int, told: Told, codes: Codes | None, depth: int, made_ms: int) -> None:
        self.stamp = stamp
        self.told = told
        self.codes = codes
        self.depth = depth
        """So many of the best by the codes are compared exactly."""
        self.made_ms = made_ms
        self._masks: OrderedDict[Filter, Mask] = OrderedDict()

    def passing(self, names: Names, which: Filter) -> Mask:
        """Which entries pass, whether they still count or not."""
        known = self._masks.get(which)
        if known is None:
            # A name that came after the codes is of no entry.
            known = self._masks[which] = passing(self.told.columns, names, which)
            while len(self._masks) > _MOST_MASKS:
                self._masks.popitem(last=False)
        return known


NO_BASE = Base(0, NO_ROWS, None, 0, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of the base or of the tail that pass a filter."""

    told: Told
    mask: Mask
    codes: Codes | None
    depth: int


@dataclass(frozen=True, slots=True)
class View:
    """The rows of a bucket."""

    stamp: int = 0
    codes: int = 0
    """What the bucket's state says of the codes. The base may be without them, when they could not be read."""
    names: Names = field(default_factory=Names)
    base: Base = NO_BASE
    counts: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    """Which entries of the base still count."""
    tail: Told = NO_ROWS

    def parts(self, which: Filter) -> Iterator[Part]:
        """The rows that pass."""
        if len(self.base.told):
            mask = self.base.passing(self.names, which) & self.counts
            yield Part(self.base.told, mask, self.base.codes, self.base.depth)
        if len(self.tail):
            yield Part(self.tail, passing(self.tail.columns, self.names, which), None, 0)

    def everything(self) -> Told:
        """All rows that count."""
        both = np.concatenate([self.base.told.table()[self.counts], self.tail.table()])
        return Told.of(both[np.argsort(both[:, 0], kind="stable")])

    def on(self, base: Base, codes: int) -> View:
        """A view of the base alone, as if nothing was changed since."""
        return View(base.stamp, codes, self.names, base, np.ones(len(base.told), np.bool_))

    def after(self, changes: Changes) -> View:
        """The view with these changes, which are those after it."""
        names = self.names
        if changes.cameras or changes.kinds:
            names = Names((*names.cameras, *changes.cameras), (*names.kinds, *changes.kinds))
        touched = np.concatenate([changes.rows[:, 0], changes.freed])
        counts, tail = self.counts, self.tail
        if len(touched):
            counts = _without(counts, self.base.told.slot, touched)
            old = tail.table()[~np.isin(tail.slot, touched)]
            both = np.concatenate([old, changes.rows])
            tail = Told.of(both[np.argsort(both[:, 0], kind="stable")])
        return replace(self, stamp=changes.state.stamp, names=names, counts=counts, tail=tail)


def _without(counts: Mask, slots: Numbers, touched: Numbers) -> Mask:
    """`counts`, but for the entries of touched slots."""
    if not len(slots):
        return counts
    places = np.minimum(np.searchsorted(slots, touched), len(slots) - 1)
    places = places[slots[places] == touched]
    if not counts[places].any():
        return counts
    counts = counts.copy()
    counts[places] = False
    return counts
