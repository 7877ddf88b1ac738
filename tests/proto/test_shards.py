"""The map of shards: where cameras lie, and what moves when shards come and go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.errors import Invalid, Unknown
from proto.shards import (
    DRAINING,
    GONE,
    SLOTS_EACH,
    FixedMap,
    ShardEntry,
    ShardMap,
    Slot,
    check_name,
    first_map,
    home,
    moves,
    named,
)

CAMERAS = [f"camera-{n}" for n in range(3000)]


def over(*names: str, **states: str) -> ShardMap:
    """The map of shards that began as the first of these names; the others have no slots yet."""
    first = first_map([(names[0], f"http://{names[0]}", names[0])], cluster=7)
    shards = {name: ShardEntry(name, f"http://{name}") for name in names} | dict(first.shards)
    return replace(
        first, shards={name: replace(one, state=states.get(name, one.state)) for name, one in shards.items()}
    )


def after(of: ShardMap, planned: list[tuple[int, str]]) -> ShardMap:
    slots = list(of.slots)
    for number, to in planned:
        slots[number] = Slot(to)
    return replace(of, slots=slots)


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_the_first_map_leaves_every_camera_where_hashing_the_addresses_put_it(shards: int) -> None:
    addresses = [f"http://milvus-{n}:19530" for n in range(shards)]
    of = first_map([(f"shard-{n}", address, address) for n, address in enumerate(addresses)], cluster=7)
    for camera in CAMERAS:
        assert of.home(camera) == f"shard-{addresses.index(home(camera, addresses))}"
        assert of.places({camera}) == of.places(None) == set(of.shards), "it may lie anywhere"
        assert of.needed({camera}) == {of.home(camera)}


def test_cameras_spread_evenly_over_the_slots() -> None:
    of = over("a")
    counts = Counter(of.number_of(camera) for camera in CAMERAS)
    assert len(of.slots) == SLOTS_EACH
    assert max(counts.values()) < 4 * len(CAMERAS) / SLOTS_EACH
    first = first_map([(name, name, name) for name in "abc"], cluster=0)
    shares = Counter(map(first.home, CAMERAS))
    assert all(850 < shares[name] < 1150 for name in "abc")


@given(st.integers(1, 9), st.sets(st.integers(0, 8)), st.integers(0, 3))
def test_no_slot_moves_that_need_not(shards: int, drained: set[int], more: int) -> None:
    names = [f"s{n}" for n in range(shards)]
    of = over(*names)
    of = after(of, moves(of))
    drained &= set(range(shards))
    states = {f"s{n}": DRAINING for n in drained}
    if len(drained) == shards and not more:
        with pytest.raises(Invalid, match="no shard is active"):
            moves(over(*names, **states))
        return
    changed = {name: replace(one, state=states.get(name, one.state)) for name, one in of.shards.items()}
    changed |= {f"t{n}": ShardEntry(f"t{n}", "") for n in range(more)}
    of = replace(of, shards=changed)
    planned = moves(of)
    active = shards - len(drained) + more
    held = Counter(slot.now for slot in of.slots)
    leaving = sum(held[f"s{n}"] for n in drained)
    coming = sum(len(of.slots) // active for _ in range(more))
    assert max(leaving, coming) <= len(planned) <= max(leaving, coming + more)
    ended = after(of, planned)
    shares = Counter(slot.now for slot in ended.slots)
    assert set(shares) == {name for name, one in changed.items() if one.state != DRAINING}
    assert max(shares.values()) - min(shares.values()) <= 1
    assert moves(ended) == []


def test_what_is_on_its_way_is_not_sent_elsewhere() -> None:
    of = over("a", "b")
    planned = moves(of)
    of = replace(of, slots=[slot.begun("b") if n < 10 else slot for n, slot in enumerate(of.slots)])
    again = moves(of)
    assert len(again) == len(planned) - 10
    assert not {number for number, _ in again} & set(range(10))


def test_a_slot_is_asked_for_everywhere_while_it_moves() -> None:
    slot = Slot("a", ("b", "c"), unsure=True)
    begun = slot.begun("d")
    assert (begun.now, begun.places, begun.unsure) == ("a", frozenset("abcd"), False)
    switched = begun.switched()
    assert (switched.now, switched.places, switched.coming) == ("d", frozenset("abcd"), "")
    assert switched.without("a").without("b").without("c") == Slot("d")
    assert slot.without("b").unsure
    assert not slot.without("b").without("c").unsure
    assert Slot("a").with_also("b") == Slot("a").begun("b").switched().begun("a").switched()


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("http://m:19530", (None, "http://m:19530")),
        ("http://m:19530/", (None, "http://m:19530")),
        ("m-0=http://m:19530/", ("m-0", "http://m:19530")),
        ("http://m:1?token=x", (None, "http://m:1?token=x")),
        ("/data/a=b.db", (None, "/data/a=b.db")),
        ("unix:/run/m=1", (None, "unix:/run/m=1")),
    ],
)
def test_an_endpoint_may_have_a_name(endpoint: str, found: tuple[str | None, str]) -> None:
    assert named(endpoint) == found


def test_names_are_short_and_plain() -> None:
    assert check_name("milvus-0.east") == "milvus-0.east"
    for name in ("", "-a", "A", "a b", "a" * 33, "a=b", "a/b"):
        with pytest.raises(Invalid, match="cannot be a shard's name"):
            check_name(name)


def test_a_shard_that_is_gone_is_unknown() -> None:
    of = over("a", "b", b=GONE)
    assert of.get("a").address == "http://a"
    assert [one.name for one in of.serving] == ["a"]
    for name in ("b", "c"):
        with pytest.raises(Unknown, match="no shard"):
            of.get(name)


def test_a_fixed_map_is_always_fresh_and_of_no_cluster() -> None:
    known = FixedMap({"http://a": "http://a"})
    assert known.is_fresh()
    assert (known.map().cluster, known.map().places(None)) == (0, frozenset({"http://a"}))
