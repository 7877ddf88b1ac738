"""Reads the coverage of an answer. It never delays the answer: coverage that is late or unreadable is unknown."""

from __future__ import annotations

import asyncio
import logging

from catalog.coverage import Coverage
from catalog.known import KnownCameras
from proto.errors import WatchwordError
from proto.life import NOTHING, Gone
from proto.types import now_ms
from query.aside import Aside
from query.coverage import AskedTime, CoverageTold, first_gap_needed, never_looked_at, told, without

log = logging.getLogger("watchword.query")

_READS_AT_ONCE = 8


class CoverageReader:
    """Reads gaps, marks and cameras, and computes the coverage of one question."""

    def __init__(self, coverage: Coverage, cameras: KnownCameras, behind_s: float) -> None:
        self._coverage = coverage
        self._cameras = cameras
        self._behind_ms = round(behind_s * 1000)
        self._aside = Aside(_READS_AT_ONCE, "coverage")
        self._failing = False

    async def read(
        self,
        cameras: frozenset[str] | None,
        start_ms: int | None,
        end_ms: int | None,
        timeout_s: float,
        gone: Gone = NOTHING,
    ) -> CoverageTold:
        """The coverage of these cameras (None: all) in [start_ms, end_ms), without what is gone of that time. Unknown
        when it cannot be read in time."""
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._aside.run(lambda: self._read(cameras, start_ms, end_ms))
        except (WatchwordError, TimeoutError) as error:
            self._note_failure(str(error) or f"it took longer than {timeout_s:.2g} s")
            return CoverageTold(unknown=True)
        if self._failing:
            self._failing = False
            log.info("coverage can be read again")
        return found if gone.nothing else without(found, gone)

    def _read(self, names: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> CoverageTold:
        # Read the clock first: a mark written meanwhile is newer, which only makes the answer more careful.
        asked = AskedTime(start_ms, end_ms, now_ms())
        cameras = [camera for camera in self._cameras.all() if names is None or camera.name in names]
        looked = self._coverage.looked_until(names)
        declared = self._coverage.gaps(names, first_gap_needed(asked, self._behind_ms), end_ms)
        unseen = never_looked_at(cameras, looked)
        opened = self._coverage.opened(unseen) if unseen else {}
        if unseen and start_ms is not None:
            declared = [gap for gap in declared if gap.camera not in unseen]
            declared += [gap for gap in self._coverage.gaps(unseen, None, end_ms) if gap.camera]
            declared.sort(key=lambda gap: gap.start_ms)
        return told(asked, cameras, looked, opened, declared, self._behind_ms)

    def _note_failure(self, why: str) -> None:
        """Log once, not at every search: the answers report it too."""
        if not self._failing:
            self._failing = True
            log.warning("coverage is unknown, answers say so: %s", why)
