"""Moving cameras from shard to shard while they are written and searched.

A move is three changes of the map, and any process can go on with it from whichever it finds:

1. *begun*: the shard that is to be filled is asked too. Moments are copied there, and read back.
2. *switched*: moments are written there. What came late to the former shard is copied again, and what is certainly on
   the new one is deleted from the former.
3. *finished*: the former shard has nothing left, and is not asked any more.

Between two of them passes more time than any process needs to hear of a change. Each step can be repeated: what is on
the new shard already, as full or fuller, is not copied. Nothing is deleted that was not read back from the new shard.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from index.calls import first
from index.filters import Filter
from index.places import Bucket
from index.reading import pieces, read_all
from index.rows import Bare
from index.shard import Shard
from index.sharded import planned
from index.tellings import Telling, alike, tellings
from proto.errors import Broken, Late, Transient
from proto.life import Gone
from proto.shards import ShardEntry, ShardMap, moves
from proto.types import Moment, SpaceInfo

SETTLE_S = 5.0
"""Every process that can ask the catalog knows of a change after this; a process that cannot, and knows of the move,
does not write (`proto.shards.KnownMap.is_fresh`)."""
OPEN_S = 60.0
"""A moment that is open is told again every few seconds, at its new place. One that was not for so long is nobody's."""
_STEP_S = 15.0
"""One copy or deletion ends within this, or is given up; less than the lease lasts."""
_ROWS = 4096
_AT_ONCE = 200
_SAMPLE = 3
"""So many moments of each copy are compared number by number."""


class Book(Protocol):
    """Where the map is kept. Its methods block, and are atomic."""

    def map(self) -> ShardMap:
        """The map now."""

    def begin(self, numbers: Collection[int], to: str) -> None:
        """These slots go there."""

    def switch(self, numbers: Collection[int], to: str) -> None:
        """They are written there."""

    def finish(self, numbers: Collection[int], name: str) -> None:
        """Nothing of them is left here."""

    def found(self, numbers: Collection[int], name: str) -> None:
        """Something of them was found here."""


class Opened(Protocol):
    """Gives the shard of an entry of the map for a space, without connecting."""

    def __call__(self, entry: ShardEntry, of: ShardMap, /, *, space: SpaceInfo, makes: bool) -> Shard: ...


