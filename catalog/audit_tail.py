"""The latest lines of an audit, of all its chains."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from catalog.files import disk_trouble
from proto.errors import Unknown

MOST = 1000
_BYTES = 2 * 1024 * 1024
"""So much is read of the end of each chain."""


def latest(folder: Path, count: int) -> list[dict[str, Any]]:
    """The latest entries, the latest first. Lines that cannot be read are left out: `verify` says what is wrong."""
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob("*-*.jsonl")):
        newest[path.name.rpartition("-")[0]] = path
    if not newest:
        raise Unknown("there is no audit here", todo="access.audit says where it goes: a folder, the log, or nowhere")
    found = [entry for path in newest.values() for entry in _end_of(path)]
    found.sort(key=lambda entry: str(entry.get("at", "")), reverse=True)
    return found[: min(count, MOST)]


def _end_of(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _BYTES))
            lines = file.read().split(b"\n")
    except OSError as error:
        raise disk_trouble("read", path, error) from error
    found = []
    for line in lines[1 if size > _BYTES else 0 : -1]:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
