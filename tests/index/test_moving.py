"""Cameras move between shards while they are written and searched: nothing is missing, wrong, or comes back."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from index.moving import OPEN_S, Mover, NotMine, Told
from index.places import Bucket, bucket_of
from proto.errors import Broken, Transient
from proto.shards import DRAINING, GONE, SLOTS_EACH
from proto.types import Moment
from tests.contracts.moments import DAY, NOON, moment, region
from tests.index.moving_house import CAMERAS, House
from tests.index.shards import MemoryShard
from tests.life.twins import directly

pytestmark = pytest.mark.long

HISTORIES = int(os.environ.get("HISTORIES", "100")) // 10
"""With HISTORIES=5000 in the environment 500 are tried, which takes minutes."""


@pytest.fixture(autouse=True)
def without_threads() -> Iterator[None]:
    with mock.patch("asyncio.to_thread", directly):
        yield


def at(camera: str, number: int, **more: object) -> Moment:
    """The camera's moment with this number, over three days."""
    start_ms = NOON + (number * 7 % 3) * DAY + number * 1000
    regions = [region(number + n, at_ms=start_ms) for n in range(number % 3)]
    return moment(camera, start_ms, regions=regions, **more)  # type: ignore[arg-type]


def fuller(one: Moment, house: House) -> Moment:
    closed = house.chance.random() < 0.3
    return replace(one, frames=one.frames + 1, last_offset=one.last_offset + 1, closed=closed)


class Writer:
    """Tells moments of its cameras, again and again while they are open."""

    def __init__(self, house: House, number: int, cameras: list[str]) -> None:
        self.house = house
        self.number = number
        self.cameras = cameras
        self.open: dict[str, Moment] = {}
        self.begun = 0
        self.ended = False

    async def run(self) -> None:
        while not self.ended:
            await self.once()
            await asyncio.sleep(0)
            await self.house.turn()

    async def once(self) -> None:
        camera = self.house.chance.choice(self.cameras)
        one = self.open.get(camera)
        if one is None or one.closed:
            self.begun += 1
            one = at(camera, self.begun * 2 + self.number, closed=self.house.chance.random() < 0.5)
        else:
            one = fuller(one, self.house)
        # What was not acknowledged is told again as it is, or fuller.
        self.open[camera] = one
        if not await self.house.write(one, self.number):
            self.open[camera] = replace(one, closed=False)

    async def end(self) -> None:
        """Close everything."""
        for camera, one in self.open.items():
            if not one.closed:
                closed = replace(one, frames=one.frames + 1, last_offset=one.last_offset + 1, closed=True)
                assert await self.house.write(closed, self.number) or self.house.gone.covers(
                    camera, closed.start_ms, closed.end_ms
                )