@dataclass(frozen=True)
class Parts:
    """What a mover uses. Those that are no coroutines block, and are called from threads."""

    book: Book
    opened: Opened
    take: Callable[[], bool]
    """Takes or renews the lease that only one mover has; False while another one has it."""
    erased: Callable[[], Gone]
    """What must not be copied, since it would come back by it."""
    bucket_hours: int
    per_s: float
    """At most so many moments a second are copied."""
    say: Callable[[Told], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Told:
    """How far one move is."""

    source: str
    target: str
    slots: int
    switched: bool
    copied: int = 0
    removed: int = 0
    waiting: int = 0
    """Open moments that were told to the former shard late, and are waited for."""
    looked_ms: int = 0
    """The start of the day that is looked through."""


class NotMine(Transient):
    """Another process moves cameras."""


@dataclass
class _Move:
    source: str
    target: str
    numbers: frozenset[int]
    switched: bool
    told: Told
    seen: int = 0
    """Moments that were on the source in the latest pass."""
    open_since: dict[str, float] = field(default_factory=dict)


class Mover:
    """Carries out what the map says is to be moved. Raises the errors of shards; it can be run again at any time."""

    def __init__(self, parts: Parts) -> None:
        self._at = parts
        self._shards: dict[tuple[str, str, SpaceInfo, bool], Shard] = {}
        self._map = ShardMap()

    async def rebalance(self) -> int:
        """Go on with what was begun, then move the fewest slots that empty draining shards and even out the others.
        Returns how many slots were moved or freed of a former place."""
        done = 0
        while True:
            await self._hold()
            self._map = await asyncio.to_thread(self._at.book.map)
            if move := self._begun() or self._left():
                await (self._clear(move) if move.switched else self._fill(move))
                done += len(move.numbers) if move.switched else 0
            elif wanted := moves(self._map):
                slots = self._map.slots
                source, target = slots[wanted[0][0]].now, wanted[0][1]
                some = [number for number, to in wanted if (slots[number].now, to) == (source, target)]
                await asyncio.to_thread(self._at.book.begin, some, target)
            else:
                return done

    async def take(self) -> None:
        """Be the one that moves cameras. NotMine while another one does."""
        await self._hold()

    async def look(self) -> int:
        """Look through every shard for moments that lie where the map does not look, and have it look there; how many
        slots had some. A process that could not ask the catalog through a whole move may have written such."""
        await self._hold()
        self._map = await asyncio.to_thread(self._at.book.map)
        strays: defaultdict[str, set[int]] = defaultdict(set)
        for entry in self._map.serving:
            async for _, _, rows in self._everything(entry.name, lambda _: None):
                numbers = {self._map.number_of(row.camera) for row in rows}
                strays[entry.name] |= {n for n in numbers if entry.name not in self._map.slots[n].places}
        for name, numbers in strays.items():
            if numbers:
                await asyncio.to_thread(self._at.book.found, numbers, name)
        return sum(map(len, strays.values()))

    async def held(self, name: str) -> int:
        """How many rows the shard has, of whatever space, also of what was erased."""
        self._map = await asyncio.to_thread(self._at.book.map)
        return sum([len(rows) async for _, _, rows in self._everything(name, lambda _: None, erased=True)])

    async def close(self) -> None:
        """Close the connections."""
        for shard in self._shards.values():
            await shard.close()

    def _begun(self) -> _Move | None:
        for slot in self._map.slots:
            if slot.coming:
                return self._move(slot.now, slot.coming, switched=False)
        return None

    def _left(self) -> _Move | None:
        for slot in self._map.slots:
            if slot.also:
                return self._move(slot.also[0], slot.now, switched=True)
        return None

    def _move(self, source: str, target: str, *, switched: bool) -> _Move:
        numbers = frozenset(
            number
            for number, slot in enumerate(self._map.slots)
            if ((slot.now, slot.coming) == (source, target) if not switched else not slot.coming)
            and (not switched or (slot.now == target and source in slot.also))
        )
        return _Move(source, target, numbers, switched, Told(source, target, len(numbers), switched))

    async def _fill(self, move: _Move) -> None:
        """Copy, and switch."""
        await self._pass(move)
        # Searches that do not know the target yet would miss what is written there.
        await self._at.pause(SETTLE_S)
        # Short after the first: what came meanwhile.
        await self._pass(move)
        await self._hold()
        await asyncio.to_thread(self._at.book.switch, move.numbers, move.target)

    async def _clear(self, move: _Move) -> None:
        """Copy what came late, and delete what is at its new place, until nothing comes any more."""
        clean = 0
        await self._at.pause(SETTLE_S)
        while clean < 2:
            await self._pass(move)
            clean = 0 if move.seen else clean + 1
            if clean < 2:
                await self._at.pause(SETTLE_S if not move.told.waiting else 1.0)
        await self._hold()
        await asyncio.to_thread(self._at.book.finish, move.numbers, move.source)

    async def _pass(self, move: _Move) -> None:
        """Look at everything on the source once."""
        move.seen = 0
        self._tell(move, waiting=0)

        def begins(bucket: Bucket) -> None:
            self._tell(move, looked_ms=bucket.start_ms)

        async for space, piece, rows in self._everything(move.source, begins):
            mine = [row for row in rows if self._map.number_of(row.camera) in move.numbers]
            if mine:
                await self._hold()
                await self._handle(move, space, piece, mine)

    async def _everything(
        self, name: str, begins: Callable[[Bucket], None], *, erased: bool = False
    ) -> AsyncIterator[tuple[str, _Piece, Sequence[Bare]]]:
        """Every row of the shard, in pieces; those of erased moments only if wanted."""
        known = await self._at_shard(name, _NOBODYS).buckets(fresh=True)
        for space, buckets in sorted(known.items()):
            if " " in space:
                continue
            shard = self._at_shard(name, SpaceInfo(space, 2))
            for bucket in sorted(buckets, key=lambda one: (one.start_ms, one)):
                begins(bucket)
                without = Gone() if erased else await asyncio.to_thread(self._at.erased)
                async for which, rows in pieces(_limited(shard, bucket), bucket, Filter(without=without)):
                    yield space, _Piece(bucket, which), rows

    async def _handle(self, move: _Move, space: str, piece: _Piece, rows: Sequence[Bare]) -> None:
        here = tellings(rows)
        move.seen += len(here)
        there = await self._there(move.target, space, piece)
        lacking = [name for name, one in here.items() if not one.is_in(there.get(name))]
        ready = [name for name in lacking if self._may_copy(move, name, here[name])]
        at_once = max(1, int(min(self._at.per_s, _AT_ONCE)))
        for start in range(0, len(ready), at_once):
            await self._copy(move, space, piece, ready[start : start + at_once])
        if not move.switched:
            return
        self._tell(move, waiting=move.told.waiting + len(lacking) - len(ready))
        # What was just copied goes in a later pass: a search may not see the copy yet. Rows of regions without that of
        # their picture are what a write that was cut off left.
        stays = set(lacking) - {name for name in ready if not here[name].whole}
        going = [row.id for row in rows if row.moment not in stays]
        if going:
            await self._hold()
            async with _in_time(move.source):
                await self._at_shard(move.source, SpaceInfo(space, 2)).remove(piece.bucket, going)
            self._tell(move, removed=move.told.removed + len(here) - len(stays))
            await self._rest(len(going))

    def _may_copy(self, move: _Move, name: str, one: Telling) -> bool:
        """Once it is written elsewhere, an open moment may be told there at any time, and a copy of its former telling
        would replace that. So its worker is waited for; one that is closed is not told again."""
        if not move.switched or one.fullness[0]:
            return True
        now_s = self._at.clock()
        return now_s - move.open_since.setdefault(name, now_s) >= OPEN_S

    async def _copy(self, move: _Move, space: str, piece: _Piece, names: Sequence[str]) -> None:
        source = self._at_shard(move.source, SpaceInfo(space, 2))
        read = await source.fetch(piece.bucket, names)
        gone = await asyncio.to_thread(self._at.erased)
        moments = [one for one in read if not gone.covers(one.camera, one.start_ms, one.end_ms)]
        if not moments:
            return
        target = self._at_shard(move.target, SpaceInfo(space, len(moments[0].vector)), makes=True)
        await self._hold()
        async with _in_time(move.target):
            existing = (await target.buckets(fresh=True)).get(space, ())
            groups, failed = planned(moments, existing, self._at.bucket_hours)
            for bucket, some in groups.items():
                failed |= await target.upsert(bucket, some)
        if failed:
            raise first(failed)
        await self._verify(move, target, groups)
        await self._forget(move, space, groups)
        self._tell(move, copied=move.told.copied + len(moments))
        await self._rest(len(moments))

    async def _verify(self, move: _Move, target: Shard, groups: Mapping[Bucket, Sequence[Moment]]) -> None:
        """Read some of it back."""
        for bucket, some in groups.items():
            sample = some[:: max(1, len(some) // _SAMPLE)][:_SAMPLE]
            found = {one.id: one for one in await target.fetch(bucket, [one.id for one in sample])}
            for one in sample:
                copy = found.get(one.id)
                if copy is None or not (move.switched or alike(one, copy)):
                    raise Broken(
                        f"shard {move.target} does not give moment {one.id} as it was copied from {move.source}",
                        todo="look at its log; nothing was deleted; then `watchword index rebalance` again",
                    )

    async def _forget(self, move: _Move, space: str, groups: Mapping[Bucket, Sequence[Moment]]) -> None:
        """Take back what was erased while it was copied."""
        gone = await asyncio.to_thread(self._at.erased)
        target = self._at_shard(move.target, SpaceInfo(space, 2))
        for bucket, some in groups.items():
            erased = {one.id for one in some if gone.covers(one.camera, one.start_ms, one.end_ms)}
            if erased:
                start_ms, end_ms = min(m.start_ms for m in some), max(m.start_ms for m in some)
                which = Filter(starts_from=start_ms, starts_before=end_ms + 1)
                rows = await read_all(_limited(target, bucket), bucket, which)
                await target.remove(bucket, [row.id for row in rows if row.moment in erased])

    async def _there(self, name: str, space: str, piece: _Piece) -> Mapping[str, Telling]:
        """What the shard has of the time of a piece."""
        start_ms, end_ms = piece.times
        which = Filter(starts_from=start_ms, starts_before=end_ms)
        shard = self._at_shard(name, SpaceInfo(space, 2))
        buckets = (await shard.buckets(fresh=True)).get(space, ())
        found: list[Bare] = []
        for bucket in buckets:
            if bucket.start_ms < end_ms and start_ms < bucket.end_ms:
                found += await read_all(_limited(shard, bucket), bucket, which)
        return tellings(found)

    def _at_shard(self, name: str, space: SpaceInfo, *, makes: bool = False) -> Shard:
        entry = self._map.shards[name]
        key = (name, entry.address, space, makes)
        if key not in self._shards:
            self._shards[key] = self._at.opened(entry, self._map, space=space, makes=makes)
        return self._shards[key]

    async def _rest(self, moments: int) -> None:
        """Keep to the rate, and keep the lease."""
        left_s = moments / self._at.per_s
        while left_s > 0:
            await self._at.pause(min(left_s, SETTLE_S))
            await self._hold()
            left_s -= SETTLE_S

    async def _hold(self) -> None:
        if not await asyncio.to_thread(self._at.take):
            raise NotMine("another process moves cameras", todo="one is enough: wait until it has ended")

    def _tell(self, move: _Move, **changes: Any) -> None:
        move.told = replace(move.told, **changes)
        self._at.say(move.told)


@dataclass(frozen=True, slots=True)
class _Piece:
    bucket: Bucket
    which: Filter

    @property
    def times(self) -> tuple[int, int]:
        """Within these all moments of it start."""
        which, bucket = self.which, self.bucket
        return max(bucket.start_ms, which.starts_from or 0), min(bucket.end_ms, which.starts_before or bucket.end_ms)


_NOBODYS = SpaceInfo("0" * 16, 2)


def _limited(shard: Shard, bucket: Bucket) -> Callable[[Filter], Awaitable[Sequence[Bare] | None]]:
    """Reads the rows that pass; None when there are too many for one reply."""

    async def read(which: Filter) -> Sequence[Bare] | None:
        rows = await shard.rows(bucket, which, _ROWS)
        return rows if len(rows) < _ROWS else None

    return read


@asynccontextmanager
async def _in_time(shard: str) -> AsyncIterator[None]:
    """A step that takes longer than the lease lasts might be done after another mover's."""
    try:
        async with asyncio.timeout(_STEP_S):
            yield
    except TimeoutError as error:
        raise Late(
            f"shard {shard} took longer than {_STEP_S:g} s", todo="look at its load; then `watchword index rebalance`"
        ) from error
