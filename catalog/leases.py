"""Leases: one process at a time does a job, and another takes over when its lease ends."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, and_, delete, or_, select, update

from catalog.store import Catalog
from catalog.tables import LEASES

_AT_ONCE = 500
"""Names in one question: databases bound how many parameters it may have."""


class Leases:
    """Named leases. Taking one is atomic across processes; all methods block."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def take(self, name: str, holder: str, now_ms: int, for_ms: int) -> bool:
        """Take or renew the lease (compare-and-set). False while another holder's lease runs."""
        return name in self.take_all([name], holder, now_ms, for_ms)

    def take_all(self, names: Iterable[str], holder: str, now_ms: int, for_ms: int) -> frozenset[str]:
        """Take or renew each of the leases, in one transaction. Gives those that are the holder's now: the others run
        for another one."""
        mine_or_over = or_(LEASES.c.holder == holder, ~runs(LEASES.c.taken_ms, LEASES.c.for_ms, now_ms))
        rows = [{"name": name, "holder": holder, "taken_ms": now_ms, "for_ms": for_ms} for name in sorted(set(names))]
        found: set[str] = set()
        with self._catalog.writing() as connection:
            self._catalog.put(connection, LEASES, rows, where=lambda _: mine_or_over)
            for first in range(0, len(rows), _AT_ONCE):
                asked = [row["name"] for row in rows[first : first + _AT_ONCE]]
                held = select(LEASES.c.name).where(LEASES.c.name.in_(asked), LEASES.c.holder == holder)
                found.update(connection.scalars(held))
        return frozenset(found)

    def give_back(self, name: str, holder: str) -> None:
        """End the lease now, so that another holder need not wait for it to run out. No effect on another's lease."""
        with self._catalog.writing() as connection:
            connection.execute(delete(LEASES).where(LEASES.c.name == name, LEASES.c.holder == holder))

    def hand_over(self, name: str, holder: str, to: str, now_ms: int, for_ms: int) -> None:
        """Make it another holder's, as if that one had taken it now. No effect unless it is this holder's."""
        mine = (LEASES.c.name == name, LEASES.c.holder == holder)
        with self._catalog.writing() as connection:
            connection.execute(update(LEASES).where(*mine).values(holder=to, taken_ms=now_ms, for_ms=for_ms))

    def holder(self, name: str, now_ms: int) -> str | None:
        """Who holds the lease now; None when nobody does."""
        with self._catalog.reading() as connection:
            running = runs(LEASES.c.taken_ms, LEASES.c.for_ms, now_ms)
            return connection.scalar(select(LEASES.c.holder).where(LEASES.c.name == name, running))


def runs(taken: ColumnElement[int], length: ColumnElement[int], now_ms: int) -> ColumnElement[bool]:
    """Whether what was taken then, for so long, has not run out."""
    # A lease taken further in the future than its length dates from before the clock was set back. Without the upper
    # bound it would run for hours.
    return and_(taken > now_ms - length, taken < now_ms + length)
