"""Which process of the fleet watches which camera. Pure: every process computes the same from the same rows.

A camera stays where it is while its process lives and reaches it. One without a process goes to the process with the
least to do. Cameras move between living processes only where their loads are far apart, and then until they are even;
between the two thresholds nothing moves, so that costs may vary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median_low

TOO_MUCH = 0.25
"""Loads of two processes further apart than this share of their mean are made even."""
_EVEN = 0.05
"""Until they are apart by no more than this share."""
WORTH = 0.25
"""A camera that costs less than this share of a typical one is not moved to make loads even."""
_LEAST = 5_000
"""No camera counts as cheaper, in millionths of a core: its threads and its connection are not measured."""
_UNMEASURED = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A camera that is to be watched."""

    site: str = ""
    """Where it can be reached from; empty: from anywhere."""
    cost: float = 0.0
    """Processor time that it takes, in cores; 0: not measured, so it counts as a typical one."""


def reaches(process_site: str, camera_site: str) -> bool:
    """Whether a process of this site reaches a camera of that one."""
    return camera_site in ("", process_site)


def placed(cameras: Mapping[str, Wanted], sites: Mapping[str, str], held: Mapping[str, str]) -> dict[str, str]:
    """Which process is to watch each camera. A camera that no process reaches is left out.

    `sites` has the site of each living process, `held` the process that holds each camera now.
    """
    loads = _Loads(cameras, sites)
    for name in sorted(cameras):
        if loads.can_have(held.get(name), name):
            loads.put(name, held[name])
    homeless = cameras.keys() - loads.place.keys()
    for name in sorted(homeless, key=lambda name: (-loads.costs[name], name)):
        reaching = [process for process in loads.total if loads.can_have(process, name)]
        if reaching:
            loads.put(name, min(reaching, key=lambda process: (loads.total[process], process)))
    _make_even(loads)
    return loads.place


def costs_of(cameras: Mapping[str, Wanted]) -> dict[str, int]:
    """What each camera counts, in millionths of a core: whole numbers, so that sums are the same everywhere."""
    measured = {name: max(_LEAST, round(one.cost * 1e6)) for name, one in cameras.items() if one.cost > 0}
    typical = median_low(measured.values()) if measured else _UNMEASURED
    return {name: measured.get(name, typical) for name in cameras}


class _Loads:
    """Who watches what, and how much that is."""

    def __init__(self, cameras: Mapping[str, Wanted], sites: Mapping[str, str]) -> None:
        self.costs = costs_of(cameras)
        self.place: dict[str, str] = {}
        self.total = dict.fromkeys(sorted(sites), 0)
        self._cameras = cameras
        self._sites = sites
        self._of: dict[str, set[str]] = {process: set() for process in sites}
        self._worth = WORTH * median_low(self.costs.values()) if self.costs else 0

    def can_have(self, process: str | None, name: str) -> bool:
        site = self._sites.get(process) if process is not None else None
        return site is not None and reaches(site, self._cameras[name].site)

    def put(self, name: str, process: str) -> None:
        before = self.place.get(name)
        if before is not None:
            self.total[before] -= self.costs[name]
            self._of[before].remove(name)
        self.place[name] = process
        self.total[process] += self.costs[name]
        self._of[process].add(name)

    def move(self, givers: Collection[str], takers: Collection[str], apart: float) -> tuple[str, str, str] | None:
        """A camera, who gives it and who takes it, from who has most to who has least and is `apart` by so much."""
        for giver in sorted(givers, key=lambda process: (-self.total[process], process)):
            for taker in sorted(takers, key=lambda process: (self.total[process], process)):
                if self._gap(giver, taker) <= apart * (self.total[giver] + self.total[taker]) / 2:
                    break  # the others have more to do
                if (name := self._camera_between(giver, taker)) is not None:
                    return name, giver, taker
        return None

    def pairs(self, apart: float) -> list[tuple[str, str]]:
        """Every two processes of which one should give the other something."""
        return [(one, two) for one in self.total for two in self.total if self.move([one], [two], apart)]

    def _gap(self, giver: str, taker: str) -> int:
        return self.total[giver] - self.total[taker]

    def _camera_between(self, giver: str, taker: str) -> str | None:
        """The dearest camera with which the taker does not get more to do than the giver keeps. So nothing is moved for
        a small gain, and who took something gives nothing away again."""
        most = self._gap(giver, taker) / 2
        fitting = [
            name for name in self._of[giver] if self._worth <= self.costs[name] <= most and self.can_have(taker, name)
        ]
        return min(fitting, key=lambda name: (-self.costs[name], name), default=None)


def _make_even(loads: _Loads) -> None:
    """Move cameras from those that have too much to those that have too little; processes between them keep theirs.

    Ends: each move brings two loads closer, and no other one changes.
    """
    while loads.move(loads.total, loads.total, TOO_MUCH) is not None:
        pairs = loads.pairs(TOO_MUCH)
        givers, takers = {giver for giver, _ in pairs}, {taker for _, taker in pairs}
        while (move := loads.move(givers, takers, _EVEN)) is not None:
            name, _, taker = move
            loads.put(name, taker)
