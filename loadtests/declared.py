"""Records gaps exactly as stream workers declare them; the catalog merges them once no restart asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import text

from catalog.coverage import Coverage, Gap, Reason
from catalog.store import Catalog

_COLUMNS = "camera, reason, start_ms, end_ms, frames, log, partition, first_offset, last_offset"


class Declared:
    """Keeps every gap that is declared in this data folder's catalog from now on, as declared."""

    def __init__(self, data_dir: Path) -> None:
        self._catalog = Catalog(f"sqlite:///{data_dir / 'catalog.db'}")
        self._catalog.open()
        # All names are constants.
        new = ", ".join(f"new.{column}" for column in _COLUMNS.split(", "))
        with self._catalog.writing() as connection:
            connection.execute(text(f"CREATE TABLE IF NOT EXISTS every_gap ({_COLUMNS})"))
            for event in ("INSERT", "UPDATE"):
                name = f"CREATE TRIGGER IF NOT EXISTS every_gap_{event} AFTER {event} ON declared_gaps"
                connection.execute(text(f"{name} BEGIN INSERT INTO every_gap VALUES ({new}); END"))  # noqa: S608

    def gaps(self) -> list[Gap]:
        """All gaps, in the order of their declaration."""
        with self._catalog.reading() as connection:
            rows = connection.execute(text(f"SELECT {_COLUMNS} FROM every_gap ORDER BY rowid"))  # noqa: S608
            return [Gap(row[0], Reason(row[1]), *row[2:]) for row in rows]

    def told(self) -> list[Gap]:
        """The gaps in an answer about all times."""
        return Coverage(self._catalog).gaps(None, None, None)

    def close(self) -> None:
        self._catalog.close()


def understated(told: Iterable[Gap], shed: int) -> list[str]:
    """A sentence if answers report fewer or more frames than were shed."""
    frames = sum(gap.frames for gap in told if gap.reason is Reason.SHED)
    return [] if frames == shed else [f"answers tell of {frames} shed frames, {shed} were declared"]
