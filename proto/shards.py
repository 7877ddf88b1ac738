"""The map of shards: which there are, and where each camera's moments lie, now and formerly. Pure.

A shard has a name; its address may change. Cameras hash onto slots, whose number never changes, and each slot says
where its cameras' moments are written (`now`) and where else some may lie (`also`). So the map has the same size for
ten cameras and for ten thousand, and a camera that nobody has registered has a place without asking anybody.

The first shards of a map divide the cameras by rendezvous hashing of their seeds, and each of these parts into
SLOTS_EACH slots. This keeps every camera where it was before there was a map: the seeds are the addresses of then.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Protocol

from proto.errors import Invalid, Unknown

SLOTS_EACH = 256
"""Slots for each first shard. A slot is what moves at once: of one first shard, 50 shards can have equal shares to a
fifth."""

ACTIVE, DRAINING, GONE = "active", "draining", "gone"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A shard as the map has it."""

    name: str
    address: str
    state: str = ACTIVE
    """ACTIVE; DRAINING: it gets nothing new and is emptied; GONE: it was removed, and its name is kept."""
    marked: bool = False
    """Whether the store behind the address has the mark of this shard."""
    told: str = ""
    """The address that the settings said last. Another one there is a change; the same one leaves a command's alone."""
    seed: str = ""
    """Of a first shard: what cameras are hashed with."""
    place: int = -1
    """Of a first shard: its number among them."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the moments of some cameras lie."""

    now: str
    """The shard that they are written to."""
    also: tuple[str, ...] = ()
    """Other shards that may have some: one that they come from, or go to."""
    coming: str = ""
    """The shard that is being filled and becomes `now`; it is in `also`."""
    unsure: bool = False
    """`also` is every other shard, since nobody knows where moments from before there was a map lie."""
    epoch: int = 0
    """The map's epoch of its last change."""

    @property
    def places(self) -> frozenset[str]:
        """Every shard that must be asked."""
        return frozenset((self.now, *self.also))

    def begun(self, to: str) -> Slot:
        """It is going to `to`, which is asked from now on."""
        return replace(self, coming=to, also=_with(self.also, to), unsure=False)

    def switched(self) -> Slot:
        """It is written to where it was going."""
        also = tuple(name for name in self.also if name != self.coming)
        return replace(self, now=self.coming, also=_with(also, self.now), coming="")

    def without(self, name: str) -> Slot:
        """Nothing of it is left there."""
        also = tuple(one for one in self.also if one != name)
        return replace(self, also=also, unsure=self.unsure and bool(also))

    def with_also(self, name: str) -> Slot:
        """Something of it was found there."""
        return replace(self, also=_with(self.also, name))


@dataclass(frozen=True, eq=False)
class ShardMap:
    """All of it, as it was at one epoch."""

    epoch: int = 0
    cluster: int = 0
    """A number that no other catalog has: it is part of the marks."""
    shards: Mapping[str, ShardEntry] = field(default_factory=dict)
    """By name, with those that are gone."""
    slots: Sequence[Slot] = ()

    @cached_property
    def seeds(self) -> tuple[str, ...]:
        """What cameras are hashed with, by place."""
        first = sorted((one for one in self.shards.values() if one.place >= 0), key=lambda one: one.place)
        return tuple(one.seed for one in first)

    @cached_property
    def serving(self) -> tuple[ShardEntry, ...]:
        """The shards that are not gone, by name."""
        return tuple(one for _, one in sorted(self.shards.items()) if one.state != GONE)

    @cached_property
    def everywhere(self) -> frozenset[str]:
        """Every shard that some slot has moments on."""
        return frozenset().union(*(slot.places for slot in self.slots))

    def number_of(self, camera: str) -> int:
        """The slot of this camera. It never changes."""
        return slot_of(self.seeds, camera)

    def home(self, camera: str) -> str:
        """The shard that this camera's moments are written to."""
        return self.slots[self.number_of(camera)].now

    def places(self, cameras: Collection[str] | None) -> frozenset[str]:
        """The shards that may have moments of these cameras (None: of any)."""
        if cameras is None:
            return self.everywhere
        return frozenset().union(*(self.slots[self.number_of(camera)].places for camera in cameras))

    def needed(self, cameras: Collection[str]) -> frozenset[str]:
        """The shards without which it is not known what these cameras told last."""
        slots = [self.slots[self.number_of(camera)] for camera in cameras]
        return frozenset().union(*({slot.now} if slot.unsure else slot.places for slot in slots))

    def get(self, name: str) -> ShardEntry:
        """The shard of this name. Unknown when there is none, or when it is gone."""
        found = self.shards.get(name)
        if found is None or found.state == GONE:
            raise Unknown(f"there is no shard {name[:40]!r}", todo="`watchword index shards list` shows all")
        return found


