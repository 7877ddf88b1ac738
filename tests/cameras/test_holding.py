from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from cameras.holding import Holding
from cameras.picture import Picture
from cameras.source import Resume
from proto.errors import Transient
from proto.types import Camera, now_ms
from tests.cameras.rig import (
    AWAY,
    EVERYTHING,
    Facts,
    Register,
    Sink,
    hosting,
    places,
    scripted,
    transport_stream,
    until,
)

GATE = Camera("gate", "rtsp://host/live")
LEASE_S = 1.0


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


def endless(camera: Camera, settings: object, stop: object, resume: Resume | None) -> Iterator[Picture]:
    """A live camera with a new picture every few milliseconds."""
    number = 0
    while True:
        time.sleep(0.005)
        yield scripted(number)
        number += 1


async def test_two_processes_do_not_watch_one_camera_at_once(facts: Facts, tmp_path: Path) -> None:
    other = Facts(tmp_path)
    sink, register = Sink(), Register(*(Camera(f"c{number}", f"rtsp://host/{number}") for number in range(4)))
    async with (
        hosting(register, sink, facts, holder="one", pictures=endless) as one,
        hosting(register, sink, other, holder="two", pictures=endless) as two,
    ):
        await until(lambda: len(one.states()) + len(two.states()) == 4, "every camera is watched once")
        sent = len(sink.frames)
        await until(lambda: len(sink.frames) > sent + 200, "frames")
        assert not one.states().keys() & two.states().keys()
    other.catalog.close()
    for camera in register.cameras:
        runs = [(run, [*frames]) for run, frames in groupby(sink.of(camera.name), lambda frame: frame.run)]
        assert [run for run, _ in runs] == sorted({run for run, _ in runs})
        assert all([frame.sequence for frame in frames] == [*range(len(frames))] for _, frames in runs)


async def test_a_process_that_ends_gives_its_cameras_to_the_other_one_at_once(facts: Facts) -> None:
    sink, register = Sink(), Register(GATE)
    async with hosting(register, sink, facts, holder="two", lease_s=60, pictures=endless) as two:
        async with hosting(Register(), sink, facts, holder="one", lease_s=60):
            await until(lambda: list(two.states()) == ["gate"], "the second one watches")
        assert facts.holder("camera/gate", now_ms()) == "two"
    assert facts.holder("camera/gate", now_ms()) is None


async def test_a_camera_is_let_go_when_the_catalog_is_away_for_longer_than_its_lease(facts: Facts) -> None:
    sink = Sink()
    async with hosting(Register(GATE), sink, facts, lease_s=LEASE_S, pictures=endless) as host:
        await until(lambda: bool(sink.frames), "frames")
        facts.trouble = AWAY
        await until(lambda: not host.states(), "it is let go")
        sent = len(sink.frames)
        facts.trouble = None
        await until(lambda: len(sink.frames) > sent, "it is watched again")


async def test_a_camera_is_let_go_when_another_process_holds_its_lease(facts: Facts) -> None:
    sink = Sink()
    async with hosting(Register(GATE), sink, facts, lease_s=LEASE_S, pictures=endless) as host:
        await until(lambda: bool(sink.frames), "frames")

        def taken() -> bool:
            facts.give_back("camera/gate", "one")
            return facts.take("camera/gate", "two", now_ms(), 60_000)

        await until(taken, "another one has it")
        await until(lambda: not host.states(), "it is let go")


