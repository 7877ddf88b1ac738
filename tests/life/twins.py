"""The stores of a sweeper, in memory. Each can fail at a call of one's choice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from catalog.life import Work
from catalog.media import Thumbnails
from catalog.objects import Stored
from index.removal import Removal
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask
from life.settings import RetentionSettings
from life.sweeper import Stores, Sweeper
from proto.errors import Transient
from proto.life import Erasure, Gone, Hold, Rules, Stretch
from proto.shards import FixedMap, ShardEntry, ShardMap
from proto.types import Moment, SpaceInfo
from tests.contracts.moments import NOON, SPACE, ids, unit
from tests.index.shards import Held, MemoryShard

ENDPOINTS = ("http://a", "http://b")
Result = TypeVar("Result")


class Objects:
    """Objects in memory; all were written at the time of the house."""

    def __init__(self, house: House) -> None:
        self.held: dict[str, tuple[bytes, int]] = {}
        self._house = house

    def put(self, name: str, data: bytes) -> None:
        self.held[name] = data, self._house.now_ms * 1_000_000

    def get(self, name: str) -> bytes | None:
        return self.held[name][0] if name in self.held else None

    def has(self, name: str) -> bool:
        return name in self.held

    def list(self, folder: str) -> Sequence[Stored]:
        self._house.step()
        return [Stored(name, at) for name, (_, at) in self.held.items() if name.startswith(f"{folder}/")]

    def remove(self, names: Collection[str]) -> None:
        self._house.step()
        for name in names:
            self.held.pop(name, None)

    def tidy(self, folder: str) -> None:
        return None


class Notes:
    """Gaps as stretches."""

    def __init__(self) -> None:
        self.held: list[Stretch] = []

    def forget_gone(self, gone: Gone, *, count_only: bool = False) -> int:
        going = [one for one in self.held if not gone.parts(one.camera, one.start_ms, one.end_ms - 1)]
        if not count_only:
            self.held = [one for one in self.held if one not in going]
        return len(going)


class MemoryLife:
    """Rules and work in memory."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.now = Rules(0, trusted_ms=NOON)
        self.works: dict[tuple[int, str], Work] = {}

    def change(self, **changes: object) -> int:
        self.now = replace(self.now, version=self.now.version + 1, **changes)  # type: ignore[arg-type]
        return self.now.version

    def rules(self) -> Rules:
        self._house.step()
        return self.now

    def worked(self, number: int, store: str, removed: int, now_ms: int, *, place: str = "", done: bool) -> None:
        self._house.step()
        before = self.works.get((number, store))
        count = removed + (before.removed if before else 0)
        self.works[number, store] = Work(store, place, count, now_ms, now_ms if done else 0)

    def work(self, number: int) -> list[Work]:
        return [work for (other, _), work in self.works.items() if other == number]

    def done(self, number: int, now_ms: int) -> None:
        self._house.step()
        self.change(
            erasures=tuple(replace(one, done_ms=now_ms) if one.number == number else one for one in self.now.erasures)
        )

    def trust(self, now_ms: int) -> None:
        self.now = replace(self.now, trusted_ms=now_ms)

    def raise_floors(self, floors: Mapping[str, int]) -> None:
        self._house.step()
        later = {camera: max(at, self.now.floors.get(camera, 0)) for camera, at in floors.items()}
        self.change(floors={**self.now.floors, **later})

    def clock_ms(self) -> int | None:
        return self._house.store_ms

    def erase(self, stretch: Stretch, asked_ms: int) -> int:
        number = self.now.version + 1
        return self.change(erasures=(*self.now.erasures, Erasure(number, stretch, "", "", asked_ms)))

    def hold(self, stretch: Stretch) -> int:
        return self.change(holds=(*self.now.holds, Hold(self.now.version + 1, stretch, "", 0)))

    def lift(self, number: int) -> None:
        (lifted,) = (one for one in self.now.holds if one.number == number)
        later = tuple(
            replace(one, done_ms=0) if one.number > number and one.stretch.camera == lifted.stretch.camera else one
            for one in self.now.erasures
        )
        self.change(holds=tuple(one for one in self.now.holds if one.number != number), erasures=later)


