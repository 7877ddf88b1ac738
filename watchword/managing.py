"""What changes the house over the network, wired from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchword.settings import Settings

if TYPE_CHECKING:
    from catalog.store import Catalog
    from manage.looking import Look
    from manage.manager import Manager
    from proto.types import Camera

_LONGEST_LOOK_S = 8.0
"""A person waits for a test picture."""


def new_manager(settings: Settings, catalog: Catalog) -> Manager:
    """Answers the calls that change the house."""
    from manage.cameras import CameraKeeper
    from manage.looking import look
    from manage.manager import Manager

    async def looking(camera: Camera) -> Look:
        return await look(camera, min(settings.camera.open_timeout_s, _LONGEST_LOOK_S))

    return Manager(CameraKeeper(catalog), looking)
