"""The bundles on this machine: listing them, and finding one by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.bundle import MANIFEST, Bundle, load_bundle
from proto.errors import Broken, Unknown


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle in the list."""

    folder: Path
    bundle: Bundle | None
    problem: str
    """Why it cannot be used; empty when it can."""
    size_bytes: int


def list_bundles(folders: Sequence[Path]) -> list[Entry]:
    """Every bundle in these folders, including unusable ones."""
    found = {
        path.parent
        for folder in folders
        for path in folder.glob(f"*/{MANIFEST}")
        if not path.parent.name.startswith(".")
    }
    return [_entry(folder) for folder in sorted(found)]


def find_bundle(name: str, folders: Sequence[Path]) -> Path:
    """The folder of the bundle with this name, or at this path. Unknown when there is neither."""
    if "/" in name or (Path(name) / MANIFEST).exists():
        if not Path(name).is_dir():
            raise Unknown(f"there is no folder {name}", todo="`watchword models list` shows the bundles")
        return Path(name)
    known = {entry.folder.name: entry.folder for entry in list_bundles(folders)}
    if name not in known:
        raise Unknown(
            f"there is no bundle {name!r}", todo=f"known here: {', '.join(known) or 'none'}; or name a folder"
        )
    return known[name]


def _entry(folder: Path) -> Entry:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        return Entry(folder, load_bundle(folder), "", size)
    except Broken as error:
        return Entry(folder, None, error.message, size)
