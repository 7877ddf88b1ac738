"""Reads the background samples that scores are judged by. An answer waits for them once, and then not for long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from catalog.backgrounds import Background, Backgrounds
from proto.access import EVERYTHING, Scope
from proto.errors import WatchwordError
from proto.types import SpaceInfo, Vectors
from query.aside import Aside
from query.confidence import Known, Sample, Words

log = logging.getLogger("watchword.query")

_READS_AT_ONCE = 2
_MOST_READING = 8
"""Most reads under way or waiting; while the catalog hangs, further ones are not begun."""
_FRESH_S = 15.0
"""A background that was read longer ago is read again, beside the answer that it serves."""
_STALE_S = 300.0
"""One that could not be read again for so long no longer counts: the camera may have been turned."""
_POOL_MOMENTS = 500
"""Most moments in the pool, evenly over its cameras."""
_MOST_CAMERAS = 64
"""Most cameras of one answer that are judged by backgrounds of their own; the others by the pool."""
_MOST_POOLS = 64
"""Most pools: one for each scope of those who ask."""
_MOST_BYTES = 64 * 1024 * 1024
"""Most memory for backgrounds of single cameras."""


@dataclass(slots=True)
class _Read:
    """What was read, and when."""

    sample: Sample | None
    at_s: float


@dataclass(slots=True)
class _Shelf:
    """The cameras' samples, the least recently used first."""

    by_camera: dict[str, _Read] = field(default_factory=dict)

    def put(self, camera: str, read: _Read) -> None:
        self.by_camera.pop(camera, None)
        self.by_camera[camera] = read
        while self._bytes() > _MOST_BYTES or len(self.by_camera) > 10 * _MOST_CAMERAS:
            del self.by_camera[next(iter(self.by_camera))]

    def _bytes(self) -> int:
        return sum(read.sample.rows.nbytes for read in self.by_camera.values() if read.sample is not None)


class BackgroundReader:
    """Keeps the backgrounds of one space in memory for some seconds."""

    def __init__(
        self, backgrounds: Backgrounds, space: SpaceInfo, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backgrounds = backgrounds
        self._space = space
        self._clock = clock
        self._aside = Aside(_READS_AT_ONCE, "backgrounds")
        self._pools: dict[Scope, _Read] = {}
        self._shelf = _Shelf()
        self._reading: dict[Scope | frozenset[str], tuple[asyncio.Task[None], float]] = {}
        self._failing = False

    async def known(
        self, cameras: Sequence[str], words: Words | None, timeout_s: float, scope: Scope = EVERYTHING
    ) -> Known:
        """What the scores of these cameras' hits, the best hit's camera first, are judged by.

        The pool is of the cameras in `scope`: what others show has no part in an answer.

        Reads what is missing, for at most `timeout_s`; what is not there by then is left out. What is old is used, and
        read again meanwhile.
        """
        now = self._clock()
        wanted = list(dict.fromkeys(cameras))[:_MOST_CAMERAS]
        old = frozenset(name for name in wanted if self._is_old(self._shelf.by_camera.get(name), now))
        reading = self._refresh(scope, now) if self._is_old(self._pools.get(scope), now) else {}
        reading |= self._refresh(old, now) if old else {}
        # Nobody waits for a read that has been under way for long.
        waited_for = [task for task, begun_s in reading.items() if now - begun_s < timeout_s]
        if waited_for and not self._enough(wanted, scope, now):
            await asyncio.wait(waited_for, timeout=timeout_s)
        pool = self._usable(self._pools.get(scope), self._clock())
        own = {name: self._usable(self._shelf.by_camera.get(name), self._clock()) for name in wanted}
        return Known(pool, {name: sample for name, sample in own.items() if sample is not None}, words)

    async def stop(self) -> None:
        """Give up reading."""
        for task, _ in list(self._reading.values()):
            task.cancel()

    def _enough(self, wanted: Sequence[str], scope: Scope, now: float) -> bool:
        """Whether everything was read at some time, so that nobody needs to wait."""
        reads = [self._pools.get(scope), *(self._shelf.by_camera.get(name) for name in wanted)]
        return all(read is not None and now - read.at_s < _STALE_S for read in reads)

    def _is_old(self, read: _Read | None, now: float) -> bool:
        return read is None or now - read.at_s >= _FRESH_S

    def _usable(self, read: _Read | None, now: float) -> Sample | None:
        return None if read is None or now - read.at_s >= _STALE_S else read.sample

    def _refresh(self, which: Scope | frozenset[str], now: float) -> dict[asyncio.Task[None], float]:
        """The task that reads the pool of a scope or these cameras, and when it began. It may be under way already."""
        if which not in self._reading:
            if len(self._reading) >= _MOST_READING:
                return {}
            task = asyncio.create_task(self._read(which))
            self._reading[which] = task, now
            task.add_done_callback(lambda _: self._reading.pop(which, None))
        task, begun_s = self._reading[which]
        return {task: begun_s}

    async def _read(self, which: Scope | frozenset[str]) -> None:
        space = self._space
        try:
            if isinstance(which, Scope):
                pool = await self._aside.run(lambda: _pool(self._backgrounds.get(space.id, which.cameras), space))
                self._pools.pop(which, None)
                self._pools[which] = _Read(pool, self._clock())
                while len(self._pools) > _MOST_POOLS:
                    del self._pools[next(iter(self._pools))]
            else:
                own = await self._aside.run(lambda: _own(self._backgrounds.get(space.id, which), space))
                for name in which:
                    self._shelf.put(name, _Read(own.get(name), self._clock()))
        except WatchwordError as error:
            if not self._failing:  # once, not at every search
                self._failing = True
                log.warning("backgrounds cannot be read, hits are judged without: %s", error)
            return
        if self._failing:
            self._failing = False
            log.info("backgrounds can be read again")


def _pool(backgrounds: Sequence[Background], space: SpaceInfo) -> Sample | None:
    """A sample of all these cameras, evenly chosen."""
    most = max(1, _POOL_MOMENTS // max(1, len(backgrounds)))
    return Sample.of([rows for one in backgrounds for rows in _evenly(_sound(one, space), most)])


def _own(backgrounds: Sequence[Background], space: SpaceInfo) -> dict[str, Sample]:
    samples = {one.camera: Sample.of(_sound(one, space)) for one in backgrounds}
    return {camera: sample for camera, sample in samples.items() if sample is not None}


def _sound(background: Background, space: SpaceInfo) -> list[Vectors]:
    """The samples that are of this space's dimension."""
    return [rows for rows in background.samples if rows.ndim == 2 and rows.shape[1] == space.dimension]


def _evenly(samples: Sequence[Vectors], most: int) -> list[Vectors]:
    places = np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(int) if samples else ()
    return [samples[place] for place in places]
