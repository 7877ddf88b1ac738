"""Shards in memory, processes that hear of changes late, and movers that are killed, in time that is made up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from catalog.known_shards import FRESH_S
from index.filters import Filter
from index.memory import MemoryStore
from index.moving import Mover, Parts
from index.places import Bucket
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.shards import ShardSet
from index.store import Ask, fullness
from proto.errors import Transient
from proto.life import Erasure, Gone, Rules, Stretch
from proto.shards import ACTIVE, DRAINING, ShardEntry, ShardMap, Slot, first_map
from proto.types import Moment, SpaceInfo
from tests.contracts.moments import NOON, SPACE, unit
from tests.index.shards import Held, MemoryShard

HEARS_S = 1.0
"""A process that can ask hears of a change within this."""
CAMERAS = [f"camera-{n}" for n in range(12)]


class MemoryBook:
    """The map, in memory."""

    def __init__(self, names: Iterable[str]) -> None:
        self.now = first_map([(name, name, name) for name in names], cluster=0)

    def map(self) -> ShardMap:
        return self.now

    def put(self, name: str, state: str = ACTIVE) -> None:
        old = self.now.shards.get(name, ShardEntry(name, name))
        shards = {**self.now.shards, name: replace(old, state=state)}
        self.now = replace(self.now, epoch=self.now.epoch + 1, shards=shards)

    def begin(self, numbers: Collection[int], to: str) -> None:
        self._change(numbers, lambda slot: slot.begun(to))

    def switch(self, numbers: Collection[int], to: str) -> None:
        assert all(self.now.slots[n].coming == to for n in numbers)
        self._change(numbers, Slot.switched)

    def finish(self, numbers: Collection[int], name: str) -> None:
        assert all(name not in (self.now.slots[n].now, self.now.slots[n].coming) for n in numbers)
        self._change(numbers, lambda slot: slot.without(name))

    def found(self, numbers: Collection[int], name: str) -> None:
        self._change(numbers, lambda slot: slot.with_also(name))

    def _change(self, numbers: Collection[int], changed: Callable[[Slot], Slot]) -> None:
        slots = list(self.now.slots)
        for number in numbers:
            slots[number] = changed(slots[number])
        self.now = replace(self.now, epoch=self.now.epoch + 1, slots=slots)


class Follower:
    """What one process knows of the map."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._map = house.book.now
        self._read_s = house.now_s
        self.cut = False
        """Whether it cannot ask."""

    def map(self) -> ShardMap:
        return self._map

    def is_fresh(self) -> bool:
        return self._house.now_s - self._read_s < FRESH_S

    def hear(self) -> None:
        self._map, self._read_s = self._house.book.now, self._house.now_s

    def hear_in_time(self) -> None:
        late = self._house.now_s - self._read_s >= HEARS_S
        if not self.cut and (late or self._house.chance.random() < 0.2):
            self.hear()


class Stepping(MemoryShard):
    """A shard whose calls take a while, in which others go on."""

    house: House

    async def _act(self, call: str = "", bucket: Bucket | None = None) -> None:
        await self.house.turn()
        await super()._act(call, bucket)


