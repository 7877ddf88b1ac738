"""Moments in a folder of this machine, searched by scans of compressed vectors: no server is needed."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from index.scan.codes import check_installed
from index.scan.folders import clear_remains
from index.scan.shard import QUESTIONS, ScanShard
from index.settings import IN_FOLDER, MilvusSettings
from index.sharded import MOST_ROWS, ShardedStore
from index.shards import ShardSet, listed
from proto.errors import Broken, WatchwordError
from proto.shards import KnownMap, ShardEntry, ShardMap
from proto.types import SpaceInfo, Vectors

log = logging.getLogger("watchword.index")

_AGAIN_S = 30.0
_OLD_S = 3_600.0

Questions = Callable[[], Awaitable[Vectors]]
"""Vectors of everyday questions in words."""


def folder_of(endpoint: str) -> Path:
    """The folder of `faiss:/folder`. Raises Broken when it cannot be one."""
    path = Path(endpoint.removeprefix(IN_FOLDER)).expanduser()
    if not path.is_absolute():
        raise Broken(f"{endpoint} names no folder", todo="give its whole path, such as faiss:/var/lib/watchword/index")
    return path


class ScanStore(ShardedStore):
    """A MomentStore over folders. A search sees every upsert that was acknowledged before it."""

    def __init__(
        self,
        space: SpaceInfo,
        settings: MilvusSettings,
        questions: Questions | None = None,
        most_rows: int = MOST_ROWS,
        known: KnownMap | None = None,
    ) -> None:
        """The shards are those of the map that is known; without one, those of the settings, for good. Without
        `questions`, codes are made only where another process left some in the folder."""
        self._known = known or listed(settings)
        self._questions = questions
        self._asking: asyncio.Task[None] | None = None

        def opened(entry: ShardEntry, _: ShardMap) -> ScanShard:
            return scan_shard(entry.address, space, settings, makes=True)

        super().__init__(space, settings, ShardSet(self._known, opened), most_rows)

    async def open(self) -> None:
        check_installed()
        for address in self._addresses():
            try:
                await asyncio.to_thread(_prepare, folder_of(address), self.space.id)
            except OSError as error:
                raise Broken(f"{address} cannot be used ({error})", todo="name a folder that can be written") from error
        await super().open()
        if self._questions is not None and self._asking is None:
            self._asking = asyncio.create_task(self._learn(self._questions))

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await super().close()

    def _addresses(self) -> list[str]:
        return [one.address for one in self._known.map().serving]

    async def _learn(self, questions: Questions) -> None:
        """Leave questions in words beside the rows, however long the encoder is away."""
        files = [folder_of(address) / self.space.id / QUESTIONS for address in self._addresses()]
        while not all(file.is_file() for file in files):
            try:
                vectors = await questions()
                for file in files:
                    await asyncio.to_thread(_write, file, vectors)
            except (WatchwordError, OSError) as error:
                log.info("buckets get no codes yet: %s", error)
                await asyncio.sleep(_AGAIN_S)


def scan_shard(address: str, space: SpaceInfo, settings: MilvusSettings, *, makes: bool) -> ScanShard:
    """The folder as the shard of a space, not opened yet. Unless it `makes` buckets, one that is missing stays so."""
    return ScanShard(folder_of(address), space, settings.timeout_s, makes=makes)


def _prepare(folder: Path, space: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} is not writable")
    clear_remains(folder / space, _OLD_S, time.time())


def _write(file: Path, vectors: Vectors) -> None:
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(vectors, np.float32), allow_pickle=False)
    file.parent.mkdir(exist_ok=True)
    new = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    new.write_bytes(content.getvalue())
    new.rename(file)
