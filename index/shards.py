"""The shards of the map, each with its connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from index.settings import MilvusSettings
from index.shard import Shard
from proto.errors import Broken
from proto.shards import FixedMap, KnownMap, ShardEntry, ShardMap, named


class ShardSet:
    """Opens each shard of the map when it is first used, and again when its address changes."""

    def __init__(self, known: KnownMap, opened: Callable[[ShardEntry, ShardMap], Shard]) -> None:
        """`opened` makes the shard of an entry of this map, without connecting."""
        self.known = known
        self._opened = opened
        self._open: dict[tuple[str, str], Shard] = {}

    @classmethod
    def fixed(cls, shards: Mapping[str, Shard]) -> ShardSet:
        """Shards that never change."""
        return cls(FixedMap({name: name for name in shards}), lambda entry, _: shards[entry.name])

    @property
    def map(self) -> ShardMap:
        """The map as it is known now."""
        return self.known.map()

    def get(self, name: str) -> Shard:
        """The shard of this name."""
        of = self.map
        entry = of.shards[name]
        # One with a former address stays open until the end: calls to it may be under way.
        if (name, entry.address) not in self._open:
            self._open[name, entry.address] = self._opened(entry, of)
        return self._open[name, entry.address]

    def writable(self, camera: str) -> str | None:
        """Where the camera's moments are written; None while that cannot be known: it is being moved, and whoever
        keeps the map does not answer."""
        of = self.map
        slot = of.slots[of.number_of(camera)]
        return None if slot.coming and not self.known.is_fresh() else slot.now

    async def close(self) -> None:
        """Close every connection."""
        for shard in self._open.values():
            await shard.close()


def listed(settings: MilvusSettings) -> FixedMap:
    """The shards of the settings alone."""
    if not settings.endpoints:
        raise Broken("no Milvus is configured", todo="set the endpoints of Milvus, or let the stack start its own")
    return FixedMap({name or address: address for name, address in map(named, settings.endpoints)})
