"""Where bundles live on this machine, and which one a name means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from watchword.settings import Settings


def made_bundles(settings: Settings) -> Path:
    """Where bundles go that were fetched or made on purpose."""
    return settings.data_dir / "bundles"


def bundle_folders(settings: Settings) -> list[Path]:
    """Every folder that holds bundles."""
    return [made_bundles(settings), settings.cache_dir / "bundles"]


def bundle_folder(settings: Settings, name: str, say: Callable[[str], None]) -> Path:
    """`builtin` (assembled when it is not there yet), the name of a bundle on this machine, or a folder."""
    from models.builtin import builtin_bundle
    from models.catalogue import find_bundle

    if name == "builtin":
        return builtin_bundle(settings.cache_dir, say)
    return find_bundle(name, bundle_folders(settings))
