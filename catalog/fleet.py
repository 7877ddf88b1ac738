"""The fleet: which camera processes live, and which of them holds which camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, select

from catalog.leases import runs
from catalog.store import Catalog
from catalog.tables import CRASHES, FLEET, LEASES, STATUSES

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
class Crash:
    """Camera processes crashed on a camera."""

    count: int
    """How often one after another."""
    at_ms: int
    """When last."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The fleet at one time."""

    members: tuple[Member, ...]
    """Those that live."""
    held: Mapping[str, str]
    """Who holds the lease of each camera that is held, also if it is no member."""
    costs: Mapping[str, float]
    """What each camera costs where it was measured, in cores."""
    crashes: Mapping[str, Crash]
    """The cameras on which a process crashed."""


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

    def crashed(self, camera: str, at_ms: int, mark: str, calm_ms: int) -> None:
        """A process crashed on the camera. `mark` is what this crash is known by: told again, it does not count again.

        One that comes `calm_ms` after the one before counts as the first.
        """
        with self._catalog.writing() as connection:
            known = select(CRASHES.c.count, CRASHES.c.at_ms, CRASHES.c.mark).where(CRASHES.c.camera == camera)
            before, before_ms, told = connection.execute(known.with_for_update()).first() or (0, 0, "")
            if told == mark:
                return
            count = before + 1 if abs(at_ms - before_ms) < calm_ms else 1
            row = {"camera": camera, "count": count, "at_ms": at_ms, "mark": mark}
            self._catalog.put(connection, CRASHES, [row])

    def seen(self, now_ms: int) -> Seen:
        """Who lives now, who holds what, and what it costs: all of one moment, so that processes agree."""
        lives, holds = runs(FLEET.c.seen_ms, FLEET.c.for_ms, now_ms), runs(LEASES.c.taken_ms, LEASES.c.for_ms, now_ms)
        with self._catalog.reading() as connection:
            members = connection.execute(select(FLEET.c.holder, FLEET.c.host, FLEET.c.site).where(lives)).all()
            held = connection.execute(
                select(LEASES.c.name, LEASES.c.holder).where(LEASES.c.name.startswith(_CAMERA), holds)
            ).all()
            costs = connection.execute(select(STATUSES.c.camera, STATUSES.c.cost).where(STATUSES.c.cost > 0)).all()
            crashes = connection.execute(select(CRASHES.c.camera, CRASHES.c.count, CRASHES.c.at_ms)).all()
        return Seen(
            tuple(sorted((Member(*row) for row in members), key=lambda one: one.holder)),
            {name.removeprefix(_CAMERA): holder for name, holder in held},
            {row.camera: row.cost for row in costs},
            {camera: Crash(count, at_ms) for camera, count, at_ms in crashes},
        )


def lease_of(camera: str) -> str:
    """The name of a camera's lease."""
    return f"{_CAMERA}{camera}"
