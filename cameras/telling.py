"""Tells the catalog how the cameras that are watched here are doing, behind the path of frames."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from cameras.crashing import why
from cameras.outage import Outage
from cameras.packet_gate import Gate
from cameras.status import STATES, Counted, StatusWatch
from cameras.watching import Watching
from catalog.fleet import Crash
from catalog.statuses import CameraStatus
from proto.errors import WatchwordError
from proto.metrics import CAMERA_GATES, CAMERA_STATES
from proto.types import now_ms

_EVERY_S = 1.0
_WAITING_S = 4.0
"""How long a camera has to wait yet is told so often."""


class StatusStore(Protocol):
    """Where the status of each camera is kept. Blocks; raises an error of the tree when it is away."""

    def put_statuses(self, statuses: Iterable[CameraStatus]) -> None:
        """Keep them in place of those before."""


class Teller:
    """Looks at every camera once a second. What is new is written at once, the rest every ten seconds.

    So many cameras cost one transaction a second. What the catalog does not take is told the next time.
    """

    def __init__(
        self,
        statuses: StatusStore,
        watched: Callable[[], Collection[Watching]],
        by: str,
        cost: Callable[[str], float],
        waiting: Callable[[], Mapping[str, Crash]] = dict,
    ) -> None:
        """`by`: what this process is called. `cost`: what a camera is known to cost. `waiting`: the cameras that are
        not watched for now, since a process crashed on them."""
        self._statuses = statuses
        self._watched = watched
        self._by = by
        self._cost = cost
        self._waiting = waiting
        self._watches: dict[Watching, StatusWatch] = {}
        self._told_s: defaultdict[str, float] = defaultdict(lambda: float("-inf"))
        self._outage = Outage("the catalog", "how cameras are doing is told later")

    async def keep_telling(self) -> None:
        """Tell until cancelled."""
        while True:
            await self.tell()
            await asyncio.sleep(_EVERY_S)

    async def tell(self) -> None:
        """Look once, and write what is to be told."""
        now = now_ms()
        watched = list(self._watched())
        self._watches = {one: self._watches.get(one) or self._watch_of(one) for one in watched}
        statuses = {one: watch.status(_counted(one), now) for one, watch in self._watches.items()}
        waiting = self._of_waiting(now)
        counts = Counter(status.state for status in (*statuses.values(), *waiting.values()))
        for state in STATES:
            CAMERA_STATES.labels(state=state).set(counts[state])
        gates = Counter(status.gate for status in statuses.values())
        for gate in Gate:
            CAMERA_GATES.labels(state=gate.value).set(gates[gate.value])
        due = {one: status for one, status in statuses.items() if self._watches[one].due(status)}
        now_s = time.monotonic()
        also = {name: status for name, status in waiting.items() if now_s - self._told_s[name] > _WAITING_S}
        if not due and not also:
            return
        try:
            await asyncio.to_thread(self._statuses.put_statuses, [*due.values(), *also.values()])
        except WatchwordError as error:
            self._outage.failed(error)
            return
        self._outage.worked()
        for one, status in due.items():
            self._watches[one].told(status)
        self._told_s.update(dict.fromkeys(also, now_s))

    def _of_waiting(self, now: int) -> dict[str, CameraStatus]:
        waiting = self._waiting()
        for name in self._told_s.keys() - waiting.keys():
            del self._told_s[name]
        return {
            name: CameraStatus(
                name, "failing", crash.at_ms, now, why(crash, now), cost=self._cost(name), watched_by=self._by
            )
            for name, crash in waiting.items()
        }

    def _watch_of(self, watching: Watching) -> StatusWatch:
        name = watching.camera.name
        return StatusWatch(name, watching.fps, watching.began_ms, self._by, self._cost(name))


def _counted(watching: Watching) -> Counted:
    return Counted(
        state=watching.state,
        live=watching.live,
        looked=watching.looked,
        kept=watching.kept,
        failures=watching.failures,
        lost=watching.lost,
        source=watching.source,
        spent_s=watching.spent_s,
    )
