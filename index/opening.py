"""Which store an address names: a Milvus, or a folder of this machine. The other one is not even imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from index.removal import Removal
from index.settings import IN_FOLDER, MilvusSettings
from index.shard import Shard
from index.sharded import ShardedStore
from index.shards import listed
from proto.errors import Broken
from proto.shards import GONE, KnownMap, ShardEntry, ShardMap
from proto.types import SpaceInfo

if TYPE_CHECKING:
    from index.scan.store import Questions

_OTHER_KIND = "leave milvus.endpoints as it was; or use another data_dir, and `watchword restore` a backup there"


def new_store(
    space: SpaceInfo, settings: MilvusSettings, questions: Questions | None = None, known: KnownMap | None = None
) -> ShardedStore:
    """The store of the space, over the shards of the map that is known; without one, over those of the settings.

    `questions` gives questions in words, with which a folder's codes are checked.
    """
    known = known or listed(settings)
    if in_folders(known.map()):
        from index.scan.store import ScanStore

        return ScanStore(space, settings, questions, known=known)
    from index.milvus import MilvusStore

    return MilvusStore(space, settings, known=known)


def new_shard(
    entry: ShardEntry, of: ShardMap, *, space: SpaceInfo, settings: MilvusSettings, makes: bool = True
) -> Shard:
    """The shard of this entry of the map, for a space. Nothing is connected yet. Unless it `makes` buckets, one that is
    missing stays so."""
    if is_folder(entry.address):
        from index.scan.store import scan_shard

        return scan_shard(entry.address, space, settings, makes=makes)
    from index.milvus import milvus_shard

    return milvus_shard(entry, of, space=space, settings=settings, makes=makes)


def new_removal(settings: MilvusSettings, known: KnownMap | None = None) -> Removal:
    """What removes rows from the shards, of whatever space. Nothing is connected yet."""

    def opened(entry: ShardEntry, of: ShardMap, /, *, space: str) -> Shard:
        return new_shard(entry, of, space=SpaceInfo(space, 2), settings=settings, makes=False)

    return Removal(known or listed(settings), opened)


def folders_of(of: ShardMap) -> list[Path]:
    """The folders that the moments are kept in; none where they are in a Milvus."""
    if not in_folders(of):
        return []
    from index.scan.store import folder_of

    return [folder_of(one.address) for one in of.serving]


def in_folders(of: ShardMap) -> bool:
    """Whether moments are kept in folders. Raises Broken where only some of the shards are folders."""
    folders = [is_folder(one.address) for one in of.serving]
    if any(folders) and not all(folders):
        raise Broken("some shards are folders and some a Milvus", todo="name one kind of index in milvus.endpoints")
    return any(folders)


def check_kinds(before: Mapping[str, ShardEntry], after: Mapping[str, ShardEntry]) -> None:
    """Raise Broken where shards would be of two kinds, or one that was a Milvus would become a folder, or the other way
    round: nothing of what it has would be found."""
    for name, entry in _serving(after).items():
        there = _serving(before).get(name)
        if there is not None and is_folder(there.address) != is_folder(entry.address):
            was, now = ("folder", "Milvus") if is_folder(there.address) else ("Milvus", "folder")
            raise Broken(f"shard {name} is a {was}, and {entry.address} is a {now}", todo=_OTHER_KIND)
    if len({is_folder(one.address) for one in _serving(after).values()}) > 1:
        todo = _OTHER_KIND if _serving(before) else "name one kind of index in milvus.endpoints"
        raise Broken("some shards are folders and some a Milvus", todo=todo)


def _serving(shards: Mapping[str, ShardEntry]) -> dict[str, ShardEntry]:
    return {name: one for name, one in shards.items() if one.state != GONE}


def is_folder(address: str) -> bool:
    """Whether a folder of this machine is named, and no Milvus."""
    return address.startswith(IN_FOLDER)
