"""A backup is taken: every bucket of every space, the pictures, the facts; what did not change is not written again.

It is consistent by the cameras' marks: they are read first, with all facts, in one transaction; a mark is told only
when the moments up to it are stored. So everything that a mark covers is read afterwards, and what a camera's frames
after its mark made is left out. Moments that were open then may be further than the mark says: they never shrink.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol

from pydantic import TypeAdapter

from backup.listing import Listing
from backup.manifest import File, Manifest
from backup.packing import Picture, ids_packed, moments_packed, pictures_packed
from backup.place import Place, Writing
from backup.settings import BackupSettings
from backup.slices import Slice, cut, days_of
from catalog.coverage import Looked
from catalog.facts import Fact, Facts
from catalog.media import Thumbnails
from catalog.tables import BACKGROUNDS
from index.calls import first, whole
from index.filters import Filter
from index.places import Bucket
from index.removal import Holding, Removal
from index.store import fullest
from proto.errors import Broken, Invalid, Overloaded
from proto.life import DAY_MS, LONGEST_MS, Gone, Rules
from proto.types import Moment, SpaceInfo, now_ms, start_of

log = logging.getLogger("watchword.backup")

LEASE_MS = 120_000
RULES = "rules"
"""The facts that `Life` has, in one line."""
RULES_AS_JSON = TypeAdapter(Rules)
_READS_AT_ONCE = 8
_MOST_ROWS = 16_000
_FINAL_AFTER_MS = 2 * DAY_MS
"""A time that ended so long ago gets no more moments, unless old frames are read again; that changes its count."""

Say = Callable[[str, int, int], None]
"""Told of progress: what, how much, of how much."""


class Life(Protocol):
    """The rules that are in force. Blocks."""

    def rules(self) -> Rules:
        """All of them."""


class Leases(Protocol):
    """Who does a job. Blocks."""

    def take(self, name: str, holder: str, now_ms: int, for_ms: int) -> bool:
        """Take or renew the lease. False while another holder's runs."""

    def give_back(self, name: str, holder: str) -> None:
        """End it."""


@dataclass(frozen=True)
class Source:
    """What is backed up."""

    rows: Removal
    pictures: Thumbnails
    facts: Facts
    life: Life
    leases: Leases
    installation: str
    """Names it: a backup holds one installation."""
    version: str
    """Of Watchword."""


