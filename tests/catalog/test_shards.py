"""The map of shards as rows; every test with `url` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging

import pytest

from catalog.known_shards import FRESH_S, KnownShards
from catalog.shards import Shards
from proto.errors import Invalid, Transient, Unknown, WatchwordError
from proto.shards import ACTIVE, DRAINING, GONE, SLOTS_EACH, ShardMap, Slot, home
from tests.catalog.shared import opened

A, B, C = "http://a:19530", "http://b:19530", "http://c:19530"
CAMERAS = [f"camera-{n}" for n in range(50)]


@pytest.fixture
def shards(url: str) -> Shards:
    return Shards(opened(url))


def test_the_settings_list_is_taken_over_once_and_nobody_moves(shards: Shards) -> None:
    assert shards.map().shards == {}
    assert shards.take_over([]) == []
    told = shards.take_over([A, f"{B}/", f"third={C}"])
    assert told[0] == f"the shard at {A} is named shard-1"
    of = shards.map()
    assert {one.name: one.address for one in of.serving} == {"shard-1": A, "shard-2": B, "third": C}
    assert of.cluster > 0
    names = dict(zip((A, B, C), of.shards, strict=True))
    for camera in CAMERAS:
        assert of.home(camera) == names[home(camera, (A, B, C))]
        assert of.places({camera}) == {"shard-1", "shard-2", "third"}
    assert shards.take_over([C, A, B]) == []
    assert shards.map().slots == of.slots
    assert shards.map().cluster == of.cluster


def test_the_only_shard_may_have_another_address_at_each_start(shards: Shards) -> None:
    shards.take_over([A])
    before = [shards.map().home(camera) for camera in CAMERAS]
    assert shards.take_over([B]) == [f"shard shard-1 is at {B} now, and was at {A}"]
    assert [one.address for one in shards.map().serving] == [B]
    assert [shards.map().home(camera) for camera in CAMERAS] == before


def test_a_name_keeps_its_moments_when_its_address_changes(shards: Shards) -> None:
    shards.take_over([f"a={A}", f"b={B}"])
    before = [shards.map().home(camera) for camera in CAMERAS]
    assert shards.take_over([f"a={A}", f"b={C}"]) == [f"shard b is at {C} now, and was at {B}"]
    assert [shards.map().home(camera) for camera in CAMERAS] == before
    # A command wins until the settings say something new.
    shards.move_to("b", "http://d")
    assert shards.take_over([f"a={A}", f"b={C}"]) == []
    assert shards.map().get("b").address == "http://d"
    assert shards.take_over([f"a={A}", "b=http://e"]) == ["shard b is at http://e now, and was at http://d"]


def test_a_new_name_in_the_settings_is_a_new_shard_without_cameras(shards: Shards) -> None:
    shards.take_over([f"a={A}"])
    assert shards.take_over([f"a={A}", f"b={B}"]) == [f"{B} is the new shard b"]
    of = shards.map()
    assert of.get("b").state == ACTIVE
    assert of.places(None) == {"a"}
    # One that is in no settings any more may hold moments, and stays.
    assert shards.take_over([f"b={B}"]) == []
    assert [one.name for one in shards.map().serving] == ["a", "b"]


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ([A, C], f"milvus.endpoints has {C}, and no shard has this address"),
        ([f"a={B}", f"b={A}"], "is the address of shard"),
        ([f"c={A}"], f"{A} is the address of shard a"),
        ([f"c={C}", f"d={C}"], f"has the address {C} twice"),
        ([f"c={C}", f"c={A}"], "has the name c twice"),
        ([f"gone={C}"], "shard gone, which was removed"),
    ],
)
def test_settings_that_contradict_the_map_are_refused_in_one_line(
    shards: Shards, endpoints: list[str], message: str
) -> None:
    shards.take_over([f"a={A}", f"b={B}"])
    shards.add("gone", C)
    shards.drain("gone")
    shards.remove("gone")
    before = shards.map()
    with pytest.raises(Invalid, match=message.replace("(", r"\(")) as refused:
        shards.take_over(endpoints)
    assert refused.value.todo
    assert shards.map() is before


def test_a_shard_is_added_drained_and_removed(shards: Shards) -> None:
    shards.take_over([f"a={A}"])
    with pytest.raises(Invalid, match="a is the only active shard"):
        shards.drain("a")
    shards.add("b", f"{B}/")
    assert shards.map().get("b").address == B
    for name, address in (("b", C), ("c", B), ("a b", C)):
        with pytest.raises(Invalid):
            shards.add(name, address)
    with pytest.raises(Invalid, match="holds moments, or may get some"):
        shards.remove("b")
    shards.drain("b")
    with pytest.raises(Invalid, match="shard b is at"):
        shards.add("b", C)
    shards.add("b", B)
    assert shards.map().get("b").state == ACTIVE
    shards.drain("a")
    with pytest.raises(Invalid, match="holds moments"):
        shards.remove("a")
    shards.drain("a")
    shards.begin(range(SLOTS_EACH), "b")
    shards.switch(range(SLOTS_EACH), "b")
    with pytest.raises(Invalid, match="holds moments"):
        shards.remove("a")
    shards.finish(range(SLOTS_EACH), "a")
    shards.remove("a")
    assert shards.map().shards["a"].state == GONE
    for call in (shards.drain, shards.remove):
        with pytest.raises(Unknown):
            call("a")
    with pytest.raises(Unknown):
        shards.move_to("nobody", C)
    shards.add("a", C)
    assert [(one.name, one.state) for one in shards.map().serving] == [("a", ACTIVE), ("b", ACTIVE)]


def test_each_change_has_an_epoch_and_slots_remember_theirs(shards: Shards) -> None:
    shards.take_over([f"a={A}"])
    shards.add("b", B)
    first = shards.map()
    shards.begin([3, 5], "b")
    begun = shards.map()
    assert begun.epoch > first.epoch
    assert begun.slots[3] == Slot("a", ("b",), "b", epoch=begun.epoch)
    assert begun.slots[4] is first.slots[4]
    with pytest.raises(Transient, match="somebody else moves"):
        shards.begin([5, 6], "b")
    with pytest.raises(Transient, match="somebody else moves"):
        shards.switch([4], "b")
    assert shards.map() is begun, "a change that was refused half-way changes nothing"
    with pytest.raises(Transient, match="somebody else moves"):
        shards.finish([3], "b")
    shards.switch([3], "b")
    assert shards.map().slots[3] == Slot("b", ("a",), epoch=shards.map().epoch)
    shards.finish([3], "a")
    shards.found([3, 4], "a")
    assert shards.map().slots[3] == Slot("b", ("a",), epoch=shards.map().epoch)
    assert shards.map().slots[4].places == {"a"}
    with pytest.raises(Transient):
        shards.begin([9999], "b")


def test_another_process_hears_of_it(url: str) -> None:
    here, there = Shards(opened(url)), Shards(opened(url))
    here.take_over([A])
    assert there.map().get("shard-1").address == A
    here.marked("shard-1")
    here.move_to("shard-1", B)
    assert there.map().get("shard-1").address == B
    assert there.map().get("shard-1").marked
    here.add("b", A)
    here.begin([1], "b")
    assert there.map().slots == here.map().slots


def test_of_several_that_start_at_once_one_makes_the_map(url: str) -> None:
    many = [Shards(opened(url)) for _ in range(4)]

    async def start() -> None:
        await asyncio.gather(*(asyncio.to_thread(one.take_over, [A, B]) for one in many))

    asyncio.run(start())
    assert len({one.map().cluster for one in many}) == 1
    assert len(many[0].map().slots) == 2 * SLOTS_EACH


def test_a_draining_shard_is_still_one_of_those_that_serve(shards: Shards) -> None:
    shards.take_over([f"a={A}", f"b={B}"])
    shards.drain("b")
    assert [one.state for one in shards.map().serving] == [ACTIVE, DRAINING]


class Source:
    def __init__(self) -> None:
        self.now = ShardMap(1)
        self.error: Exception | None = None
        self.reads = 0

    def map(self) -> ShardMap:
        self.reads += 1
        if self.error:
            raise self.error
        return self.now


async def test_who_follows_goes_on_with_what_is_known_while_the_catalog_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, now_s = Source(), 100.0
    known = KnownShards(source, every_s=0.001, clock=lambda: now_s)
    await known.read()
    following = asyncio.create_task(known.follow())

    async def after(reads: int) -> None:
        wanted = source.reads + reads
        async with asyncio.timeout(30):
            while source.reads < wanted:  # noqa: ASYNC110 - it is read in a thread
                await asyncio.sleep(0.001)

    try:
        source.now = ShardMap(2)
        await after(3)
        assert known.map().epoch == 2
        with caplog.at_level(logging.INFO, "watchword.catalog"):
            for trouble in (Transient("it is away", todo="wait"), RuntimeError("a fault")):
                source.error = trouble
                await after(3)
                now_s += FRESH_S
                assert (known.map().epoch, known.is_fresh()) == (2, False)
            source.error = None
            await after(3)
        assert known.is_fresh()
        assert "used from now on" in caplog.text
        assert "can be read again" in caplog.text
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    source.error = Transient("it is away", todo="wait")
    with pytest.raises(WatchwordError):
        await KnownShards(source).read()
