"""The folder of a bucket's codes: what they are of, the codes, and how deep a scan must look."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from index.scan.codes import Codes
from index.scan.folders import sync
from index.scan.tables import COLUMNS
from index.scan.trouble import Unusable
from index.scan.view import NO_BASE, Base, Told

log = logging.getLogger("watchword.index")

_PREFIX = "codes-"
_UNDER_WAY = f"{_PREFIX}new"


def load_base(folder: Path, stamp: int, *, with_codes: bool = True) -> Base:
    """What was saved of this stamp. Without it the rows still are whole, and searched one by one."""
    if stamp == 0:
        return NO_BASE
    try:
        return _load(folder / f"{_PREFIX}{stamp}", stamp, with_codes=with_codes)
    except Unusable as error:
        log.warning("%s", error)
        return NO_BASE


def _load(at: Path, stamp: int, *, with_codes: bool) -> Base:
    try:
        about = json.loads((at / "about.json").read_text())
        table = np.load(at / "rows.npy", allow_pickle=False)
        depth, made_ms = int(about["depth"]), int(about["made_ms"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise Unusable(f"the codes in {at} cannot be read ({error})", todo="they are made anew") from error
    if table.dtype != np.int64 or table.ndim != 2 or table.shape[1] != len(COLUMNS):
        raise Unusable(f"the rows in {at} have the shape {table.shape}", todo="they are made anew")
    codes = Codes.read(at / "codes.faiss") if depth and with_codes else None
    if codes is not None and len(codes) != len(table):
        raise Unusable(f"{at} has {len(codes)} codes of {len(table)} rows", todo="they are made anew")
    return Base(stamp, Told.of(table), codes, depth, made_ms)


def save_base(folder: Path, base: Base) -> None:
    """Write it whole to the disk, beside what is there. Called by one process at a time."""
    under_way = folder / _UNDER_WAY
    at = folder / f"{_PREFIX}{base.stamp}"
    for former in (under_way, at):
        shutil.rmtree(former, ignore_errors=True)
    try:
        under_way.mkdir()
        with (under_way / "rows.npy").open("wb") as file:
            np.save(file, base.told.table(), allow_pickle=False)
        (under_way / "about.json").write_text(json.dumps({"depth": base.depth, "made_ms": base.made_ms}))
        if base.codes is not None:
            base.codes.save(under_way / "codes.faiss")
        for path in under_way.iterdir():
            sync(path)
        sync(under_way)
        under_way.rename(at)
        sync(folder)
    except OSError as error:
        raise Unusable(f"codes could not be written to {folder} ({error})", todo="free some disk") from error


def clear_bases(folder: Path, but: int) -> None:
    """Delete all codes but those of this stamp."""
    with suppress(OSError):
        for path in os.scandir(folder):
            if path.name.startswith(_PREFIX) and path.name != f"{_PREFIX}{but}":
                shutil.rmtree(path.path, ignore_errors=True)
