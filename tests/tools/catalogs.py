"""Empty catalogs for tests about what is done with one; making the tables anew takes most of a short test's time."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from catalog.store import Catalog, sqlite_url


def begun(path: Path) -> Path:
    """Put a catalog with its tables there, unless there is one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_empty())
    return path


@cache
def _empty() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.db"
        made = Catalog(sqlite_url(path))
        made.open()
        made.close()
        return path.read_bytes()
