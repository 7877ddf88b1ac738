"""A stream worker on a host whose clock steps: every few seconds to anything within an hour of the true time."""

from __future__ import annotations

import asyncio
import random
import time

EVERY_S, MOST_S = 4.0, 3600.0

_true_ns = time.time_ns


def _stepped_ns() -> int:
    step = int(time.monotonic() / EVERY_S)
    return _true_ns() + round(random.Random(step).uniform(-MOST_S, MOST_S) * 1e9)


if __name__ == "__main__":
    # Before anything is imported that keeps the functions by their names.
    time.time_ns = _stepped_ns
    time.time = lambda: _stepped_ns() / 1e9

    from watchword.processes import run_process
    from watchword.settings import read_settings

    asyncio.run(run_process("stream", read_settings()))
