"""This process's place in the fleet: it tells that it lives, and which cameras are its own to watch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from cameras.black_box import LeftBehind
from cameras.crashing import CALM_MS
from cameras.holder import host_of, is_gone
from cameras.placing import Wanted, placed
from catalog.fleet import Crash, Member, Seen
from proto.metrics import FLEET_PROCESSES
from proto.types import Camera, now_ms

log = logging.getLogger("watchword.cameras")


class FleetStore(Protocol):
    """Where the fleet is told. Blocks; raises an error of the tree when it is away."""

    def tell(self, member: Member, now_ms: int, for_ms: int) -> None:
        """It lives now, and for so long unless it tells again."""

    def leave(self, holder: str) -> None:
        """It lives no more, and holds no camera."""

    def crashed(self, camera: str, at_ms: int, mark: str, calm_ms: int) -> None:
        """A process crashed on the camera."""

    def seen(self, now_ms: int) -> Seen:
        """Who lives now, who holds which camera, what each costs, and on which ones a process crashed."""


class Place:
    """What this process is to watch, as it was when it looked last. While the store is away that stays so.

    `look` and `leave` block and are to be called by one thread at a time; the rest is for the event loop.
    """

    def __init__(
        self,
        store: FleetStore,
        holder: str,
        site: str,
        lease_s: float,
        left_behind: Callable[[], Iterable[LeftBehind]] = tuple,
    ) -> None:
        """`left_behind`: what processes of this machine that crashed left."""
        self._store = store
        self._left_behind = left_behind
        self._began = False
        self._me = Member(holder, host_of(holder), site)
        self._lease_s = lease_s
        self._tell_s = self._look_s = 0.0
        self._cameras: Mapping[str, Camera] = {}
        self._of: Mapping[str, str] = {}
        self._costs: Mapping[str, float] = {}
        self._free: frozenset[str] = frozenset()
        self._crashes: Mapping[str, Crash] = {}
        self._hosts: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """What people call this process."""
        return self._me.host

    def mine(self, camera: str) -> bool:
        """Whether this process is to watch the camera."""
        return self._of.get(camera) == self._me.holder

    def of(self, camera: str) -> str | None:
        """Who is to watch the camera."""
        return self._of.get(camera)

    def cost(self, camera: str) -> float:
        """What the camera costs, in cores; 0: not known."""
        return self._costs.get(camera, 0.0)

    def crashes(self) -> Mapping[str, Crash]:
        """The cameras on which a process crashed."""
        return self._crashes

    def all_mine(self) -> frozenset[str]:
        """The cameras that this process is to watch."""
        return frozenset(name for name, holder in self._of.items() if holder == self._me.holder)

    def takes(self) -> Collection[str]:
        """The cameras whose leases are to be taken: its own, but those that another one is about to hand over."""
        return self._free

    def look(self, cameras: Mapping[str, Camera]) -> None:
        """Tell that it lives, and look who else does: once a second, and at once when the cameras are others."""
        now_s = time.monotonic()
        if now_s >= self._tell_s:
            self._store.tell(self._me, now_ms(), round(self._lease_s * 1000))
            self._tell_s = now_s + self._lease_s / 3
        if now_s < self._look_s and cameras == self._cameras:
            return
        if not self._began:
            self._tell_crashes()
            self._began = True
        seen = self._store.seen(now_ms())
        if gone := {one for one in (*_living(seen), *seen.held.values()) if is_gone(one)}:
            self._tell_crashes()  # before anybody takes the camera that did it
            for holder in gone:
                log.info("the camera process %s is gone; its cameras are free", host_of(holder))
                self._store.leave(holder)
            seen = self._store.seen(now_ms())
        self._look_s, self._cameras = now_s + min(1.0, self._lease_s / 10), cameras
        self._place(seen)

    def leave(self) -> None:
        """Leave the fleet; the others take the cameras at once."""
        self._store.leave(self._me.holder)

    def _tell_crashes(self) -> None:
        for one in self._left_behind():
            self._store.crashed(one.camera, one.at_ms, one.mark, CALM_MS)

    def _place(self, seen: Seen) -> None:
        sites = {**_living(seen), self._me.holder: self._me.site}
        wanted = {name: Wanted(one.site, seen.costs.get(name, 0.0)) for name, one in self._cameras.items()}
        self._crashes = seen.crashes  # first: what is to be watched is never known without it
        self._of, self._costs = placed(wanted, sites, seen.held), seen.costs
        others = sites.keys() - {self._me.holder}
        self._free = frozenset(
            name for name, holder in self._of.items() if holder == self._me.holder and seen.held.get(name) not in others
        )
        FLEET_PROCESSES.set(len(sites))
        hosts = tuple(sorted({*(one.host for one in seen.members), self._me.host}))
        if hosts != self._hosts:
            log.info("the fleet has %d camera processes: %s", len(hosts), ", ".join(hosts))
        self._hosts = hosts


def _living(seen: Seen) -> dict[str, str]:
    return {one.holder: one.site for one in seen.members}
