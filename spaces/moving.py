"""Moments are embedded again in another space, the newest first, beside everything else that runs.

A moment has the same id in every space, so what is in the other space already, as full, is passed over: the work may
end at any point and is gone on with by doing it again. What is moved stays in the space that it comes from.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from catalog.backgrounds import MOST_SAMPLES, Background
from index.calls import first
from index.filters import Filter
from index.removal import Holding, Removal
from index.store import MomentStore, fullest, fullness
from proto.errors import Broken, Invalid, Late, Overloaded, Poison, Transient, WatchwordError
from proto.life import Gone, Rules
from proto.types import Moment, Region, Vector, Vectors, now_ms
from spaces.cutting import part_of

log = logging.getLogger("watchword.spaces")

_HOUR_MS = 3_600_000
_AT_ONCE = 32
_MOST_ROWS = 16_000
_TRIES = 6


class Pictures(Protocol):
    """The pictures of moments. Blocks."""

    def all_of(self, moment_id: str) -> list[tuple[int | None, bytes]]:
        """Every picture of the moment, with its instant; its own has none."""


class Encoder(Protocol):
    """Encodes in the other space."""

    async def embed_images(self, images: Sequence[bytes]) -> Sequence[Vector | Poison]:
        """One vector per picture, or why it can never have one."""


class Samples(Protocol):
    """Background samples. Blocks."""

    def get(self, space: str, cameras: frozenset[str] | None = None) -> list[Background]:
        """Those of these cameras."""

    def put(self, space: str, background: Background) -> None:
        """Replace the camera's."""


class Life(Protocol):
    """The rules. Blocks."""

    def rules(self) -> Rules:
        """All in force."""


@dataclass
class Moved:
    """How far it is."""

    moments: int = 0
    """Embedded and stored now."""
    there: int = 0
    """In the other space already."""
    open: int = 0
    """Still going on: they are moved when they are closed."""
    unreadable: int = 0
    """Without a picture that can be read: they stay behind."""
    without_regions: int = 0
    """Regions that were left out, since there is no picture of their instant."""
    gone: int = 0
    """Erased or too old: they stay behind."""
    total: int = 0
    """About how many there are in all."""
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def seen(self) -> int:
        """How many were looked at."""
        return self.moments + self.there + self.open + self.unreadable + self.gone


@dataclass(frozen=True)
class House:
    """What a move works on."""

    rows: Removal
    pictures: Pictures
    samples: Samples
    life: Life


