"""Reads that may hang hold up nobody."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from query.aside import Aside

ROOT = Path(__file__).resolve().parents[2]

_HANGS_AND_ENDS = """
import asyncio, threading
from query.aside import Aside

async def main():
    try:
        async with asyncio.timeout(0.05):
            await Aside(1, "hangs").run(threading.Event().wait)
    except TimeoutError:
        print("gave up")

asyncio.run(main())
"""


def test_a_process_ends_though_a_read_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HANGS_AND_ENDS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "gave up\n"


async def test_what_a_call_gives_or_raises_is_what_the_caller_gets() -> None:
    aside = Aside(1, "test")
    assert await aside.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await aside.run(lambda: 1 // 0)
    assert await aside.run(lambda: 8) == 8  # The one that failed has given its place back.


async def test_a_call_that_was_given_up_keeps_its_place_until_it_ends() -> None:
    aside = Aside(1, "test")
    go = threading.Event()
    hung = asyncio.create_task(aside.run(lambda: go.wait(60)))
    await asyncio.sleep(0)
    hung.cancel()
    await asyncio.wait([hung])
    waiting = asyncio.create_task(aside.run(lambda: "next"))
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    assert await waiting == "next"
