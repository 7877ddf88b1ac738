"""The mark of a shard: an empty collection in its store, whose name says which shard of which catalog it is.

By its mark a store is known for the wrong one behind an address, and for one that has two names. It costs nothing to
look: the collections are listed anyway. Marks of other catalogs mean nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from index.milvus_kinds import is_lite
from proto.errors import Broken
from proto.shards import ShardEntry, ShardMap

_MARK = re.compile(r"watchword_shard_([0-9a-f]{16})_([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Mark:
    """What the store of a shard must have."""

    cluster: int
    """The number of the catalog; 0: nothing is checked."""
    name: str
    """Of the shard."""
    needed: bool = False
    """Whether it was made already, so that a store without it is another one."""

    @property
    def collection(self) -> str:
        """The name of the empty collection."""
        return f"watchword_shard_{self.cluster:016x}_{self.name.encode().hex()}"

    def check(self, collections: Iterable[str], address: str) -> bool:
        """Whether the store with these collections has the mark. Broken when it is the store of another shard, or when
        the mark was there once and is not now."""
        found = set(self._marks(collections))
        if others := sorted(found - {self.name}):
            raise Broken(
                f"the Milvus at {address} is shard {others[0]}, not {self.name}",
                todo=f"one of the two has a wrong address: watchword index shards address {self.name} ADDRESS",
            )
        if self.needed and not found:
            raise Broken(
                f"the Milvus at {address} is not shard {self.name}: it has not its mark",
                todo=f"watchword index shards address {self.name} ADDRESS; with --emptied if this one lost all it had",
            )
        return self.name in found

    def _marks(self, collections: Iterable[str]) -> Iterable[str]:
        if self.cluster:
            for found in filter(None, map(_MARK.fullmatch, collections)):
                if int(found[1], 16) == self.cluster:
                    yield bytes.fromhex(found[2]).decode()


NO_MARK = Mark(0, "")


def mark_of(entry: ShardEntry, of: ShardMap) -> Mark:
    """The mark that the shard must have. A file for milvus-lite has none: its path is its name."""
    return NO_MARK if is_lite(entry.address) else Mark(of.cluster, entry.name, entry.marked)