class Move:
    """One move. `run` may be called again, for what came meanwhile."""

    def __init__(
        self,
        house: House,
        old: str,
        store: MomentStore,
        encoder: Encoder,
        *,
        share: float = 0.25,
        say: Callable[[Moved], None] = lambda _: None,
        clock: Callable[[], int] = now_ms,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        """From the space `old` to the store's. The move works this share of the time, and leaves the rest to others."""
        if old == store.space.id:
            raise Invalid(f"the moments are in the space {old} already", todo="name another bundle")
        self._at = house
        self._old = old
        self._store = store
        self._encoder = encoder
        self._share = share
        self._say = say
        self._clock = clock
        self._pause = pause
        self._stopwatch = stopwatch
        self._samples: dict[str, list[tuple[str, Vectors]]] = {}

    async def run(self) -> Moved:
        """Move everything that is not there yet. Raises the errors of the stores; then call it again."""
        found = await self._at.rows.holdings()
        if found.missing:
            raise first(found.missing)
        mine = [one for one in found.known if one.space == self._old]
        moved = Moved(total=sum([await self._at.rows.count(one, Filter()) for one in mine]))
        hours = {
            number
            for one in mine
            for number in range(one.bucket.start_ms // _HOUR_MS, -(-one.bucket.end_ms // _HOUR_MS))
        }
        for number in sorted(hours, reverse=True):
            await self._between(number * _HOUR_MS, (number + 1) * _HOUR_MS, mine, moved)
        await self._put_samples()
        return moved

    async def _between(self, begins: int, end_ms: int, mine: Sequence[Holding], moved: Moved) -> None:
        """Move the moments that begin then; in halves, where they are more than one read gives."""
        here = [one for one in mine if one.bucket.start_ms < end_ms and begins < one.bucket.end_ms]
        which = Filter(starts_from=begins, starts_before=end_ms)
        parts = [await self._at.rows.read(one, which, _MOST_ROWS) for one in here]
        if None in parts and end_ms - begins > 1:
            middle = (begins + end_ms) // 2
            await self._between(middle, end_ms, mine, moved)
            await self._between(begins, middle, mine, moved)
            return
        if None in parts:
            raise Broken(f"more moments begin at {begins} than can be read", todo="look for what else writes there")
        copies = [one for part in parts for one in part or ()]
        moments = sorted(fullest(copies).values(), key=lambda one: one.id, reverse=True)
        moved.total -= len(copies) - len(moments)
        for at in range(0, len(moments), _AT_ONCE):
            begun_s = self._stopwatch()
            await self._patiently(moments[at : at + _AT_ONCE], moved)
            self._say(moved)
            spent_s = self._stopwatch() - begun_s
            await self._pause(spent_s * (1 / self._share - 1))

    async def _patiently(self, moments: Sequence[Moment], moved: Moved) -> None:
        """Move a few; what is away or busy for a moment is asked again."""
        for tries in range(1, _TRIES):
            try:
                return await self._some(moments, moved)
            except (Transient, Overloaded, Late) as error:
                log.info("tried again: %s", error)
                await self._pause(2.0**tries)
        return await self._some(moments, moved)

    async def _some(self, moments: Sequence[Moment], moved: Moved) -> None:
        gone = (await asyncio.to_thread(self._at.life.rules)).gone(self._clock())
        told = Moved()
        there = {one.id: one for one in await self._store.fetch([one.id for one in moments])}
        wanted = [one for one in moments if self._is_wanted(one, there, gone, told)]
        new = await self._embedded(wanted, told)
        failed = await self._store.upsert(new)
        for error in failed.values():
            if not isinstance(error, Invalid):
                raise error
            told.refused[str(error)] += 1
        told.moments = len(new) - len(failed)
        told.unreadable += len(failed)
        for name in ("moments", "there", "open", "unreadable", "without_regions", "gone"):
            setattr(moved, name, getattr(moved, name) + getattr(told, name))
        moved.refused += told.refused
        for one in new:
            if one.id not in failed:
                self._sample(one)

    def _is_wanted(self, one: Moment, there: Mapping[str, Moment], gone: Gone, told: Moved) -> bool:
        if gone.covers(one.camera, one.start_ms, one.end_ms):
            told.gone += 1
        elif one.id in there and fullness(there[one.id]) >= fullness(one):
            told.there += 1
        elif not one.closed:
            told.open += 1
        else:
            return True
        return False

    async def _embedded(self, moments: Sequence[Moment], told: Moved) -> list[Moment]:
        """The moments in the other space; those without a picture are left out."""
        shown = await asyncio.gather(*(asyncio.to_thread(self._pictures_of, one) for one in moments))
        images = [jpeg for pictures in shown for jpeg in pictures if jpeg is not None]
        vectors = iter(await self._encoder.embed_images(images) if images else ())
        new = []
        for one, pictures in zip(moments, shown, strict=True):
            whole, *parts = [None if jpeg is None else _good(next(vectors)) for jpeg in pictures]
            if whole is None:
                told.unreadable += 1
                continue
            regions = [
                replace(region, vector=vector)
                for region, vector in zip(one.regions, parts, strict=True)
                if vector is not None
            ]
            told.without_regions += len(one.regions) - len(regions)
            new.append(replace(one, space=self._store.space.id, vector=whole, regions=tuple(regions)))
        return new

    def _pictures_of(self, moment: Moment) -> list[bytes | None]:
        """The whole picture, and what each region shows; None where there is no picture of it. Blocks."""
        pictures = dict(self._at.pictures.all_of(moment.id))
        own = pictures.get(None)

        def of(region: Region) -> bytes | None:
            jpeg = pictures.get(region.at_ms, own if region.at_ms == moment.peak_ms else None)
            return None if jpeg is None else part_of(jpeg, region.box)

        return [own, *map(of, moment.regions)]

    def _sample(self, moment: Moment) -> None:
        some = self._samples.setdefault(moment.camera, [])
        if len(some) < MOST_SAMPLES:
            some.append((moment.id, np.stack([moment.vector, *(region.vector for region in moment.regions)])))

    async def _put_samples(self) -> None:
        """Give cameras without a background in the other space one, so that confidence has something to judge by."""
        cameras = frozenset(self._samples)
        known = await asyncio.to_thread(self._at.samples.get, self._store.space.id, cameras)
        before = {one.camera: one.view for one in await asyncio.to_thread(self._at.samples.get, self._old, cameras)}
        for camera in sorted(cameras - {one.camera for one in known}):
            names, rows = zip(*self._samples[camera], strict=True)
            background = Background(camera, before.get(camera, 0), tuple(rows), tuple(names))
            await asyncio.to_thread(self._at.samples.put, self._store.space.id, background)


async def drop_space(rows: Removal, space: str) -> int:
    """Delete every bucket of a space; how many they were."""
    found = await rows.holdings()
    if found.missing:
        raise first(found.missing)
    mine = [one for one in found.known if one.space == space]
    for one in mine:
        await rows.drop(one)
    return len(mine)


def _good(vector: Vector | WatchwordError) -> Vector | None:
    return None if isinstance(vector, WatchwordError) else vector
