from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from catalog.backgrounds import Background
from index.removal import Removal
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from proto.errors import Invalid, Poison, Transient
from proto.life import Erasure, Rules, Stretch
from proto.shards import FixedMap
from proto.types import Box, Moment, Region, SpaceInfo, Vector
from spaces.cutting import part_of
from spaces.moving import House, Move, Moved, drop_space
from tests.contracts.moments import HOUR, MINUTE, NOON, SPACE, moment, unit
from tests.index.shards import Held, MemoryShard

NEW = SpaceInfo("07e2" * 4, 8)
ENDPOINTS = ("http://a", "http://b")
HALF = Box(0.5, 0.0, 1.0, 1.0)


def picture(left: int, right: int) -> bytes:
    """A picture with two halves."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = left, right
    into = io.BytesIO()
    Image.fromarray(pixels).save(into, "JPEG", quality=95)
    return into.getvalue()


def brightness(jpeg: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(jpeg))).mean())


class Encoder:
    """Its vectors say how bright a picture is. Away at one call."""

    def __init__(self, fails: Sequence[int] = ()) -> None:
        self.calls = 0
        self._fails = fails

    async def embed_images(self, images: Sequence[bytes]) -> Sequence[Vector | Poison]:
        self.calls += 1
        if self.calls in self._fails:
            raise Transient("the encoder is away", todo="wait")
        return [Poison("damaged", "no picture", todo="") if one == b"no" else seen(brightness(one)) for one in images]


def seen(bright: float) -> Vector:
    vector = np.zeros(NEW.dimension, np.float32)
    vector[0], vector[1] = np.cos(bright / 200), np.sin(bright / 200)
    return vector


class Pictures(dict[str, list[tuple[int | None, bytes]]]):
    def all_of(self, moment_id: str) -> list[tuple[int | None, bytes]]:
        return self.get(moment_id, [])


class Samples:
    def __init__(self) -> None:
        self.held: dict[str, list[Background]] = {}

    def get(self, space: str, cameras: frozenset[str] | None = None) -> list[Background]:
        return self.held.get(space, [])

    def put(self, space: str, background: Background) -> None:
        self.held.setdefault(space, []).append(background)


class Life:
    def __init__(self) -> None:
        self.now = Rules(0, trusted_ms=NOON)

    def rules(self) -> Rules:
        return self.now


class World:
    """An index of two spaces on two shards."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {name: {} for name in ENDPOINTS}
        known = FixedMap({name: name for name in ENDPOINTS})
        self.rows = Removal(known, lambda one, _, /, *, space: MemoryShard(SpaceInfo(space, 2), self.held[one.name]))
        self.pictures, self.samples, self.life = Pictures(), Samples(), Life()
        self.encoder = Encoder()

    def store(self, space: SpaceInfo) -> ShardedStore:
        shards = {name: MemoryShard(space, held) for name, held in self.held.items()}
        return ShardedStore(space, MilvusSettings(endpoints=ENDPOINTS), shards)

    async def move(self, encoder: Encoder | None = None, share: float = 1.0) -> Moved:
        house = House(self.rows, self.pictures, self.samples, self.life)
        run = Move(
            house,
            SPACE.id,
            self.store(NEW),
            encoder or self.encoder,
            share=share,
            clock=lambda: NOON,
            pause=self.pause,
            stopwatch=lambda: 0.0,
        )
        return await run.run()

    async def pause(self, _: float) -> None:
        return None

    def stored(self, space: SpaceInfo) -> dict[str, Moment]:
        return {
            name: one
            for held in self.held.values()
            for some in held.get(space.id, {}).values()
            for name, one in some.items()
        }


def with_regions(camera: str, start_ms: int) -> Moment:
    one = moment(camera, start_ms, length_ms=2000)
    at_peak = Region(one.peak_ms, HALF, unit(1), "cat", 0.5)
    then = Region(one.start_ms, HALF, unit(2))
    return replace(one, regions=(at_peak, then))


async def test_a_moment_is_embedded_whole_and_by_its_boxes_out_of_the_pictures_of_their_instants() -> None:
    world = World()
    one = with_regions("gate", NOON)
    await world.store(SPACE).upsert([one])
    world.pictures[one.id] = [(one.start_ms, picture(0, 200)), (None, picture(0, 100))]
    moved = await world.move()
    assert (moved.moments, moved.seen, moved.total) == (1, 1, 1)
    new = world.stored(NEW)[one.id]
    assert new.vector @ seen(50) > 0.999
    assert [region.vector @ seen(bright) > 0.999 for region, bright in zip(new.regions, (100, 200), strict=True)]
    assert [(region.kind, region.box, region.at_ms) for region in new.regions] == [
        ("cat", HALF, one.peak_ms),
        ("", HALF, one.start_ms),
    ]
    assert world.stored(SPACE)[one.id] is one
    assert [(b.camera, b.moments, len(b.samples[0])) for b in world.samples.get(NEW.id)] == [("gate", (one.id,), 3)]


