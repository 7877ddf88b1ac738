"""A backup is restored into an index of any layout, which may hold something already.

Everything may be repeated: a moment that is there as full is not written, and what is there of facts and pictures
stays. What was erased, on either side, or is too old here stays away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from backup.manifest import File, Manifest
from backup.packing import Picture, moments_unpacked, pictures_unpacked
from backup.place import Place
from backup.settings import BackupSettings
from backup.slices import days_of
from backup.taking import RULES, RULES_AS_JSON, Say
from catalog.coverage import Looked
from catalog.facts import TABLES
from catalog.media import Thumbnails
from catalog.tables import CAMERAS, MARKS
from index.removal import Removal
from index.store import MomentStore, fullness
from proto.errors import Broken, Invalid, Late, Mismatch, Overloaded, Transient
from proto.life import Gone, Rules
from proto.retry import Backoff
from proto.types import Moment, SpaceInfo, now_ms

log = logging.getLogger("watchword.backup")

Result = TypeVar("Result")

_AT_ONCE = 500
_TRIES = 6
_BACKOFF = Backoff(1.0, 15.0)
_PUTS_AT_ONCE = 8


class Facts(Protocol):
    """The facts here. Blocks."""

    def merge(self, name: str, facts: Sequence[Mapping[str, Any]]) -> None:
        """Add what is not there."""

    def merge_marks(self, facts: Sequence[Mapping[str, Any]], until_ms: int) -> int:
        """Add the marks of cameras without one, and declare what came after as lost."""

    def declare_lost(self, spans: Mapping[str, tuple[int, int]]) -> None:
        """Say that nothing is known of these cameras' times."""


class Cameras(Protocol):
    """The registry here. Blocks."""

    def add_stored(self, stored: Mapping[str, Mapping[str, Any]], *, disabled: bool = False) -> int:
        """Register those that are not known."""


class Life(Protocol):
    """The rules here. Blocks."""

    def rules(self) -> Rules:
        """All that are in force."""

    def take_over(self, theirs: Rules) -> list[int]:
        """Have these in force too."""


class Notes(Protocol):
    """Gaps, or samples of backgrounds. Blocks."""

    def forget_gone(self, gone: Gone, *, count_only: bool = False) -> int:
        """Remove what is gone."""


class Marks(Notes, Protocol):
    """How far cameras were looked at here. Blocks."""

    def marks(self, cameras: frozenset[str] | None = None) -> list[Looked]:
        """Of these cameras."""


@dataclass(frozen=True)
class Target:
    """Where a backup is restored to."""

    store: Callable[[SpaceInfo], Awaitable[MomentStore]]
    """Gives the store of a space, open. Who made it closes it."""
    rows: Removal
    pictures: Thumbnails
    facts: Facts
    cameras: Cameras
    life: Life
    coverage: Marks
    backgrounds: Notes


@dataclass
class Given:
    """What a run did."""

    moments: int = 0
    """Written."""
    there: int = 0
    """Were there already, as full or fuller."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Stayed away: erased, expired, or refused by the index."""
    refused: str = ""
    """What the index said of one that it refused."""
    pictures: int = 0
    cameras: int = 0
    rules: int = 0
    lost: int = 0
    """Cameras of which something is declared as lost after the backup."""


