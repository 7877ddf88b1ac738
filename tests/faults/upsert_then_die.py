"""A stream worker that dies by SIGKILL right after a closed moment was stored."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

from index.milvus import MilvusStore
from proto.errors import WatchwordError
from proto.types import Moment
from watchword.processes import run_process
from watchword.settings import read_settings

_upsert = MilvusStore.upsert


async def _upsert_then_die(self: MilvusStore, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
    failed = await _upsert(self, moments)
    if any(moment.closed for moment in moments):
        os.kill(os.getpid(), signal.SIGKILL)
    return failed


if __name__ == "__main__":
    setattr(MilvusStore, "upsert", _upsert_then_die)  # noqa: B010  # a method is no place to assign to, says mypy
    asyncio.run(run_process("stream", read_settings()))
