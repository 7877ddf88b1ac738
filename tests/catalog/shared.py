"""An open catalog, and several processes that use one."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
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
    # Forked from a process that has imported the house: importing takes longer than what they do.
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["catalog.cameras", "catalog.coverage", "catalog.takeover", "tests.catalog.shared"])
    gate = start.Barrier(len(arguments), timeout=60)
    ends = [start.Pipe(duplex=False) for _ in arguments]
    children = [
        start.Process(target=_run, args=(program, ["-c", *more], gate, told), daemon=True)
        for more, (_, told) in zip(arguments, ends, strict=True)
    ]
    for child in children:
        child.start()
    for _, told in ends:
        told.close()
    said = [_heard(one) for one, _ in ends]
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * len(children)
    return said


def _heard(end: Connection) -> str:
    """What a child printed; nothing if it failed."""
    with end, suppress(EOFError):
        return str(end.recv()) if end.poll(120) else ""
    return ""


def _run(program: str, argv: list[str], gate: Barrier, told: Connection) -> None:
    """In a child."""
    sys.argv, printed = argv, StringIO()
    with redirect_stdout(printed):
        exec(program, {"__name__": "__main__", "input": gate.wait})
    told.send(printed.getvalue())
