"""An open catalog, and several processes that use one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from catalog.store import Catalog, sqlite_url

ROOT = Path(__file__).resolve().parents[2]


def url_of(folder: Path) -> str:
    return sqlite_url(folder / "catalog.db")


OPEN: list[Catalog] = []
"""What `opened` gave; the fixture `url` closes them."""


def opened(where: Path | str) -> Catalog:
    """The catalog of this URL, or the SQLite file in this folder."""
    catalog = Catalog(where if isinstance(where, str) else url_of(where))
    OPEN.append(catalog)
    catalog.open()
    return catalog


def run_together(program: str, arguments: Sequence[Sequence[str]]) -> list[str]:
    """Run the program in one process for each list of arguments, all let go at once; what each printed.

    Each must call `input()` once it is ready.
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, *more], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for more in arguments
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    said = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return said
