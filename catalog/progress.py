"""How far each recording was replayed, so that a restart continues there."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, select

from catalog.store import Catalog
from catalog.tables import PROGRESS


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one recording was replayed."""

    camera: str
    source: str
    """The address and the other settings that identify the replay (start, loop). Another source starts over."""
    run: int
    """`Frame.run` of this replay."""
    start_ms: int
    """The captured time of the recording's first frame."""
    at_s: float
    """File time, counted over all loop rounds, up to which the broker has every frame."""
    sequence: int
    """The next `Frame.sequence`."""
    ended: bool


class Progresses:
    """The progress of every recording. All methods block; `put` is durable."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def get(self, camera: str) -> Progress | None:
        with self._catalog.reading() as connection:
            row = connection.execute(select(PROGRESS).where(PROGRESS.c.camera == camera)).first()
        return None if row is None else Progress(**row._mapping)

    def put(self, progress: Progress) -> None:
        """Replace the camera's progress."""
        with self._catalog.writing() as connection:
            self._catalog.put(connection, PROGRESS, [asdict(progress)])

    def forget(self, camera: str) -> None:
        with self._catalog.writing() as connection:
            connection.execute(delete(PROGRESS).where(PROGRESS.c.camera == camera))
