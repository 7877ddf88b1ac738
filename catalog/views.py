"""How each camera's view is: the same as before, or turned, covered, out of focus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select

from catalog.store import Catalog
from catalog.tables import VIEWS
from proto.errors import Broken

STATES = ("clear", "turned", "covered", "defocused")


@dataclass(frozen=True, slots=True)
class CameraView:
    """The view of one camera, as its process judged it last."""

    camera: str
    view: int
    """`Frame.view`: how often the view changed."""
    state: str
    """One of STATES."""
    since_ms: int
    """The captured time from which on it is in this state."""


class Views:
    """The view of every camera whose view ever changed. All methods block; `put_view` is durable."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def view_of(self, camera: str) -> CameraView | None:
        with self._catalog.reading() as connection:
            row = connection.execute(select(VIEWS).where(VIEWS.c.camera == camera)).first()
        return None if row is None else _view(dict(row._mapping))

    def all(self) -> dict[str, CameraView]:
        """By camera."""
        with self._catalog.reading() as connection:
            return {row.camera: _view(dict(row._mapping)) for row in connection.execute(select(VIEWS))}

    def put_view(self, view: CameraView) -> None:
        """Replace the camera's view."""
        with self._catalog.writing() as connection:
            self._catalog.put(connection, VIEWS, [asdict(view)])


def _view(row: dict[str, Any]) -> CameraView:
    found = CameraView(**row)
    if found.state not in STATES:
        raise Broken(
            f"the catalog says that the view of {found.camera} is {found.state!r}, which this Watchword does not know",
            todo="use the Watchword that wrote it",
        )
    return found