async def test_what_cannot_be_moved_is_counted_and_stays() -> None:
    world = World()
    known, lacking, going, erased, damaged = (
        with_regions("gate", NOON - HOUR),
        moment("gate", NOON),
        moment("gate", NOON + MINUTE, closed=False),
        moment("yard", NOON),
        moment("yard", NOON - 3 * HOUR),
    )
    await world.store(SPACE).upsert([known, lacking, going, erased, damaged])
    world.pictures[known.id] = [(None, picture(9, 9))]
    world.pictures[erased.id] = world.pictures[going.id] = [(None, picture(9, 9))]
    world.pictures[damaged.id] = [(None, b"no")]
    world.life.now = replace(world.life.now, erasures=(Erasure(1, Stretch("yard", NOON, NOON + 1), "", "", 0),))
    moved = await world.move()
    assert (moved.moments, moved.unreadable, moved.open, moved.gone) == (1, 2, 1, 1)
    assert moved.without_regions == 1
    assert world.stored(NEW).keys() == {known.id}
    assert len(world.stored(SPACE)) == 5


async def test_there_and_back_again_brings_what_came_meanwhile() -> None:
    world = World()
    first, second = moment("gate", NOON), moment("gate", NOON + MINUTE)
    world.pictures[first.id] = world.pictures[second.id] = [(None, picture(9, 9))]
    await world.store(SPACE).upsert([first])
    await world.move()
    await world.store(SPACE).upsert([second])
    moved = await world.move()
    assert (moved.moments, moved.there) == (1, 1)
    assert await drop_space(world.rows, SPACE.id) == 1
    assert world.stored(SPACE) == {}
    assert world.stored(NEW).keys() == {first.id, second.id}


async def test_to_the_same_space_nothing_moves() -> None:
    world = World()
    house = House(world.rows, world.pictures, world.samples, world.life)
    with pytest.raises(Invalid, match="already"):
        Move(house, SPACE.id, world.store(SPACE), world.encoder)


async def test_the_share_of_time_is_kept() -> None:
    world = World()
    one = moment("gate", NOON)
    world.pictures[one.id] = [(None, picture(9, 9))]
    await world.store(SPACE).upsert([one])
    times = iter([10.0, 12.0])
    paused: list[float] = []

    async def pause(for_s: float) -> None:
        paused.append(for_s)

    house = House(world.rows, world.pictures, world.samples, world.life)
    run = Move(
        house,
        SPACE.id,
        world.store(NEW),
        world.encoder,
        share=0.25,
        clock=lambda: NOON,
        pause=pause,
        stopwatch=lambda: next(times),
    )
    await run.run()
    assert paused == [6.0]


class Killed(Exception):
    pass


@settings(max_examples=15)
@given(
    minutes=st.sets(st.integers(0, 400), min_size=1, max_size=12),
    away=st.lists(st.integers(1, 6), max_size=3),
    dies=st.lists(st.integers(1, 3), max_size=3),
    lacking=st.integers(0, 3),
)
async def test_moved_is_everything_with_a_picture_whatever_is_killed_when(
    minutes: set[int], away: list[int], dies: list[int], lacking: int
) -> None:
    world = World()
    moments = [moment("gate" if number % 2 else "yard", NOON - number * MINUTE) for number in sorted(minutes)]
    await world.store(SPACE).upsert(moments)
    for one in moments[lacking:]:
        world.pictures[one.id] = [(None, picture(9, one.start_ms % 200))]

    class Dying(Encoder):
        async def embed_images(self, images: Sequence[bytes]) -> Sequence[Vector | Poison]:
            if self.calls + 1 in dies:
                dies.remove(self.calls + 1)
                raise Killed
            return await super().embed_images(images)

    while True:
        try:
            moved = await world.move(Dying(away))
            break
        except Killed:
            continue
    assert moved.seen == moved.total == len(moments)
    assert world.stored(NEW).keys() == {one.id for one in moments[lacking:]}
    assert world.stored(SPACE).keys() == {one.id for one in moments}


def test_a_part_of_what_is_no_picture_is_nothing() -> None:
    assert part_of(b"no picture", HALF) is None
    assert brightness(part_of(picture(0, 200), HALF) or b"") > 190
    thin = part_of(picture(0, 200), Box(0.999, 0.999, 1.0, 1.0))
    assert thin is not None
    assert Image.open(io.BytesIO(thin)).size == (1, 1)
