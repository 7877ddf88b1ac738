"""A stream worker whose wall clock steps: every few seconds to anything within an hour of the true time."""

from __future__ import annotations

import asyncio
import random
import time

import proto.types

EVERY_S, MOST_S = 4.0, 3600.0

_now_ms = proto.types.now_ms


def _stepped_ms() -> int:
    step = int(time.monotonic() / EVERY_S)
    return _now_ms() + round(random.Random(step).uniform(-MOST_S, MOST_S) * 1000)


if __name__ == "__main__":
    # Before anything is imported that keeps the function by its name. Not `time.time`: gRPC takes its deadlines from
    # it in Python, and measures them by the system's clock, which does not step here.
    proto.types.now_ms = _stepped_ms

    from watchword.processes import run_process
    from watchword.settings import read_settings

    asyncio.run(run_process("stream", read_settings()))
