"""Records gaps exactly as stream workers declare them; the catalog merges them once no restart asks for them."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Column, Integer, MetaData, Table, select, text

from catalog.coverage import Coverage, Gap, Reason
from catalog.store import Catalog
from catalog.tables import DECLARED

_NAMES = ("camera", "reason", "start_ms", "end_ms", "frames", "log", "partition", "first_offset", "last_offset")
_EVERY = Table(
    "every_gap",
    MetaData(),
    Column("number", Integer, primary_key=True),
    *(Column(name, DECLARED.c[name].type, nullable=False) for name in _NAMES),
)
# All names are constants.
_KEEP = f"INSERT INTO every_gap ({', '.join(_NAMES)}) VALUES (new.{', new.'.join(_NAMES)})"  # noqa: S608
_TRIGGERS = {
    "sqlite": tuple(
        f"CREATE TRIGGER IF NOT EXISTS every_gap_{event} AFTER {event} ON declared_gaps BEGIN {_KEEP}; END"
        for event in ("INSERT", "UPDATE")
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION keep_every_gap() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {_KEEP}; RETURN NULL; END $$",
        "CREATE OR REPLACE TRIGGER every_gap AFTER INSERT OR UPDATE ON declared_gaps "
        "FOR EACH ROW EXECUTE FUNCTION keep_every_gap()",
    ),
}


class Declared:
    """Keeps every gap that is declared in a catalog from now on, as declared, by a trigger there."""

    def __init__(self, catalog: Catalog) -> None:
        """Opens the catalog; `close` closes it."""
        self._catalog = catalog
        catalog.open()
        with catalog.writing() as connection:
            _EVERY.metadata.create_all(connection)
            for trigger in _TRIGGERS[connection.dialect.name]:
                connection.execute(text(trigger))

    def gaps(self) -> list[Gap]:
        """All gaps, in the order of their declaration."""
        with self._catalog.reading() as connection:
            rows = connection.execute(select(*(_EVERY.c[name] for name in _NAMES)).order_by(_EVERY.c.number))
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
