"""The broker in memory: a log, and a consumer of it. What tests use in place of Faust."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from stream.consumer import Held, Record, Taker
from stream.fence import Lease

_FETCH = 64


class MemoryLog:
    """Partitions of one topic, and the offsets that one group committed."""

    def __init__(self, name: str = "0" * 32) -> None:
        self.name = name
        self.committed: dict[int, int] = {}
        self._records: dict[int, list[Record]] = {}
        self._begins: dict[int, int] = defaultdict(int)
        self.grown = asyncio.Event()

    def make(self, partition: int) -> None:
        """Have the partition, empty."""
        self._records.setdefault(partition, [])

    def append(self, partition: int, key: bytes, value: bytes, at_ms: int) -> Record:
        records = self._records.setdefault(partition, [])
        record = Record(partition, len(records), key, value, at_ms)
        records.append(record)
        self.grown.set()
        return record

    def expire(self, partition: int, until: int) -> None:
        """Drop the records before `until`."""
        self._begins[partition] = until

    def begins(self, partition: int) -> int:
        return self._begins[partition]

    def ends(self) -> dict[int, int]:
        return {partition: len(records) for partition, records in self._records.items()}

    def held(self, partition: int) -> Held:
        start = self.committed.get(partition, self._begins[partition])
        return Held(partition, start, partition in self.committed, len(self._records[partition]))

    def read(self, partition: int, offset: int, most: int) -> list[Record]:
        found = self._records[partition][max(offset, self._begins[partition]) :][:most]
        end = len(self._records[partition])
        return [
            Record(one.partition, one.offset, one.key, one.value, one.at_ms, one.offset + 1 == end) for one in found
        ]


class MemoryConsumer:
    """The only member of its group: holds every partition from the start."""

    def __init__(self, log: MemoryLog, session_s: float = 45.0) -> None:
        self._log = log
        self.lease = Lease(session_s)
        self._reading: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self._reading is not None

    @property
    def paused(self) -> int:
        return 0

    async def start(self, taker: Taker) -> None:
        self.lease.renewed(float("inf"))
        held = [self._log.held(partition) for partition in self._log.ends()]
        await taker.given(self._log.name, held)
        self._reading = asyncio.create_task(self._read(taker, {one.partition: one.start for one in held}))

    async def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def check(self) -> None:
        if self._reading is not None and self._reading.done():
            self._reading.result()

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        self._log.committed |= offsets
        return True

    async def begins(self, partition: int) -> int:
        return self._log.begins(partition)

    async def ends(self) -> dict[int, int]:
        return self._log.ends()

    async def _read(self, taker: Taker, at: dict[int, int]) -> None:
        while True:
            self._log.grown.clear()
            came = False
            for partition, offset in list(at.items()):
                if records := self._log.read(partition, offset, _FETCH):
                    came = True
                    at[partition] = records[-1].offset + 1
                    await taker.take(records)
            if not came:
                await self._log.grown.wait()