class House:
    """Everything that is stored, by shard, and what has been acknowledged."""

    def __init__(self, names: Iterable[str], seed: int, writers: int = 2) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self.book = MemoryBook(names)
        self.held: dict[str, Held] = {}
        self.followers = [Follower(self) for _ in range(writers + 1)]
        self.stores = [ShardedStore(SPACE, MilvusSettings(), ShardSet(one, self._entered)) for one in self.followers]
        self.told: dict[str, Moment] = {}
        """The latest acknowledged telling of each moment."""
        self.rules = Rules()
        self.steps = 0
        self.kill_at: int | None = None

    @property
    def gone(self) -> Gone:
        return self.rules.erased

    async def turn(self) -> None:
        """Let others go on for a moment that is not known before."""
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(0)

    async def pause(self, seconds: float) -> None:
        """Time passes, and everybody who can hears of changes."""
        parts = max(1, round(seconds / 0.7))
        for _ in range(parts):
            self.now_s += seconds / parts
            for one in self.followers:
                one.hear_in_time()
            await asyncio.sleep(0)
            await self.turn()

    def all_hear(self) -> None:
        """Everybody asks the catalog, and it answers."""
        for one in self.followers:
            one.cut = False
            one.hear()

    def mover(self, **more: object) -> Mover:
        parts = Parts(
            book=self.book,
            opened=self._opened,
            take=self._take,
            erased=lambda: self.gone,
            bucket_hours=24,
            per_s=1e9,
            clock=lambda: self.now_s,
            pause=self.pause,
        )
        return Mover(replace(parts, **more))  # type: ignore[arg-type]

    async def rebalance(self, *, kill_at: int | None = None) -> bool:
        """Run a mover; whether it came to its end before it was killed."""
        self.steps, self.kill_at = 0, kill_at
        try:
            await self.mover().rebalance()
        except Killed:
            return False
        finally:
            self.kill_at = None
        return True

    async def write(self, moment: Moment, by: int = 0) -> bool:
        """As a worker does; whether it was acknowledged."""
        if self.gone.covers(moment.camera, moment.start_ms, moment.end_ms):
            return False
        failed = await self.stores[by].upsert([moment])
        if failed:
            assert all(isinstance(error, Transient) for error in failed.values()), failed
            return False
        before = self.told.get(moment.id)
        assert before is None or fullness(before) <= fullness(moment)
        self.told[moment.id] = moment
        return True

    async def check(self, *, exactly: bool = False) -> None:
        """What was acknowledged before a question is in its answer, as full as it was told, and nothing erased is."""
        camera = self.chance.choice([None, *CAMERAS])
        wanted = {name: one for name, one in self.told.items() if camera in (None, one.camera)}
        gone = self.gone
        ask = Ask(unit(1), 3000, None if camera is None else frozenset({camera}), without=gone)
        answer = await self.stores[-1].search(ask)
        assert not answer.unsearched
        found = {hit.span.id: hit.span for hit in answer.hits}
        for name, one in wanted.items():
            if self.gone.covers(one.camera, one.start_ms, one.end_ms):
                continue
            assert name in found, f"{one.camera} is missing a moment"
            assert fullness(found[name]) >= fullness(one), f"{one.camera} has an old telling"
        assert not [one for one in found.values() if gone.covers(one.camera, one.start_ms, one.end_ms)]
        if exactly:
            flat = MemoryStore(SPACE)
            await flat.upsert(list(wanted.values()))
            alike = await flat.search(ask)
            assert [(h.span.id, h.span.frames, round(h.score, 5)) for h in answer.hits] == [
                (h.span.id, h.span.frames, round(h.score, 5)) for h in alike.hits
            ]

    def check_places(self) -> None:
        """Every moment lies where the map says, and nowhere else."""
        of = self.book.now
        assert not [slot for slot in of.slots if slot.also or slot.coming]
        draining = {one.name for one in of.serving if one.state == DRAINING}
        assert not draining & of.everywhere
        for name, held in self.held.items():
            for moments in held.values():
                for bucket in moments.values():
                    for one in bucket.values():
                        if not self.gone.covers(one.camera, one.start_ms, one.end_ms):
                            assert of.home(one.camera) == name
                            assert one.frames == self.told[one.id].frames

    def erase(self, camera: str, start_ms: int = 0, end_ms: int = NOON * 2) -> None:
        number = self.rules.version + 1
        erasure = Erasure(number, Stretch(camera, start_ms, end_ms), "", "", 0)
        self.rules = Rules(number, erasures=(*self.rules.erasures, erasure))

    def sweep(self) -> None:
        """Remove what is erased from every shard, as the sweeper does."""
        for bucket in self._buckets():
            for name in [n for n, one in bucket.items() if self.gone.covers(one.camera, one.start_ms, one.end_ms)]:
                del bucket[name]

    def erased_left(self) -> list[str]:
        which = Filter(only=self.gone)
        return [name for bucket in self._buckets() for name, one in bucket.items() if which.passes(one)]

    def _buckets(self) -> list[dict[str, Moment]]:
        return [bucket for held in self.held.values() for buckets in held.values() for bucket in buckets.values()]

    def _take(self) -> bool:
        self.step()
        return True

    def _entered(self, entry: ShardEntry, _: ShardMap) -> Stepping:
        return self._shard(Stepping, entry, SPACE)

    def _opened(self, entry: ShardEntry, _: ShardMap, /, *, space: SpaceInfo, makes: bool) -> Stepping:
        del makes
        return self._shard(Killable, entry, SPACE if space.id == SPACE.id else space)

    def _shard(self, kind: type[Stepping], entry: ShardEntry, space: SpaceInfo) -> Stepping:
        shard = kind(space, self.held.setdefault(entry.name, {}))
        shard.house = self
        return shard

    def step(self) -> None:
        """Called before and after each call of a mover: it may be killed here."""
        self.steps += 1
        if self.kill_at is not None and self.steps > self.kill_at:
            raise Killed


class Killed(BaseException):
    """kill -9."""


class Killable(Stepping):
    """A shard as a mover sees it."""

    async def _act(self, call: str = "", bucket: Bucket | None = None) -> None:
        self.house.step()
        await super()._act(call, bucket)
