"""A sample of each camera's closed moments, kept in the catalog behind the path of frames.

Which moments stay follows from a hash of their ids: each moment of a view is as likely to be in the sample as any
other, so a long day is represented evenly, and a moment that is stored twice changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from catalog.backgrounds import MOST_SAMPLES, Background
from proto.errors import WatchwordError
from proto.life import NOTHING, Gone
from proto.types import Moment, Vectors, start_of
from stream.moments import Write

log = logging.getLogger("watchword.stream")

EVERY_S = 30.0
"""How often a worker writes what it sampled."""
_CAMERAS_AT_ONCE = 16
"""So many are written at once, which takes the catalog some milliseconds each."""
_MOST_WAITING = 512
"""Moments that wait to be written. While more come, the earliest are left out."""


class Backgrounds(Protocol):
    """Where backgrounds rest. Methods block."""

    def put(self, space: str, background: Background) -> None:
        """Replace the camera's."""

    def get(self, space: str, cameras: frozenset[str] | None = None) -> list[Background]:
        """Those of these cameras."""


Taken = tuple[str, int, dict[str, Vectors]]
"""Camera, view, and vectors by moment."""


@dataclass(slots=True)
class _Camera:
    """What is known of a camera's sample."""

    view: int
    limit: str | None = None
    """Only moments whose rank is less can be in the sample, as far as is known; None: any."""
    waiting: dict[str, Vectors] = field(default_factory=dict)
    """By the moment's id."""


class Sampler:
    """What one worker adds to the backgrounds of its cameras. `offer` never waits; `flush` blocks."""

    def __init__(self, catalog: Backgrounds, space: str) -> None:
        self._catalog = catalog
        self._space = space
        self._cameras: dict[str, _Camera] = {}
        self._fails = False

    def offer(self, writes: Iterable[Write]) -> None:
        """These were stored. Those that are closed may become part of the sample."""
        for write in writes:
            if write.moment.closed and write.finishes:
                self._offer(write.moment, write.view)

    def take(self) -> list[Taken]:
        """A batch of what waits to be written. It is let go of here."""
        names = [name for name, one in self._cameras.items() if one.waiting][:_CAMERAS_AT_ONCE]
        taken = []
        for name in names:
            one = self._cameras.pop(name)
            self._cameras[name] = _Camera(one.view, one.limit)  # behind the others, so that all have their turn
            taken.append((name, one.view, one.waiting))
        return taken

    def flush(self, taken: Sequence[Taken], gone: Gone = NOTHING) -> dict[str, tuple[int, str]]:
        """Write a batch: blocks, and may be called in a thread. Gives the view and the highest rank of full samples.
        Moments that are gone do not get in.

        What the catalog cannot take now is left out, and told once.
        """
        limits: dict[str, tuple[int, str]] = {}
        try:
            cameras = frozenset(name for name, _, _ in taken)
            stored = {one.camera: one for one in self._catalog.get(self._space, cameras)}
            for name, view, sampled in taken:
                fresh = {moment: rows for moment, rows in sampled.items() if not gone.may_be_of(name, start_of(moment))}
                if not fresh:
                    continue
                after = _merged(stored.get(name), name, view, fresh)
                if after is not stored.get(name):
                    self._catalog.put(self._space, after)
                if len(after.moments) == MOST_SAMPLES:
                    limits[name] = view, max(map(_rank, after.moments))
        except WatchwordError as error:
            if not self._fails:
                log.warning("backgrounds are not kept up from now on: %s", error)
            self._fails = True
        else:
            self._fails = False
        return limits

    def learn(self, limits: Mapping[str, tuple[int, str]]) -> None:
        """Take what `flush` gave: moments that cannot become part of a sample need not wait."""
        for name, (view, limit) in limits.items():
            one = self._cameras.get(name)
            if one is not None and one.view == view:
                one.limit = limit

    def _offer(self, moment: Moment, view: int) -> None:
        one = self._cameras.get(moment.camera)
        if one is None or one.view != view:
            one = self._cameras[moment.camera] = _Camera(view)
        if one.limit is not None and _rank(moment.id) >= one.limit:
            return
        one.waiting[moment.id] = np.stack([moment.vector, *(region.vector for region in moment.regions)])
        if len(one.waiting) > MOST_SAMPLES:
            del one.waiting[max(one.waiting, key=_rank)]
        if sum(len(other.waiting) for other in self._cameras.values()) > _MOST_WAITING:
            first = next(other for other in self._cameras.values() if other.waiting)
            del first.waiting[next(iter(first.waiting))]


def _merged(stored: Background | None, name: str, view: int, fresh: dict[str, Vectors]) -> Background:
    """The sample with these moments; `stored` itself when nothing changes."""
    if stored is not None and stored.view != view:
        stored = None
    known = dict(zip(stored.moments, stored.samples, strict=False)) if stored else {}
    stay = sorted({**fresh, **known}, key=_rank)[:MOST_SAMPLES]
    if stored is not None and set(stay) == set(stored.moments):
        return stored
    both = fresh | known
    return Background(name, view, tuple(both[moment] for moment in stay), tuple(stay))


def _rank(moment: str) -> str:
    """The lowest ranks are the sample."""
    return hashlib.blake2b(moment.encode(), digest_size=8).hexdigest()
