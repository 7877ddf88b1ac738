"""Where bundles are stored on this machine, and how a name is resolved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from watchword.settings import Settings


def made_bundles(settings: Settings) -> Path:
    """The folder for bundles that were fetched, exported or quantized."""
    return settings.data_dir / "bundles"


def bundle_folders(settings: Settings) -> list[Path]:
    """Every folder that holds bundles."""
    return [made_bundles(settings), settings.cache_dir / "bundles"]


def bundle_folder(settings: Settings, name: str, say: Callable[[str], None]) -> Path:
    """The folder of a bundle: `builtin` (assembled if missing), the name of one on this machine, or a path."""
    from models.catalogue import find_bundle
    from models.making.builtin import builtin_bundle

    if name == "builtin":
        return builtin_bundle(settings.cache_dir, say)
    return find_bundle(name, bundle_folders(settings))
