"""Which store the settings name: Milvus, or folders of this machine. The other one is not even imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from index.removal import Removal
from index.settings import IN_FOLDER, MilvusSettings
from index.sharded import ShardedStore
from proto.errors import Broken
from proto.types import SpaceInfo

if TYPE_CHECKING:
    from index.scan.store import Questions


def new_store(space: SpaceInfo, settings: MilvusSettings, questions: Questions | None = None) -> ShardedStore:
    """The store of the space. `questions` gives questions in words, with which a folder's codes are checked."""
    if in_folders(settings):
        from index.scan.store import ScanStore

        return ScanStore(space, settings, questions)
    from index.milvus import MilvusStore

    return MilvusStore(space, settings)


def new_removal(settings: MilvusSettings) -> Removal:
    """What removes rows of any space."""
    if in_folders(settings):
        from index.scan.store import scan_removal

        return scan_removal(settings)
    from index.milvus import milvus_removal

    return milvus_removal(settings)


def folders_of(settings: MilvusSettings) -> list[Path]:
    """The folders that the moments are kept in; none where they are in a Milvus."""
    if not in_folders(settings):
        return []
    from index.scan.store import folder_of

    return [folder_of(endpoint) for endpoint in settings.endpoints]


def in_folders(settings: MilvusSettings) -> bool:
    """Whether moments are kept in folders. Raises Broken where only some of the endpoints are folders."""
    folders = [endpoint.startswith(IN_FOLDER) for endpoint in settings.endpoints]
    if any(folders) and not all(folders):
        raise Broken("milvus.endpoints names folders and a Milvus", todo="name one kind of index")
    return any(folders)