class Restore:
    """One run. `give` is called once, and raises the errors of the stores: run again, and it goes on."""

    def __init__(
        self,
        place: Place,
        target: Target,
        settings: BackupSettings,
        *,
        spaces: Collection[str] = (),
        disable_cameras: bool = False,
        say: Say = lambda *_: None,
        clock: Callable[[], int] = now_ms,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`spaces`: only these; none: all."""
        self._place = place
        self._to = target
        self._settings = settings
        self._only = frozenset(spaces)
        self._disable = disable_cameras
        self._say = say
        self._clock = clock
        self._pause = pause
        self._given = Given()
        self._done = 0

    async def give(self) -> Given:
        """Restore everything: rules first, so that nothing is shown that is gone, and cameras last."""
        manifest = await self._place.manifest()
        spaces = chosen(manifest, self._only)
        theirs = await rules_of(self._place, manifest)
        self._given.rules = len(await asyncio.to_thread(self._to.life.take_over, theirs))
        marks = [fact for file in _facts(manifest, MARKS.name) for fact in await self._read_facts(file)]
        await self._declare_lost(manifest, marks)
        for name in TABLES:
            if name not in {MARKS.name, CAMERAS.name}:
                for file in _facts(manifest, name):
                    await asyncio.to_thread(self._to.facts.merge, name, await self._read_facts(file))
        await self._moments(manifest, spaces, theirs)
        self._given.lost += await asyncio.to_thread(self._to.facts.merge_marks, marks, self._clock())
        for file in _facts(manifest, CAMERAS.name):
            stored = {fact["name"]: fact["settings"] for fact in await self._read_facts(file)}
            self._given.cameras += await asyncio.to_thread(self._to.cameras.add_stored, stored, disabled=self._disable)
        gone = (await asyncio.to_thread(self._to.life.rules)).gone(self._clock())
        await asyncio.to_thread(self._to.coverage.forget_gone, gone)
        await asyncio.to_thread(self._to.backgrounds.forget_gone, gone)
        return self._given

    async def _declare_lost(self, manifest: Manifest, marks: Sequence[Mapping[str, Any]]) -> None:
        """Where the index is empty and the catalog is not, what was stored after the backup is lost: say so first."""
        found = await self._to.rows.holdings()
        if found.missing or any(one.space in manifest.spaces for one in found.known):
            return
        then = {fact["camera"]: int(fact["captured_ms"]) for fact in marks}
        here = await asyncio.to_thread(self._to.coverage.marks, frozenset(then))
        spans = {one.camera: (then[one.camera], one.captured_ms) for one in here if one.captured_ms > then[one.camera]}
        self._given.lost += len(spans)
        await asyncio.to_thread(self._to.facts.declare_lost, spans)

    async def _moments(self, manifest: Manifest, spaces: Sequence[SpaceInfo], theirs: Rules) -> None:
        stores = {space.id: (space, await self._to.store(space)) for space in spaces}
        files = [one for one in manifest.files if one.kind == "pictures" or one.of in stores]
        total = sum(one.count for one in files if one.kind == "moments")
        for day in days_of([(one.start_ms, one.end_ms) for one in files if one.kind != "facts"]):
            mine = [one for one in files if one.kind != "facts" and day.meets(one.start_ms, one.end_ms)]
            passed: set[str] = set()
            for file in mine:
                if file.kind == "moments":
                    space, store = stores[file.of]
                    moments = moments_unpacked(await self._place.read(file), space, file.name)
                    shown = await self._shown(moments, theirs)
                    for first in range(0, len(shown), _AT_ONCE):
                        await self._store(store, shown[first : first + _AT_ONCE])
                    passed |= {one.id for one in shown}
                    self._done += file.count
                    self._say("moments", self._done, total)
                    await self._pause(file.count / self._settings.moments_per_s)
            for file in mine:
                if file.kind == "pictures":
                    pictures = pictures_unpacked(await self._place.read(file), file.name)
                    await self._pictures([one for one in pictures if one[0] in passed])

    async def _shown(self, moments: Sequence[Moment], theirs: Rules) -> list[Moment]:
        """Those that may be here. The rules are asked each time: somebody may erase something meanwhile."""
        rules = await asyncio.to_thread(self._to.life.rules)
        shown = []
        for moment in moments:
            if why := why_not(moment, rules, theirs, self._clock()):
                self._given.left_out[why] += 1
            else:
                shown.append(moment)
        return shown

    async def _store(self, store: MomentStore, moments: Sequence[Moment]) -> None:
        there = {one.id: one for one in await self._patiently(lambda: store.fetch([one.id for one in moments]))}
        lacking = [one for one in moments if one.id not in there or fullness(there[one.id]) < fullness(one)]
        self._given.there += len(moments) - len(lacking)
        waiting = [closed(one) for one in lacking]

        async def store_them() -> None:
            nonlocal waiting
            failed = await store.upsert(waiting)
            refused = {name: error for name, error in failed.items() if isinstance(error, Invalid)}
            self._given.moments += len(waiting) - len(failed)
            if refused:
                self._given.left_out["refused"] += len(refused)
                self._given.refused = str(next(iter(refused.values())))
            waiting = [one for one in waiting if one.id in failed and one.id not in refused]
            if waiting:
                raise failed[waiting[0].id]

        await self._patiently(store_them)

    async def _pictures(self, pictures: Sequence[Picture]) -> None:
        by_moment: dict[str, list[Picture]] = {}
        for one in pictures:
            by_moment.setdefault(one[0], []).append(one)
        at_once = asyncio.Semaphore(_PUTS_AT_ONCE)

        async def put(moment: str, some: Sequence[Picture]) -> int:
            async with at_once:
                return await self._patiently(lambda: asyncio.to_thread(_put, self._to.pictures, moment, some))

        self._given.pictures += sum(await asyncio.gather(*(put(moment, some) for moment, some in by_moment.items())))

    async def _read_facts(self, file: File) -> list[dict[str, Any]]:
        data = await self._place.read(file)
        try:
            return [json.loads(line) for line in data.splitlines()]
        except ValueError as error:
            raise Broken(f"{file.name} of the backup cannot be read", todo="restore from another copy") from error

    async def _patiently(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """The result; a store that is away for a moment is asked again."""
        for failures in range(1, _TRIES):
            try:
                return await call()
            except (Transient, Overloaded, Late) as error:
                log.info("tried again: %s", error)
                await self._pause(_BACKOFF.pause_s(failures, random.random()))  # noqa: S311 - jitter
        return await call()


async def rules_of(place: Place, manifest: Manifest) -> Rules:
    """The rules that were in force when the backup was made."""
    (file,) = _facts(manifest, RULES) or (None,)
    if file is None:
        raise Broken(f"the backup in {place.shown} has no rules", todo="restore from another copy")
    try:
        return RULES_AS_JSON.validate_json(await place.read(file))
    except ValidationError as error:
        raise Broken(f"{file.name} of the backup cannot be read", todo="restore from another copy") from error


def chosen(manifest: Manifest, only: Collection[str]) -> list[SpaceInfo]:
    """The spaces to restore. Mismatch when the backup lacks one that is wanted."""
    for space in only:
        if space not in manifest.spaces:
            has = ", ".join(sorted(manifest.spaces)) or "no moments"
            raise Mismatch(
                f"the backup has no moments of the space {space[:16]}, but of {has}",
                todo="serve the bundle that it was made with, or restore with --any-space: answers leave it out",
            )
    return [SpaceInfo(space, dimension) for space, dimension in manifest.spaces.items() if not only or space in only]


def why_not(moment: Moment, rules: Rules, theirs: Rules, now: int) -> str:
    """Why the moment may not be restored: by the rules here, and by the erasures of the backup; empty if it may."""
    span = moment.camera, moment.start_ms, moment.end_ms
    if rules.erased.covers(*span) or theirs.erased.covers(*span):
        return "erased"
    return "expired" if rules.gone(now).covers(*span) else ""


def closed(moment: Moment) -> Moment:
    """The moment as it is restored: nobody goes on with one that was open when the backup was made."""
    return replace(moment, closed=True, resume="")


def _facts(manifest: Manifest, name: str) -> list[File]:
    return [one for one in manifest.files if one.kind == "facts" and one.of == name]


def _put(pictures: Thumbnails, moment: str, some: Sequence[Picture]) -> int:
    """Store the pictures of a moment unless it has some; its own last, since it says that all are there."""
    if pictures.has(moment):
        return 0
    instants = [(at_ms, jpeg) for _, at_ms, jpeg in some if at_ms is not None]
    if instants:
        pictures.put_instants(moment, instants)
    for _, at_ms, jpeg in some:
        if at_ms is None:
            pictures.put(moment, jpeg)
    return len(some)
