"""Where a backup lies: its manifest, its files, and what a run that was cut off left there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from backup.manifest import FOLDERS, NAME, File, Manifest, check_file, packed, packed_files, unpacked, unpacked_files
from catalog.objects import Objects

_UNFINISHED = "unfinished.json"
_NOTED_EVERY = 20
"""So many files are written before they are noted, for the run that goes on after a kill."""


class Place:
    """A backup in one store of objects. Raises the errors of the store."""

    def __init__(self, objects: Objects, shown: str) -> None:
        """`shown` names it in errors."""
        self._objects = objects
        self.shown = shown

    async def manifest(self) -> Manifest:
        """What the backup has. Invalid or Broken when there is none that can be used."""
        return unpacked(await asyncio.to_thread(self._objects.get, NAME), self.shown)

    async def read(self, file: File) -> bytes:
        """The content of a file, which is what the manifest says. Broken when it is not."""
        return check_file(file, await asyncio.to_thread(self._objects.get, file.name), self.shown)

    async def writing(self) -> Writing:
        """The backup, to be written. Broken or Invalid when something is there that is not understood."""
        data = await asyncio.to_thread(self._objects.get, NAME)
        before = None if data is None else unpacked(data, self.shown)
        noted = unpacked_files(await asyncio.to_thread(self._objects.get, _UNFINISHED))
        there = {one.name for folder in FOLDERS for one in await asyncio.to_thread(self._objects.list, folder)}
        known = [*(before.files if before else ()), *noted]
        return Writing(self._objects, before, {one.key(): one for one in known if one.name in there}, there, set(there))


@dataclass
class Writing:
    """A run that writes. Until `finish` the backup is what it was before."""

    _objects: Objects
    before: Manifest | None
    known: dict[tuple[str, str, int, int], File]
    """The files that are there, by what they are copies of: those of the manifest, and of a run that was cut off."""
    _there: set[str]
    _trusted: set[str]
    """Those that are not written again."""
    written: int = 0
    """How many bytes were written."""
    kept: int = 0
    """How many files were there already, with this content."""

    def __post_init__(self) -> None:
        self._files: list[File] = []
        self._since = 0

    async def put(self, file: File, data: bytes) -> File:
        """Have this content in the backup: written, unless it is there. `file` need not know its size and hash."""
        whole = replace(file, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        if whole.name in self._trusted:
            self.kept += 1
        else:
            await asyncio.to_thread(self._objects.put, whole.name, data)
            self._there.add(whole.name)
            self._trusted.add(whole.name)
            self.written += len(data)
        self._files.append(whole)
        self._since += 1
        if self._since >= _NOTED_EVERY:
            self._since = 0
            await asyncio.to_thread(self._objects.put, _UNFINISHED, packed_files(tuple(self._files)))
        return whole

    def forget(self) -> None:
        """Write everything again, whatever is there."""
        self.known.clear()
        self._trusted.clear()

    def keep(self, file: File) -> File:
        """Have this file in the backup as it is there."""
        self.kept += 1
        self._files.append(file)
        return file

    async def get(self, file: File) -> bytes | None:
        """The content of a file that is there."""
        return await asyncio.to_thread(self._objects.get, file.name)

    @property
    def files(self) -> tuple[File, ...]:
        """Those of this run so far."""
        return tuple(self._files)

    async def finish(self, manifest: Manifest) -> None:
        """Write the manifest, and remove what it does not name: from here on that is no part of the backup."""
        await asyncio.to_thread(self._objects.put, NAME, packed(manifest))
        left = self._there - {one.name for one in manifest.files}
        for some in _in_hundreds(sorted(left)):
            await asyncio.to_thread(self._objects.remove, some)
        await asyncio.to_thread(self._objects.remove, [_UNFINISHED])


def _in_hundreds(names: list[str]) -> Iterable[list[str]]:
    return (names[first : first + 100] for first in range(0, len(names), 100))
