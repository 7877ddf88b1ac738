"""Which cameras this process may watch: one at a time holds a camera's lease."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Protocol

from cameras.outage import Outage
from catalog.fleet import lease_of
from proto.errors import WatchwordError
from proto.types import now_ms

log = logging.getLogger("watchword.cameras")

_SURE = 0.8
"""A lease counts for so much of its length, so that the camera is let go before another process may take it."""
_AGAIN_S = 0.5
_STOP_S = 2.0


class LeaseStore(Protocol):
    """Where leases are kept. Blocks; raises an error of the tree when it is away."""

    def take_all(self, names: Iterable[str], holder: str, now_ms: int, for_ms: int) -> Collection[str]:
        """Take or renew the leases, in one transaction. Gives those that are the holder's now."""

    def give_back(self, name: str, holder: str) -> None:
        """End the lease, if it is this holder's."""

    def hand_over(self, name: str, holder: str, to: str, now_ms: int, for_ms: int) -> None:
        """Make it another holder's, if it is this one's."""


class Holding:
    """Takes and renews the leases of cameras, every third of their length.

    How long a lease holds is measured by the monotonic clock from before it was asked for, so a store that hangs does
    not make it longer. The store compares wall clocks: those of hosts that share it must agree to a few seconds.
    """

    def __init__(self, leases: LeaseStore, holder: str, lease_s: float) -> None:
        self._leases = leases
        self._holder = holder
        self._lease_s = lease_s
        self._for_ms = round(lease_s * 1000)
        self._until_s: dict[str, float] = {}
        self._due_s: dict[str, float] = {}
        self._elsewhere: set[str] = set()
        self.asking = asyncio.Lock()
        self._outage = Outage("the catalog", "no camera's lease can be renewed, and each is let go when its lease ends")

    def holds(self, camera: str) -> bool:
        """Whether this process may watch the camera now."""
        return time.monotonic() < self._until_s.get(camera, 0.0)

    async def keep(self, wanted: Callable[[], Collection[str]]) -> None:
        """Take the leases of the cameras that are wanted, and renew them, until cancelled."""
        while True:
            async with self.asking:
                now_s = time.monotonic()
                due = [camera for camera in wanted() if self._due_s.get(camera, 0.0) <= now_s]
                if due:
                    # Whoever cancels this waits for the call, so that no lease is taken behind its back.
                    await finished(asyncio.to_thread(self.ask, due))
            await asyncio.sleep(min(0.25, self._lease_s / 12))

    async def give_back(self, camera: str, to: str | None = None) -> None:
        """Let another process take the camera at once. With `to`, it is that one's from now on."""
        async with self.asking:
            self._due_s.pop(camera, None)
            self._elsewhere.discard(camera)
            if self._until_s.pop(camera, None) is None:
                return
            try:
                await asyncio.to_thread(self._give, camera, to)
            except WatchwordError as error:
                self._outage.failed(error)  # it ends by itself

    def ask(self, cameras: list[str]) -> None:
        """Take or renew the leases of these cameras. Blocks."""
        asked_s = time.monotonic()
        try:
            taken = self._leases.take_all(map(lease_of, cameras), self._holder, now_ms(), self._for_ms)
        except WatchwordError as error:
            self._outage.failed(error)
            again_s = time.monotonic() + min(_AGAIN_S, self._lease_s / 8)
            self._due_s.update(dict.fromkeys(cameras, again_s))
            return
        self._outage.worked()
        for camera in cameras:
            mine = lease_of(camera) in taken
            self._due_s[camera] = asked_s + self._lease_s / (3 if mine else 8)
            if mine:
                self._until_s[camera] = asked_s + _SURE * self._lease_s
                self._elsewhere.discard(camera)
            else:
                self._until_s.pop(camera, None)
                if camera not in self._elsewhere:
                    log.warning("camera %s is watched by another process", camera)
                self._elsewhere.add(camera)

    def _give(self, camera: str, to: str | None) -> None:
        if to is None:
            self._leases.give_back(lease_of(camera), self._holder)
        else:
            self._leases.hand_over(lease_of(camera), self._holder, to, now_ms(), self._for_ms)


async def finished(work: Coroutine[Any, Any, None]) -> None:
    """Wait for the work, also when cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_STOP_S)
        raise
