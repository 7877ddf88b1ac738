"""The fleet: which camera processes live, and which of them holds which camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, select

from catalog.leases import runs
from catalog.store import Catalog
from catalog.tables import FLEET, LEASES, STATUSES

_CAMERA = "camera/"


@dataclass(frozen=True, slots=True)
class Member:
    """A camera process."""

    holder: str
    """The name under which it holds leases."""
    host: str
    """What people call it."""
    site: str = ""
    """Where it is: it reaches the cameras of this site, and those of none."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The fleet at one time."""

    members: tuple[Member, ...]
    """Those that live."""
    held: Mapping[str, str]
    """Who holds the lease of each camera that is held, also if it is no member."""
    costs: Mapping[str, float]
    """What each camera costs where it was measured, in cores."""


class Fleet:
    """The camera processes of one catalog. All methods block."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def tell(self, member: Member, now_ms: int, for_ms: int) -> None:
        """It lives now, and for so long unless it tells again."""
        row = {"holder": member.holder, "host": member.host, "site": member.site, "seen_ms": now_ms, "for_ms": for_ms}
        with self._catalog.writing() as connection:
            self._catalog.put(connection, FLEET, [row])
            connection.execute(delete(FLEET).where(~runs(FLEET.c.seen_ms, FLEET.c.for_ms, now_ms)))

    def leave(self, holder: str) -> None:
        """It lives no more, and holds no camera."""
        with self._catalog.writing() as connection:
            connection.execute(delete(FLEET).where(FLEET.c.holder == holder))
            connection.execute(delete(LEASES).where(LEASES.c.holder == holder, LEASES.c.name.startswith(_CAMERA)))

    def seen(self, now_ms: int) -> Seen:
        """Who lives now, who holds what, and what it costs: all of one moment, so that processes agree."""
        lives, holds = runs(FLEET.c.seen_ms, FLEET.c.for_ms, now_ms), runs(LEASES.c.taken_ms, LEASES.c.for_ms, now_ms)
        with self._catalog.reading() as connection:
            members = connection.execute(select(FLEET.c.holder, FLEET.c.host, FLEET.c.site).where(lives)).all()
            held = connection.execute(
                select(LEASES.c.name, LEASES.c.holder).where(LEASES.c.name.startswith(_CAMERA), holds)
            ).all()
            costs = connection.execute(select(STATUSES.c.camera, STATUSES.c.cost).where(STATUSES.c.cost > 0)).all()
        return Seen(
            tuple(sorted((Member(*row) for row in members), key=lambda one: one.holder)),
            {name.removeprefix(_CAMERA): holder for name, holder in held},
            {row.camera: row.cost for row in costs},
        )


def lease_of(camera: str) -> str:
    """The name of a camera's lease."""
    return f"{_CAMERA}{camera}"
