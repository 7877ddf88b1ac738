"""What changes the house over the network, wired from the settings."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

from proto.types import now_ms
from watchword.settings import Settings

if TYPE_CHECKING:
    from catalog.store import Catalog
    from manage.looking import Look
    from manage.manager import Manager
    from proto.types import Camera

_MOST_CAMERAS = 50
_LONGEST_LOOK_S = 8.0
"""A person waits for a test picture."""


def new_manager(settings: Settings, catalog: Catalog) -> Manager:
    """Answers the calls that change the house."""
    from manage.cameras import CameraKeeper
    from manage.desk import Desk, Surroundings
    from manage.looking import look
    from manage.manager import Manager
    from watchword.demo_clips import demo_clips
    from watchword.erase_cli import receipt_of

    async def looking(camera: Camera) -> Look:
        return await look(camera, min(settings.camera.open_timeout_s, _LONGEST_LOOK_S))

    around = Surroundings(
        audit=settings.data_dir / "audit" if settings.access.audit == "folder" else None,
        storage=lambda: _storage(settings, catalog),
        receipt=lambda erasure: receipt_of(settings, catalog, erasure),
        demo=demo_clips(),
    )
    return Manager(CameraKeeper(catalog), looking, Desk(catalog, around))


async def _storage(settings: Settings, catalog: Catalog) -> dict[str, Any]:
    from catalog.cameras import CameraRegistry
    from catalog.life import Life
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from index.opening import new_removal
    from life.status import status_of

    names = await asyncio.to_thread(lambda: sorted(CameraRegistry(catalog).names())[:_MOST_CAMERAS])
    rules = await asyncio.to_thread(Life(catalog).rules)
    rows = new_removal(settings.milvus)
    try:
        pictures = Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails"))
        told = await status_of(rows, pictures, rules, names, now_ms())
    finally:
        await rows.close()
    disk = shutil.disk_usage(settings.data_dir)
    return {**told, "free": disk.free, "total": disk.total}
