from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import numpy as np

from cameras.host import CameraHost
from cameras.outbox import Outbox
from cameras.settings import CameraSettings
from cameras.watching import Watching
from proto.errors import Invalid, Transient, WatchwordError
from proto.types import Camera, now_ms
from proto.v1.events_pb2 import Frame
from tests.clips import CLIPS
from tests.stream.rig import START_MS, until

SETTINGS = CameraSettings(open_timeout_s=1, silent_after_s=1, retry_most_s=0.5)
BIKES = str(CLIPS["bikes"])


class Sink:
    """Takes frames; raises `trouble` while it is set."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.trouble: WatchwordError | None = None
        self.refused = 0

    async def send(self, frame: Frame) -> None:
        if self.trouble is not None:
            self.refused += 1
            raise self.trouble
        self.frames.append(frame)

    def of(self, camera: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.camera == camera]


class Register:
    def __init__(self, *cameras: Camera) -> None:
        self.cameras = list(cameras)

    def all(self) -> list[Camera]:
        return list(self.cameras)


@asynccontextmanager
async def hosting(register: Register, sink: Sink) -> AsyncIterator[CameraHost]:
    host = CameraHost(register, sink, SETTINGS, 64)
    task = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        host.stop()
        await asyncio.wait_for(task, 10)


def scripted(number: int, *, new: bool = True) -> SimpleNamespace:
    """A picture without a source."""
    luma = np.full((32, 32), 100 * (number % 2) if new else 0, np.uint8)
    return SimpleNamespace(
        captured_ms=START_MS + number * 500,
        grabbed_ms=now_ms(),
        after_gap=number == 0,
        luma=lambda: luma,
        jpeg=lambda side, quality: b"%d" % number,
    )


async def test_a_file_is_published_whole_and_is_then_done() -> None:
    sink = Sink()
    async with hosting(Register(Camera("gate", BIKES, speed=0, start_ms=START_MS)), sink) as host:
        await until(lambda: bool(host.states()) and host.states()["gate"].now == "done", "done")
        await until(lambda: len(sink.frames) == 20, "frames")
    assert [frame.sequence for frame in sink.frames] == list(range(20))
    assert [frame.after_gap for frame in sink.frames] == [True] + [False] * 19
    assert sink.frames[0].captured_ms == START_MS
    assert sink.frames[0].jpeg.startswith(b"\xff\xd8")


async def test_the_registry_is_followed_while_running() -> None:
    sink, register = Sink(), Register(Camera("one", BIKES, loop=True))
    async with hosting(register, sink) as host:
        await until(lambda: bool(sink.of("one")), "the first camera")
        register.cameras.append(Camera("two", BIKES, loop=True))
        await until(lambda: bool(sink.of("two")), "an added camera", 3)
        register.cameras[0] = Camera("one", BIKES, loop=True, watching=False)
        await until(lambda: list(host.states()) == ["two"], "a removed camera", 3)


async def test_a_camera_that_fails_is_tried_again_and_leaves_the_others_alone() -> None:
    sink = Sink()
    register = Register(Camera("gate", BIKES, loop=True), Camera("dead", "rtsp://user:secret@127.0.0.1:1/live"))
    async with hosting(register, sink) as host:
        await until(lambda: host.states().get("dead") is not None and host.states()["dead"].now == "failed", "failed")
        await until(lambda: len(sink.of("gate")) > 2, "the other camera")
        assert "no camera answers" in host.states()["dead"].error
        assert "secret" not in host.states()["dead"].error


async def test_a_source_that_fails_and_comes_back_is_opened_again() -> None:
    opened: list[int] = []

    def flapping(camera: Camera, settings: CameraSettings, stop: threading.Event) -> Iterator[SimpleNamespace]:
        opened.append(1)
        yield scripted(0)
        raise Transient("flap")

    sink = Sink()
    watching = Watching(Camera("gate", "rtsp://host/live"), sink, SETTINGS, 64, flapping)
    watching.start()
    await until(lambda: len(sink.frames) >= 3, "three lives")
    watching.leave()
    await watching.left()
    assert all(frame.after_gap and frame.sequence == 0 for frame in sink.frames)


async def test_a_file_waits_for_a_broker_that_is_away_and_loses_nothing() -> None:
    sink = Sink()
    sink.trouble = Transient("away")
    async with hosting(Register(Camera("gate", BIKES, speed=0, start_ms=START_MS)), sink) as host:
        await until(lambda: bool(host.states()) and host.states()["gate"].picture_ms is not None, "reading")
        sink.trouble = None
        await until(lambda: len(sink.frames) == 20, "all frames")
    assert [frame.sequence for frame in sink.frames] == list(range(20))


async def test_a_frame_that_the_broker_refuses_is_given_up_and_the_next_goes() -> None:
    sink = Sink()
    sink.trouble = Invalid("too large")
    async with hosting(Register(Camera("gate", BIKES, loop=True)), sink):
        await until(lambda: sink.refused > 0, "refused")
        sink.trouble = None
        await until(lambda: bool(sink.frames), "later frames")
    assert sink.frames[0].sequence == sink.refused
    assert sink.frames[0].after_gap


async def test_a_live_camera_drops_its_oldest_frames_and_keeps_the_mark_of_a_gap() -> None:
    box = Outbox(3, patient=False, loop=asyncio.get_running_loop())
    for number in range(5):
        assert box.put(Frame(sequence=number, after_gap=number == 0))
    kept = [await box.get() for _ in range(3)]
    assert [(frame.sequence, frame.after_gap) for frame in kept if frame] == [(2, True), (3, False), (4, False)]


async def test_a_closed_box_gives_what_is_in_it_and_takes_no_more() -> None:
    box = Outbox(3, patient=True, loop=asyncio.get_running_loop())
    box.put(Frame(sequence=1))
    box.close()
    assert not box.put(Frame(sequence=2))
    assert (await box.get()) == Frame(sequence=1)
    assert await box.get() is None


async def test_pictures_that_say_nothing_new_are_not_sent() -> None:
    def still(camera: Camera, settings: CameraSettings, stop: threading.Event) -> Iterator[SimpleNamespace]:
        yield from (scripted(number, new=False) for number in range(30))

    sink = Sink()
    watching = Watching(Camera("gate", "still.mp4"), sink, SETTINGS, 64, still)
    watching.start()
    await until(lambda: watching.state.now == "done", "done")
    watching.leave()
    await watching.left()
    assert Counter(frame.after_gap for frame in sink.frames) == {True: 1, False: 1}


async def test_stopping_does_not_wait_for_a_source_that_hangs() -> None:
    release = threading.Event()

    def hanging(camera: Camera, settings: CameraSettings, stop: threading.Event) -> Iterator[SimpleNamespace]:
        yield scripted(0)
        release.wait(30)

    watching = Watching(Camera("gate", "rtsp://host/live"), Sink(), SETTINGS, 64, hanging)
    watching.start()
    await until(lambda: watching.state.now == "open", "open")
    watching.leave()
    async with asyncio.timeout(6):
        await watching.left()
    release.set()