class Reader:
    """Asks again and again."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.ended = False

    async def run(self) -> None:
        while not self.ended:
            await self.house.check()
            await asyncio.sleep(0)


CHANGES = ([("c", "")], [("c", "a")], [("c", ""), ("", "c")], [("c", ""), ("d", "a")])
"""What is added and what is drained, one change after another."""


async def history(seed: int) -> None:
    house = House(["a"] if seed % 3 else ["a", "b"], seed)
    writers = [Writer(house, n, CAMERAS[n::2]) for n in range(2)]
    for _ in range(25):
        for writer in writers:
            await writer.once()
    reader = Reader(house)
    everybody: list[Writer | Reader] = [*writers, reader]
    tasks = [asyncio.create_task(one.run()) for one in everybody]
    for name, drained in house.chance.choice(CHANGES):
        if name:
            house.book.put(name)
        if drained:
            house.book.put(drained, DRAINING)
        house.all_hear()
        await moved(house)
        for task in tasks:
            if task.done():
                task.result()
    for one in everybody:
        one.ended = True
    await asyncio.gather(*tasks)
    house.all_hear()
    for writer in writers:
        await writer.end()
    assert await house.rebalance()
    house.sweep()
    house.all_hear()
    await house.check(exactly=not house.rules.erasures)
    house.check_places()


async def moved(house: House) -> None:
    """Movers are killed, processes are cut off from the catalog, and something is erased, until a mover has ended."""
    chance, kills = house.chance, 0
    while not await house.rebalance(kill_at=chance.choice([None, chance.randrange(1, 60)]) if kills < 8 else None):
        kills += 1
        moving = any(slot.coming for slot in house.book.now.slots)
        for one in house.followers[:-1]:
            # Who is cut off knows of the move, as all do that ask; `look` is for those who never heard of it.
            one.cut = moving and one.map().epoch == house.book.now.epoch and chance.random() < 0.3
        if chance.random() < 0.2:
            house.erase(chance.choice(CAMERAS), NOON, NOON + DAY)


@pytest.mark.parametrize("part", range(5))
def test_whatever_happens_answers_are_those_of_a_flat_list(part: int) -> None:
    for seed in range(part, HISTORIES, 5):
        try:
            asyncio.run(history(seed))
        except BaseException as error:
            error.add_note(f"in history {seed}")
            raise


@pytest.fixture
async def house() -> House:
    """Thirty closed moments of twelve cameras, on shard a; shard b is new."""
    house = House(["a"], seed=1)
    for number in range(30):
        assert await house.write(at(CAMERAS[number % 12], number))
    house.book.put("b")
    house.all_hear()
    return house


async def test_a_mover_that_is_killed_at_any_step_is_gone_on_with(house: House) -> None:
    kept = {name: {space: {b: dict(ms) for b, ms in held.items()} for space, held in one.items()}
            for name, one in house.held.items()}  # fmt: skip
    book = house.book.now
    step, whole = 0, False
    while not whole:
        for name, one in kept.items():
            house.held[name].clear()
            house.held[name].update({space: {b: dict(ms) for b, ms in held.items()} for space, held in one.items()})
        house.held.get("b", {}).clear()
        house.book.now = book
        whole = await house.rebalance(kill_at=step)
        house.all_hear()
        await house.check()
        assert await house.rebalance()
        house.all_hear()
        await house.check(exactly=True)
        house.check_places()
        step += 7
    assert step > 30


async def test_only_what_must_move_moves(house: House) -> None:
    before = [slot.now for slot in house.book.now.slots]
    told: list[Told] = []
    assert await house.mover(say=told.append).rebalance() == SLOTS_EACH // 2
    after = [slot.now for slot in house.book.now.slots]
    assert sum(was != now for was, now in zip(before, after, strict=True)) == SLOTS_EACH // 2
    on_b = {name for bucket in house.held["b"][at("x", 1).space].values() for name in bucket}
    assert told[-1].removed == max(one.copied for one in told) == len(on_b) > 0
    assert await house.mover().rebalance() == 0


async def test_what_is_erased_while_it_moves_does_not_come_back(house: House) -> None:
    """At each step of the move it is erased, and swept from every shard at once."""
    assert house.erased_left() == []
    for when in range(4, 60, 11):
        house = House(["a"], seed=when)
        for number in range(30):
            await house.write(at(CAMERAS[number % 12], number))
        house.book.put("b")
        house.all_hear()
        await house.rebalance(kill_at=when)
        mover = house.mover()
        seen = 0

        def erase(house: House = house) -> bool:
            nonlocal seen
            seen += 1
            if seen == 4:
                for camera in CAMERAS[::2]:
                    house.erase(camera)
                house.sweep()
            return True

        mover = house.mover(take=erase)
        await mover.rebalance()
        assert house.erased_left() == []
        house.all_hear()
        await house.check()


async def test_a_worker_that_never_heard_of_a_move_loses_nothing_that_a_look_does_not_find(house: House) -> None:
    stale = house.followers[0]
    stale.cut = True
    await house.rebalance()
    moved = next(c for c in CAMERAS if house.book.now.home(c) == "b")
    assert await house.write(at(moved, 1000), 0)
    assert await house.mover().rebalance() == 0
    assert await house.mover().look() == 1
    assert await house.mover().look() == 0
    house.all_hear()
    await house.check()
    assert await house.mover().rebalance() == 1
    house.check_places()


async def test_a_late_open_moment_waits_for_its_worker_and_is_copied_when_it_has_none(house: House) -> None:
    moved = CAMERAS[0]
    late = at(moved, 500, closed=False)
    for number in range(SLOTS_EACH):
        house.book.begin([number], "b")
    house.book.switch(range(SLOTS_EACH), "b")
    shard = house._entered(house.book.now.shards["a"], house.book.now)
    assert await shard.upsert(bucket_of(late.start_ms, 24), [late]) == {}
    told: list[Told] = []
    begun_s = house.now_s
    await house.mover(say=told.append).rebalance()
    assert max(one.waiting for one in told) == 1
    assert house.now_s - begun_s >= OPEN_S
    house.told[late.id] = late
    house.all_hear()
    await house.check()


async def test_a_shard_that_is_away_or_lies_stops_the_move_and_nothing_is_lost(house: House) -> None:
    def away(*given: Any, **more: Any) -> MemoryShard:
        shard = house._opened(*given, **more)
        shard.away = given[0].name == "b"
        return shard

    with pytest.raises(Transient, match="away"):
        await house.mover(opened=away).rebalance()

    def forgets(*given: Any, **more: Any) -> MemoryShard:
        shard = house._opened(*given, **more)
        if given[0].name == "b" and more["makes"]:
            shard.everything = Forgetful()
        return shard

    with pytest.raises(Broken, match="does not give moment"):
        await house.mover(opened=forgets).rebalance()
    with pytest.raises(NotMine):
        await house.mover(take=lambda: False).rebalance()
    house.all_hear()
    await house.check(exactly=True)
    assert await house.mover().rebalance() > 0
    house.check_places()


class Forgetful(dict[str, dict[Bucket, dict[str, Moment]]]):
    """Takes everything and gives nothing back."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        return defaultdict(dict)


async def test_a_drained_shard_is_emptied_and_holds_nothing(house: House) -> None:
    assert await house.mover().held("a") > 30
    house.book.put("a", DRAINING)
    house.erase(next(one for one in CAMERAS if house.book.now.home(one) == "a"))
    await house.rebalance()
    assert await house.mover().held("a") > 0, "what was erased is still there"
    house.sweep()
    assert await house.mover().held("a") == 0
    house.book.put("a", GONE)
    house.all_hear()
    await house.check(exactly=True)
    await Mover(house.mover()._at).close()
