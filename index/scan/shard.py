"""A folder with buckets of every space, as a shard."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from index.calls import Silent
from index.filters import Filter
from index.places import Bucket
from index.rows import Bare
from index.scan.bucket import BucketRows
from index.scan.building import LEAST_ROWS, Builder, is_due
from index.scan.folders import clear_condemned, drop_folder, make_folder
from index.scan.trouble import Missing, translated
from index.shard import Nearest
from index.store import Ask, Scored
from proto.errors import Transient, WatchwordError
from proto.types import Moment, SpaceInfo, now_ms

_SPACE = re.compile(r"[0-9a-f]{16}")
_BUCKET = re.compile(r"(\d{1,4})h_(\d{1,12})")
QUESTIONS = "questions.npy"
"""In the folder of a space: vectors of questions in words, with which its codes are checked."""
_FILES_EACH = 6
"""The most files that stay open for a bucket."""
_SPARE_FILES = 256
_END_S = 2.0
"""How long closing waits for what is under way."""

Result = TypeVar("Result")


class ScanShard:
    """A Shard on a disk of this machine. Several processes may use the same folder."""

    def __init__(
        self,
        folder: Path,
        space: SpaceInfo,
        timeout_s: float,
        *,
        makes: bool = True,
    ) -> None:
        """Unless it `makes` buckets, it makes no codes either, and one that is missing stays so."""
        self._folder = folder
        self._space = space
        self._timeout_s = timeout_s
        self._makes = makes
        self._known: OrderedDict[Bucket, BucketRows] = OrderedDict()
        self._knowing = threading.Lock()
        # What is known of the other buckets stays, too; they are opened again in a millisecond.
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_connected = max(8, (files - _SPARE_FILES) // _FILES_EACH)
        self._builder = Builder(folder / space.id / QUESTIONS)
        # Searches take turns on as many threads as there are processors; a write that waits for another process's
        # holds none of them up.
        self._readers = ThreadPoolExecutor(os.cpu_count() or 2, "index-read")
        self._writers = ThreadPoolExecutor(4, "index-write")

    async def buckets(self, *, fresh: bool = False) -> Mapping[str, Collection[Bucket]]:  # noqa: ARG002
        return await self._in_thread(self._readers, "list buckets", self._list)

    async def make(self, bucket: Bucket) -> None:
        await self._on(bucket, self._writers, "make a bucket", lambda _: None, make=True)

    async def upsert(self, bucket: Bucket, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        try:
            await self._on(bucket, self._writers, "store moments", lambda rows: rows.store(moments), make=self._makes)
        except WatchwordError as error:
            return {moment.id: error for moment in moments}
        return {}

    async def fitting(self, buckets: Collection[Bucket]) -> Collection[Bucket]:
        return buckets

    async def search(self, bucket: Bucket, ask: Ask) -> Nearest:
        def search(rows: BucketRows) -> list[Scored]:
            hits = rows.search(ask)
            self._tend(bucket, rows)
            return hits

        return Nearest(await self._unless_gone(bucket, "search", search, []))

    async def read(self, bucket: Bucket, which: Filter, most_rows: int) -> list[Moment] | None:
        return await self._unless_gone(bucket, "read moments", lambda rows: rows.read(which, most_rows), [])

    async def fetch(
        self,
        bucket: Bucket,
        ids: Sequence[str],
        *,
        exact: bool = True,  # noqa: ARG002  # it always is
    ) -> list[Moment]:
        return await self._unless_gone(bucket, "read moments", lambda rows: rows.fetch(ids), [])

    async def count(self, bucket: Bucket, which: Filter, *, exact: bool = True) -> int:  # noqa: ARG002
        return await self._unless_gone(bucket, "count moments", lambda rows: rows.count(which), 0)

    async def rows(self, bucket: Bucket, which: Filter, most: int) -> list[Bare]:
        return await self._unless_gone(bucket, "read rows", lambda rows: rows.rows(which, most), [])

    async def remove(self, bucket: Bucket, ids: Sequence[str]) -> None:
        if ids:
            await self._unless_gone(bucket, "delete moments", lambda rows: rows.remove(ids), None, write=True)

    async def drop(self, bucket: Bucket) -> None:
        folder = self._at(bucket)
        await self._in_thread(self._writers, "drop a bucket", lambda: drop_folder(folder, self._timeout_s))

    async def close(self) -> None:
        await asyncio.to_thread(self._builder.stop, _END_S)
        ending = []
        for pool in (self._readers, self._writers):
            pool.shutdown(wait=False, cancel_futures=True)
            ending.append(asyncio.create_task(asyncio.to_thread(pool.shutdown)))
        await asyncio.wait(ending, timeout=_END_S)
        with self._knowing:
            known = list(self._known.values())
            self._known.clear()
        for rows in known:
            rows.rest()

    def _list(self) -> Mapping[str, Collection[Bucket]]:
        found: dict[str, set[Bucket]] = {}
        for space in _entries(self._folder):
            if _SPACE.fullmatch(space.name):
                named = (_BUCKET.fullmatch(one.name) for one in _entries(Path(space.path)))
                buckets = {Bucket(int(parts[1]), int(parts[2])) for parts in named if parts}
                if buckets:
                    found[space.name] = buckets
        return found

    def _tend(self, bucket: Bucket, rows: BucketRows) -> None:
        """Begin to make codes where they are due."""
        folder = self._at(bucket)
        if self._makes and self._builder.may_begin(folder) and is_due(bucket, rows.view(), now_ms(), LEAST_ROWS):
            self._builder.begin(folder, self._space, self._timeout_s, now_ms())

    async def _unless_gone(
        self,
        bucket: Bucket,
        action: str,
        work: Callable[[BucketRows], Result],
        otherwise: Result,
        *,
        write: bool = False,
    ) -> Result:
        try:
            return await self._on(bucket, self._writers if write else self._readers, action, work, make=False)
        except Missing:
            return otherwise

    async def _on(
        self,
        bucket: Bucket,
        pool: ThreadPoolExecutor,
        action: str,
        work: Callable[[BucketRows], Result],
        *,
        make: bool,
    ) -> Result:
        def run() -> Result:
            for _ in range(3):
                rows = self._rows(bucket, make=make)
                try:
                    return work(rows)
                except Missing:
                    # Dropped, perhaps to be made anew by another process.
                    self._forget(bucket, rows)
            raise Missing(f"{self._at(bucket)} was dropped again and again", todo="try again")

        return await self._in_thread(pool, action, run)

    def _rows(self, bucket: Bucket, *, make: bool) -> BucketRows:
        with self._knowing:
            rows = self._known.get(bucket)
        opened = rows or self._opened(self._at(bucket), make=make)
        with self._knowing:
            rows = self._known.setdefault(bucket, opened)
            self._known.move_to_end(bucket)
            idle = next(islice(reversed(self._known.values()), self._most_connected, None), None)
        if opened is not rows:  # another thread was first
            opened.close()
        if idle is not None:
            idle.rest()
        return rows

    def _opened(self, folder: Path, *, make: bool) -> BucketRows:
        for _ in range(3):
            try:
                rows = BucketRows(folder, self._space, self._timeout_s, scans=self._makes)
            except Missing:
                if not make:
                    raise
                make_folder(folder, self._space.dimension)
                continue
            if not rows.condemned:
                return rows
            rows.close()
            clear_condemned(folder, self._timeout_s)
        raise Missing(f"{folder} was dropped again and again", todo="try again")

    def _forget(self, bucket: Bucket, rows: BucketRows) -> None:
        with self._knowing:
            if self._known.get(bucket) is rows:
                del self._known[bucket]
        rows.close()

    async def _in_thread(self, pool: ThreadPoolExecutor, action: str, work: Callable[[], Result]) -> Result:
        try:
            under_way = asyncio.get_running_loop().run_in_executor(pool, work)
        except RuntimeError as error:
            raise Transient(f"the index in {self._folder} is closed", todo="open it again") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                return await under_way
        except TimeoutError as error:
            raise Silent(
                f"the disk of {self._folder} did not {action} within {self._timeout_s:g} s",
                todo="look at its load, or raise the timeout",
            ) from error

    def _at(self, bucket: Bucket) -> Path:
        return self._folder / self._space.id / f"{bucket.hours}h_{bucket.number}"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with translated(folder), os.scandir(folder) as entries:
            return list(entries)
    except Missing:
        return []
