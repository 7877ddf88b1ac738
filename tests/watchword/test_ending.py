"""A process ends within a bound although a thread of it hangs: `watchword run` in a real child."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import asyncio, sys, time
from proto.errors import Mismatch
from watchword import processes
from watchword.cli import main

processes.END_S, processes.TOLD_S = 0.5, 1.0

def hang():
    time.sleep(10**6)

async def hanging(settings, stage):
    asyncio.create_task(asyncio.to_thread(hang))
    await asyncio.sleep(0)
    await stage.serve(None, lambda: None)

async def failing(settings, stage):
    asyncio.create_task(asyncio.to_thread(hang))
    await asyncio.sleep(0)
    raise Mismatch("another space", todo="start again")

async def faulty(settings, stage):
    asyncio.create_task(asyncio.to_thread(hang))
    await asyncio.sleep(0)
    raise KeyError("nobody foresaw this")

async def closing(settings, stage):
    stage.closing.push_async_callback(asyncio.to_thread, hang)
    raise Mismatch("another space", todo="start again")

async def deaf(settings, stage):
    await stage.serve(asyncio.to_thread(hang), lambda: None)

async def healthy(settings, stage):
    await asyncio.to_thread(time.sleep, 0)
    await stage.serve(None, lambda: None)

processes.PROCESSES["query"] = globals()[sys.argv[1]]
main(["--data-dir", sys.argv[2], "run", "query"])
"""


def started(name: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, name, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error of a child that ends."""
    try:
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    return child.returncode, err


def told_to_stop(name: str, folder: Path) -> tuple[int, str]:
    child = started(name, folder)
    assert child.stderr is not None
    ready = next(line for line in child.stderr if "ready" in line)
    child.send_signal(signal.SIGTERM)
    code, err = ended(child)
    return code, ready + err


@pytest.mark.parametrize("name", ["failing", "closing"])
def test_a_process_that_failed_ends_with_its_error_although_a_thread_hangs(name: str, tmp_path: Path) -> None:
    code, err = ended(started(name, tmp_path))
    assert code == 8
    assert err.splitlines()[-1] == "watchword: another space: start again"
    assert "in hang" in err


def test_a_process_with_a_fault_ends_with_its_traceback_although_a_thread_hangs(tmp_path: Path) -> None:
    code, err = ended(started("faulty", tmp_path))
    assert code == 1
    assert err.splitlines()[-1] == "KeyError: 'nobody foresaw this'"


def test_a_process_that_was_told_to_stop_ends_in_peace_although_a_thread_hangs(tmp_path: Path) -> None:
    code, err = told_to_stop("hanging", tmp_path)
    assert code == 0
    assert "in hang" in err


def test_a_process_that_does_not_stop_when_told_ends_with_late(tmp_path: Path) -> None:
    code, err = told_to_stop("deaf", tmp_path)
    assert code == 5
    assert err.splitlines()[-1].startswith("watchword: it was told to stop and did not within 1 s: a thread")


def test_a_process_that_nothing_keeps_alive_says_nothing_of_threads(tmp_path: Path) -> None:
    code, err = told_to_stop("healthy", tmp_path)
    assert code == 0
    assert "thread" not in err