class Slow:
    """Gives every lease, and hangs at each call after the first until it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.release = threading.Event()

    def take_all(self, names: Iterable[str], holder: str, now_ms: int, for_ms: int) -> Collection[str]:
        self.asked += 1
        if self.asked > 1:
            self.release.wait(60)
        return list(names)

    def give_back(self, name: str, holder: str) -> None:
        pass

    def hand_over(self, name: str, holder: str, to: str, now_ms: int, for_ms: int) -> None:
        pass


async def test_a_store_that_hangs_does_not_make_a_lease_longer() -> None:
    store = Slow()
    holding = Holding(store, "one", 0.6)
    keeping = asyncio.create_task(holding.keep(lambda: ["gate"]))
    await until(lambda: holding.holds("gate"), "held")
    await until(lambda: store.asked == 2, "renewing")
    await until(lambda: not holding.holds("gate"), "over")
    store.release.set()
    keeping.cancel()
    await asyncio.wait({keeping})


def test_a_lease_counts_from_before_it_was_asked_for_and_ends_here_before_it_ends_in_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr("cameras.holding.time.monotonic", lambda: now_s)

    class Late(Slow):
        def take_all(self, names: Iterable[str], holder: str, now_ms: int, for_ms: int) -> Collection[str]:
            nonlocal now_s
            now_s += 3
            assert for_ms == 15_000
            return list(names)

    holding = Holding(Late(), "one", 15.0)
    holding.ask(["gate"])
    now_s = 111.9
    assert holding.holds("gate")
    now_s = 112.1
    assert not holding.holds("gate")


async def test_a_process_that_stood_still_sends_nothing_without_its_lease(facts: Facts) -> None:
    sink = Sink()
    async with hosting(Register(GATE), sink, facts, lease_s=LEASE_S, pictures=endless):
        await until(lambda: bool(sink.frames), "frames")
        facts.trouble = Transient("away")
        time.sleep(LEASE_S)  # noqa: ASYNC251  # the loop stands still, as in a process that was stopped; the camera's thread goes on
        sent = len(sink.frames)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(sink.frames) == sent


PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from cameras.host import CameraHost
from tests.cameras.rig import EVERYTHING, Facts, Register
from proto.types import Camera, now_ms

folder, holder, url = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

class Printing:
    async def send(self, frame):
        print(json.dumps([holder, frame.run, frame.sequence, frame.captured_ms]), flush=True)

facts = Facts(folder)
host = CameraHost(Register(Camera("gate", url, speed=4.0)), Printing(), EVERYTHING, 64, leases=facts, fleet=facts,
                  progress=facts, coverage=facts, views=facts, statuses=facts, holder=holder, lease_s=2.0)
print("up", flush=True)
asyncio.run(host.run())
"""


def _process(folder: Path, holder: str, clip: Path, out: Path) -> subprocess.Popen[bytes]:
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), holder, str(clip)],
            stdout=file,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )


def _said(out: Path) -> list[tuple[int, int, int]]:
    lines = out.read_text().splitlines()[1:]
    return [(run, sequence, captured_ms) for _, run, sequence, captured_ms in map(json.loads, lines)]


async def test_after_kill_nine_another_process_goes_on_where_the_first_one_was(tmp_path: Path) -> None:
    clip = transport_stream(tmp_path / "clip.ts", 60)
    out = {holder: tmp_path / f"{holder}.out" for holder in ("one", "two")}
    first = _process(tmp_path, "one", clip, out["one"])
    second: subprocess.Popen[bytes] | None = None
    try:
        await until(lambda: out["one"].exists() and len(_said(out["one"])) > 5, "the first one sends", 30)
        second = _process(tmp_path, "two", clip, out["two"])
        await until(lambda: out["two"].read_text().startswith("up"), "the second one is there", 30)
        sent = len(_said(out["one"]))
        await until(lambda: len(_said(out["one"])) > sent + 8, "the first one goes on")
        assert _said(out["two"]) == []
        first.send_signal(signal.SIGKILL)
        first.wait()
        await until(lambda: len(_said(out["two"])) > 10, "the second one takes over")
    finally:
        for process in (first, second):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
    together = sorted({*_said(out["one"]), *_said(out["two"])})
    assert len({run for run, _, _ in together}) == 1
    assert [sequence for _, sequence, _ in together] == list(range(len(together)))
    assert [captured_ms - together[0][2] for _, _, captured_ms in together] == [500 * n for n in range(len(together))]


async def test_two_hosts_share_one_recording_without_sending_it_twice(facts: Facts, tmp_path: Path) -> None:
    clip = transport_stream(tmp_path / "clip.ts", 5)
    sink, register = Sink(), Register(Camera("gate", str(clip), speed=0.0))
    async with (
        hosting(register, sink, facts, settings=EVERYTHING, holder="one"),
        hosting(register, sink, facts, settings=EVERYTHING, holder="two"),
    ):
        await until(lambda: len(sink.frames) == 10, "frames")
    assert len(set(places(sink.frames))) == 10
