"""The catalog that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from watchword.settings import Settings

if TYPE_CHECKING:
    from catalog.cameras import CameraRegistry
    from catalog.store import Catalog


def new_catalog(settings: Settings) -> Catalog:
    """The catalog, not opened yet."""
    from catalog.store import Catalog, sqlite_url

    url = settings.catalog.url.get_secret_value() or sqlite_url(settings.data_dir.absolute() / "catalog.db")
    return Catalog(url, settings.catalog.timeout_s)


def open_whole(settings: Settings, catalog: Catalog) -> None:
    """Open it, and take over what earlier versions kept in files. Blocks."""
    from catalog.cameras import CameraRegistry
    from catalog.takeover import take_over_cameras

    catalog.open()
    take_over_cameras(settings.data_dir / "cameras.json", CameraRegistry(catalog))


@contextmanager
def open_catalog(settings: Settings) -> Iterator[Catalog]:
    """The catalog, open for a command. Blocks."""
    catalog = new_catalog(settings)
    try:
        open_whole(settings, catalog)
        yield catalog
    finally:
        catalog.close()


@contextmanager
def catalog_as_it_is(settings: Settings) -> Iterator[Catalog | None]:
    """The catalog for a look that changes nothing; None when it has not the tables of this version yet. Blocks."""
    if not settings.catalog.url.get_secret_value() and not (settings.data_dir / "catalog.db").exists():
        yield None
        return
    catalog = new_catalog(settings)
    try:
        yield catalog if catalog.is_current() else None
    finally:
        catalog.close()


@contextmanager
def open_registry(settings: Settings) -> Iterator[CameraRegistry]:
    """The registry of cameras, open for a command. Blocks."""
    from catalog.cameras import CameraRegistry

    with open_catalog(settings) as catalog:
        yield CameraRegistry(catalog)
