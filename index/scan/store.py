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

from index.removal import Removal
from index.scan.codes import check_installed
from index.scan.folders import clear_remains
from index.scan.shard import QUESTIONS, ScanShard
from index.settings import IN_FOLDER, MilvusSettings
from index.sharded import MOST_ROWS, ShardedStore
from proto.errors import Broken, WatchwordError
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
    ) -> None:
        """Without `questions`, codes are made only where another process left some in the folder."""
        self._folders = {endpoint: folder_of(endpoint) for endpoint in settings.endpoints}
        self._questions = questions
        self._asking: asyncio.Task[None] | None = None
        shards = {name: ScanShard(folder, space, settings.timeout_s) for name, folder in self._folders.items()}
        super().__init__(space, settings, shards, most_rows)

    async def open(self) -> None:
        check_installed()
        for endpoint, folder in self._folders.items():
            try:
                await asyncio.to_thread(_prepare, folder, self.space.id)
            except OSError as error:
                raise Broken(
                    f"{endpoint} cannot be used ({error})", todo="name a folder that can be written"
                ) from error
        await super().open()
        if self._questions is not None and self._asking is None:
            self._asking = asyncio.create_task(self._learn(self._questions))

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await super().close()

    async def _learn(self, questions: Questions) -> None:
        """Leave questions in words beside the rows, however long the encoder is away."""
        files = [folder / self.space.id / QUESTIONS for folder in self._folders.values()]
        while not all(file.is_file() for file in files):
            try:
                vectors = await questions()
                for file in files:
                    await asyncio.to_thread(_write, file, vectors)
            except (WatchwordError, OSError) as error:
                log.info("buckets get no codes yet: %s", error)
                await asyncio.sleep(_AGAIN_S)


def scan_removal(settings: MilvusSettings) -> Removal:
    """What removes rows from the folders, of whatever space."""
    folders = {endpoint: folder_of(endpoint) for endpoint in settings.endpoints}

    def opened(endpoint: str, space: str) -> ScanShard:
        return ScanShard(folders[endpoint], SpaceInfo(space, 2), settings.timeout_s, makes=False)

    return Removal(list(folders), opened)


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