class Backup:
    """One run. `take` is called once."""

    def __init__(
        self,
        source: Source,
        place: Place,
        settings: BackupSettings,
        holder: str,
        *,
        whole: bool = False,
        say: Say = lambda *_: None,
        clock: Callable[[], int] = now_ms,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`whole` reads everything and believes nothing of what is there. `holder` names this process."""
        self._at = source
        self._place = place
        self._settings = settings
        self._whole = whole
        self._say = say
        self._clock = clock
        self._pause = pause
        self._holder = holder
        self._lease = f"backup/{hashlib.sha256(place.shown.encode()).hexdigest()[:16]}"
        self._left_out: Counter[str] = Counter()
        self._done = 0
        self._total = 0

    async def take(self) -> tuple[Manifest, Writing]:
        """Make the backup what is stored now. Raises the errors of the stores; then the backup is as it was before."""
        await self._hold()
        try:
            writing = await self._place.writing()
            self._check(writing.before)
            manifest = await self._copied(writing)
            await self._hold()
            await writing.finish(manifest)
        finally:
            await asyncio.to_thread(self._at.leases.give_back, self._lease, self._holder)
        return manifest, writing

    def _check(self, before: Manifest | None) -> None:
        if before is not None and before.installation != self._at.installation:
            raise Invalid(
                f"{self._place.shown} has the backup of another installation",
                todo="name another place; a catalog that was made anew is another installation",
            )

    async def _copied(self, writing: Writing) -> Manifest:
        if self._whole:
            writing.forget()
        begun_ms = self._clock()
        rules = await asyncio.to_thread(self._at.life.rules)
        marks = await self._facts(writing, rules)
        known = await self._holdings()
        self._total = sum(await whole({one: self._at.rows.count(one, Filter()) for one in known}))
        listing = await asyncio.to_thread(lambda: Listing(self._at.pictures.listed()))
        try:
            times = [(one.bucket.start_ms, one.bucket.end_ms) for one in known]
            for day in days_of(times):
                await self._day(writing, day, _Shown(rules, begun_ms, marks), listing)
        finally:
            listing.close()
        return Manifest(
            installation=self._at.installation,
            made_by=self._at.version,
            begun_ms=begun_ms,
            done_ms=self._clock(),
            spaces={one.of: one.dimension for one in writing.files if one.kind == "moments"},
            rules=rules.version,
            erasures=len(rules.erasures),
            files=writing.files,
            left=_left(writing.before, writing.files),
            left_out=dict(self._left_out),
        )

    async def _facts(self, writing: Writing, rules: Rules) -> Mapping[str, Looked]:
        """Copy the facts, and give the marks of the same instant."""
        loop = asyncio.get_running_loop()
        numbers: Counter[str] = Counter()

        def keep(table: str, facts: list[Fact]) -> None:
            kept = [fact for fact in facts if table != BACKGROUNDS.name or not _is_erased(fact, rules.erased)]
            data = "".join(json.dumps(fact, sort_keys=True) + "\n" for fact in kept).encode()
            number = numbers[table]
            numbers[table] += 1
            file = File("facts", table, number, number + 1, len(kept), 0, "")
            asyncio.run_coroutine_threadsafe(writing.put(file, data), loop).result()

        marks = await asyncio.to_thread(self._at.facts.read, keep)
        await writing.put(File("facts", RULES, 0, 1, 1, 0, ""), RULES_AS_JSON.dump_json(rules))
        return marks

    async def _holdings(self, space: str = "") -> list[Holding]:
        """Every bucket there is now, of one space or of all: cameras may be moved to other shards meanwhile."""
        found = await self._at.rows.holdings()
        if found.missing:
            raise first(found.missing)
        return [one for one in found.known if space in ("", one.space)]

    async def _day(self, writing: Writing, day: Slice, shown: _Shown, listing: Listing) -> None:
        here = [one for one in await self._holdings() if day.meets(one.bucket.start_ms, one.bucket.end_ms)]
        files: list[tuple[File, set[str] | None]] = []
        for space in sorted({one.space for one in here}):
            of_space = [one for one in here if one.space == space]
            for part, stored in await cut(day, self._settings.moments_each, partial(self._count, of_space)):
                copied = await self._moments(writing, part, stored, of_space, shown)
                files += [copied] if copied else []

        async def pictured(part: Slice) -> int:
            return await asyncio.to_thread(listing.count, part)

        for part, _ in await cut(day, max(1, self._settings.moments_each // 4), pictured):
            await self._pictures(writing, part, files, listing)

    async def _count(self, holdings: Sequence[Holding], part: Slice) -> int:
        return sum(
            await whole({one: self._at.rows.count(one, _within(part, one.bucket)) for one in _in(holdings, part)})
        )

    async def _moments(
        self, writing: Writing, part: Slice, stored: int, holdings: Sequence[Holding], shown: _Shown
    ) -> tuple[File, set[str] | None] | None:
        """Copy the moments of one space that begin in this time. Their ids, if they were read. None when there are
        none to copy."""
        await self._hold()
        space = holdings[0].space
        before = writing.known.get(("moments", space, part.start_ms, part.end_ms))
        self._done += stored
        if before and before.stored == stored and await self._is_final(before, holdings, part, shown):
            return writing.keep(before), None
        now = await self._holdings(space)
        found = fullest([one for held in _in(now, part) for one in await self._read(held, _within(part, held.bucket))])
        kept = [one for one in found.values() if self._passes(one, shown)]
        self._say("moments", self._done, self._total)
        if not kept:
            return None
        dimension = len(kept[0].vector)
        over = part.end_ms + _FINAL_AFTER_MS < shown.now_ms
        final = over and len(kept) == len(found) and all(one.closed for one in kept)
        data = await asyncio.to_thread(moments_packed, kept, SpaceInfo(space, dimension))
        file = File(
            "moments",
            space,
            part.start_ms,
            part.end_ms,
            len(kept),
            0,
            "",
            stored,
            final,
            dimension,
            shown.rules.version,
        )
        written = await writing.put(file, data)
        await self._pause(stored / self._settings.moments_per_s)
        return written, {one.id for one in kept}

    async def _is_final(self, before: File, holdings: Sequence[Holding], part: Slice, shown: _Shown) -> bool:
        """Whether the file has what is stored, if that is as many as then: nothing of it is gone."""
        gone = shown.gone.among(None, part.start_ms, part.end_ms + LONGEST_MS)
        # What was erased may have been removed, and as much have come.
        if not before.final or (gone.erased and before.rules != shown.rules.version):
            return False
        if gone.nothing:
            return True
        only = {one: replace(_within(part, one.bucket), only=gone) for one in _in(holdings, part)}
        return not any(await whole({one: self._at.rows.count(one, which) for one, which in only.items()}))

    async def _read(self, holding: Holding, which: Filter) -> list[Moment]:
        """All moments that pass; in halves of the time where one read would be cut off."""
        moments = await self._at.rows.read(holding, which, _MOST_ROWS)
        if moments is not None:
            return moments
        begins, ends = which.starts_from or 0, which.starts_before or 0
        if ends - begins <= 1:
            raise Broken(
                f"more moments begin at {begins} than can be read", todo="look for what else writes to this index"
            )
        middle = (begins + ends) // 2
        earlier = await self._read(holding, replace(which, starts_before=middle))
        return earlier + await self._read(holding, replace(which, starts_from=middle))

    def _passes(self, moment: Moment, shown: _Shown) -> bool:
        why = shown.why_not(moment)
        if why:
            self._left_out[why] += 1
        return not why

    async def _pictures(
        self, writing: Writing, part: Slice, files: Sequence[tuple[File, set[str] | None]], listing: Listing
    ) -> None:
        """Copy the pictures of moments that begin in this time and are in the backup."""
        await self._hold()
        listed = await asyncio.to_thread(listing.of, part)
        near = [(file, ids) for file, ids in files if part.meets(file.start_ms, file.end_ms)]
        said = json.dumps([listed, sorted(file.sha256 for file, _ in near)]).encode()
        seen = hashlib.sha256(said).hexdigest()[:32]
        before = writing.known.get(("pictures", "", part.start_ms, part.end_ms))
        if before and before.seen == seen:
            writing.keep(before)
            return
        mine: set[str] = set()
        for file, ids in near:
            mine |= await _ids_of(writing, file) if ids is None else ids
        at_once = asyncio.Semaphore(_READS_AT_ONCE)

        async def of(moment: str) -> list[Picture]:
            async with at_once:
                return [(moment, *one) for one in await asyncio.to_thread(self._at.pictures.all_of, moment)]

        some = await asyncio.gather(*(of(moment) for moment, _ in listed if moment in mine))
        pictures = [one for each in some for one in each]
        data = await asyncio.to_thread(pictures_packed, pictures)
        await writing.put(File("pictures", "", part.start_ms, part.end_ms, len(pictures), 0, "", seen=seen), data)

    async def _hold(self) -> None:
        """Renew the lease, or stop: two runs to one place would remove each other's files."""
        if not await asyncio.to_thread(self._at.leases.take, self._lease, self._holder, now_ms(), LEASE_MS):
            raise Overloaded(
                f"another process is backing up to {self._place.shown}",
                todo="wait for it; the claim of one that was killed ends after two minutes",
            )


@dataclass(frozen=True)
class _Shown:
    """What belongs in the backup."""

    rules: Rules
    now_ms: int
    marks: Mapping[str, Looked]

    @cached_property
    def gone(self) -> Gone:
        """What may not be in it. By a clock that is in doubt nothing is too old."""
        return self.rules.erased if self.rules.clock_doubt(self.now_ms) else self.rules.gone(self.now_ms)

    def why_not(self, moment: Moment) -> str:
        """Why the moment stays out; empty when it does not."""
        span = moment.camera, moment.start_ms, moment.end_ms
        if self.rules.erased.covers(*span):
            return "erased"
        if self.gone.covers(*span):
            return "expired"
        mark = self.marks.get(moment.camera)
        here = mark is not None and (moment.log, moment.partition) == (mark.log, mark.partition)
        return "newer" if mark is not None and here and moment.first_offset > mark.offset else ""


def _is_erased(background: Fact, erased: Gone) -> bool:
    """Whether a sample has vectors of what was erased; the sweeper may not have been there yet."""
    moments = json.loads(background["moments"])
    return any(erased.may_be_of(background["camera"], start_of(one)) for one in moments)


async def _ids_of(writing: Writing, file: File) -> set[str]:
    """The moments of a file of the backup that was not read anew."""
    data = await writing.get(file)
    return ids_packed(data, file.name) if data is not None else set()


def _in(holdings: Sequence[Holding], part: Slice) -> list[Holding]:
    return [one for one in holdings if part.meets(one.bucket.start_ms, one.bucket.end_ms)]


def _within(part: Slice, bucket: Bucket) -> Filter:
    begins, ends = max(part.start_ms, bucket.start_ms), min(part.end_ms, bucket.end_ms)
    return Filter(starts_from=begins, starts_before=ends)


def _left(before: Manifest | None, files: Sequence[File]) -> dict[str, int]:
    """How many moments fewer there are than before, by space and day."""
    counts: Counter[str] = Counter()
    for file in before.files if before else ():
        if file.kind == "moments":
            counts[_day_name(file)] += file.count
    for file in files:
        if file.kind == "moments":
            counts[_day_name(file)] -= file.count
    return {name: count for name, count in sorted(counts.items()) if count > 0}


def _day_name(file: File) -> str:
    return f"{file.of} {file.start_ms // DAY_MS * DAY_MS}"