class KnownMap(Protocol):
    """The map for those who follow it."""

    def map(self) -> ShardMap:
        """As it was read last."""

    def is_fresh(self) -> bool:
        """Whether it was read so short a time ago that no move can have passed unnoticed."""


class FixedMap:
    """A map that never changes: the shards of a list, any of which may have moments of every camera."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """By name, and hashed by it."""
        named = [(name, address, name) for name, address in addresses.items()]
        self._map = first_map(named, cluster=0)

    def map(self) -> ShardMap:
        """It."""
        return self._map

    def is_fresh(self) -> bool:
        """Always."""
        return True


def first_map(shards: Iterable[tuple[str, str, str]], cluster: int) -> ShardMap:
    """The map over shards (name, address, seed) that had their cameras by rendezvous hashing of the seeds."""
    entries = [
        ShardEntry(name, address, told=address, seed=seed, place=place)
        for place, (name, address, seed) in enumerate(shards)
    ]
    names = [one.name for one in entries]
    slots = [
        Slot(name, tuple(other for other in names if other != name), unsure=len(names) > 1, epoch=1)
        for name in names
        for _ in range(SLOTS_EACH)
    ]
    return ShardMap(1, cluster, {one.name: one for one in entries}, slots)


@lru_cache(maxsize=100_000)
def slot_of(seeds: tuple[str, ...], camera: str) -> int:
    """The number of the camera's slot, among SLOTS_EACH for each seed."""
    place = seeds.index(home(camera, seeds))
    digest = hashlib.blake2b(b"slot\0" + camera.encode(), digest_size=8).digest()
    return place * SLOTS_EACH + int.from_bytes(digest) % SLOTS_EACH


def home(camera: str, seeds: Sequence[str]) -> str:
    """The seed that wins this camera (rendezvous hashing)."""
    return max(seeds, key=lambda seed: hashlib.blake2b(f"{seed}\0{camera}".encode()).digest())


def check_name(name: str) -> str:
    """The name, or Invalid when no shard can have it."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name[:40]!r} cannot be a shard's name",
            todo="use 1 to 32 of a-z 0-9 . _ - and begin with a letter or a digit",
        )
    return name


def named(endpoint: str) -> tuple[str | None, str]:
    """Name and address of `NAME=ADDRESS`; no name where only an address is given."""
    name, equals, address = endpoint.partition("=")
    # Neither an address nor a file's path begins with a name and an equals sign.
    if equals and _NAME.fullmatch(name):
        return name, address.rstrip("/")
    return None, endpoint.rstrip("/")


def moves(of: ShardMap) -> list[tuple[int, str]]:
    """The fewest slots that must go elsewhere, and where: all of draining shards, and what evens out the others.

    No slot is among them that is on its way already.
    """
    active = [one.name for one in of.serving if one.state == ACTIVE]
    if not active:
        raise Invalid("no shard is active", todo="add one: `watchword index shards add NAME ADDRESS`")
    held = Counter(dict.fromkeys(active, 0))
    held.update(_goal(slot) for slot in of.slots)
    share, more = divmod(len(of.slots), len(active))
    # Whoever has most may keep one more.
    by_most = sorted(active, key=lambda name: (-held[name], name))
    wanted = {name: share + (place < more) for place, name in enumerate(by_most)}
    lacking = [name for name in sorted(active) for _ in range(wanted[name] - held[name])]
    leaving = {name: held[name] - wanted.get(name, 0) for name in held}
    found: list[tuple[int, str]] = []
    for number, slot in enumerate(of.slots):
        if leaving[_goal(slot)] > 0 and lacking and not slot.coming:
            leaving[_goal(slot)] -= 1
            found.append((number, lacking.pop(0)))
    return found


def _goal(slot: Slot) -> str:
    return slot.coming or slot.now


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)