class Leases:
    """A lease that only one holder gets."""

    def __init__(self) -> None:
        self.held: tuple[str, int] | None = None

    def take(self, name: str, holder: str, now_ms: int, for_ms: int) -> bool:
        if self.held and self.held[0] != holder and now_ms < self.held[1]:
            return False
        self.held = holder, now_ms + for_ms
        return True


class Failing(MemoryShard):
    """A shard whose calls are steps of the house."""

    house: House

    async def _act(self, call: str = "", bucket: object = None) -> None:
        if call in {"rows", "remove", "drop", "fetch"}:
            self.house.step()
        await super()._act(call, bucket)  # type: ignore[arg-type]


class House:
    """Everything that is stored, a clock, and sweepers."""

    def __init__(self) -> None:
        self.now_ms = NOON
        self.store_ms: int | None = None
        self.newest = 0
        self.fails_in: int | None = None
        """After so many steps of a sweeper a store is away once."""
        self.recorded: set[str] = set()
        self.named = {"gate", "dock"}
        self.held: dict[str, Held] = {name: {} for name in ENDPOINTS}
        self.objects = Objects(self)
        self.pictures = Thumbnails(self.objects)
        self.gaps, self.samples = Notes(), Notes()
        self.life = MemoryLife(self)
        self.leases = Leases()
        shards = {name: MemoryShard(SPACE, held) for name, held in self.held.items()}
        self.store = ShardedStore(SPACE, MilvusSettings(endpoints=ENDPOINTS), shards)
        self.rows = Removal(FixedMap({name: name for name in ENDPOINTS}), self._shard)

    def step(self) -> None:
        """Called by every store at every call of a sweeper."""
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in < 0:
                self.fails_in = None
                raise Transient("a store is away", todo="wait")

    def sweeper(self, holder: str = "me") -> Sweeper:
        async def pause(_: float) -> None:
            return None

        stores = Stores(
            self.rows, self.pictures, self.gaps, self.samples, self.life, self.leases, self, self, 3_600_000
        )
        return Sweeper(stores, RetentionSettings(), holder, clock=lambda: self.now_ms, pause=pause)

    def newest_ms(self) -> int:
        return self.newest

    def names(self) -> frozenset[str]:
        return frozenset(self.named)

    def is_recorded(self, camera: str) -> bool:
        return camera in self.recorded

    async def write(self, moment: Moment, rules: Rules | None = None) -> bool:
        """As a stream worker does that knows these rules."""
        known = rules or self.life.now
        if known.gone(self.now_ms).covers(moment.camera, moment.start_ms, moment.end_ms):
            return False
        self.objects.put(f"{moment.id[-2:]}/{moment.id}.jpg", b"jpeg")
        self.objects.put(f"{moment.id[-2:]}/{moment.id}/{moment.start_ms}.jpg", b"jpeg")
        await self.store.upsert([moment])
        return True

    async def shown(self) -> set[str]:
        """What any question could find now."""
        gone = self.life.now.gone(self.now_ms)
        return set(ids((await self.store.search(Ask(unit(1), 3000, without=gone))).hits))

    def stored(self) -> set[str]:
        return {
            name for held in self.held.values() for buckets in held.values() for one in buckets.values() for name in one
        }

    def pictured(self) -> set[str]:
        return {name.partition("/")[2][:32] for name in self.objects.held}

    def _shard(self, entry: ShardEntry, _: ShardMap, /, *, space: str) -> MemoryShard:
        shard = Failing(SpaceInfo(space, 16), self.held[entry.name])
        shard.house = self
        return shard


async def directly(call: Callable[..., Result], *arguments: object, **more: object) -> Result:
    """asyncio.to_thread without its thread."""
    return call(*arguments, **more)
