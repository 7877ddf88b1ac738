"""The stores that are swept and counted, wired from the settings."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

from watchword.settings import Settings

if TYPE_CHECKING:
    from catalog.store import Catalog
    from index.removal import Removal
    from index.settings import MilvusSettings
    from life.sweeper import Sweeper
    from life.verifying import Asked
    from proto.shards import KnownMap


class RunningSweeper:
    """A sweeper with the connections that are its own."""

    def __init__(self, sweeper: Sweeper, rows: Removal) -> None:
        self._sweeper = sweeper
        self._rows = rows

    async def run(self) -> None:
        """Sweep until cancelled."""
        await self._sweeper.run()

    async def close(self) -> None:
        """Close the connections."""
        await self._rows.close()


def new_sweeper(settings: Settings, catalog: Catalog, known: KnownMap | None = None) -> RunningSweeper:
    """A candidate for the job of removing what is gone."""
    from catalog.cameras import CameraRegistry
    from catalog.coverage import Coverage
    from catalog.leases import Leases
    from catalog.life import Life
    from life.sweeper import Stores, Sweeper

    asked = asked_stores(settings, settings.milvus, catalog, known)
    stores = Stores(
        rows=asked.rows,
        pictures=asked.pictures,
        gaps=asked.gaps,
        backgrounds=asked.backgrounds,
        life=Life(catalog),
        leases=Leases(catalog),
        signs=Coverage(catalog),
        recorded=CameraRegistry(catalog),
        longest_ms=asked.longest_ms,
    )
    return RunningSweeper(Sweeper(stores, settings.retention, holder_name()), asked.rows)


def holder_name() -> str:
    """Names this process, and no other one, as the holder of a lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def asked_stores(settings: Settings, milvus: MilvusSettings, catalog: Catalog, known: KnownMap | None = None) -> Asked:
    """Every store that holds something of what cameras saw. Without a map that is followed, blocks, for that of now."""
    from catalog.backgrounds import Backgrounds
    from catalog.coverage import Coverage
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from index.opening import new_removal
    from life.verifying import Asked
    from watchword.sharding import map_of_now

    return Asked(
        rows=new_removal(milvus, known or map_of_now(milvus, catalog)),
        pictures=Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails")),
        gaps=Coverage(catalog),
        backgrounds=Backgrounds(catalog),
        longest_ms=milvus.longest_moment_s * 1000,
        recordings=settings.data_dir / "recordings",
    )
