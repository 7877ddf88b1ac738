"""The recorder on real video: a live camera, and a process that is killed."""

from __future__ import annotations

import asyncio
import io
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from prometheus_client import REGISTRY

from cameras.recorder import Recorder
from cameras.remux import Format, Fragment
from cameras.settings import CameraSettings, RecordingSettings
from catalog.recordings import Recordings, read_index
from proto.types import Camera, Recording
from tests.cameras import filmed_until_killed
from tests.cameras.filming import START_MS, decoded, film, tapped
from tests.cameras.live import live_camera, time_shown
from tests.cameras.rig import Facts, Register, Sink, hosting, until

PRE_ROLL_MS = 500
"""A clip begins so much before the time that is asked for, which covers what the clock of a stream learns meanwhile."""
SETTINGS = CameraSettings(open_timeout_s=5, silent_after_s=5, fps=5, novelty=0)
RECORDING = RecordingSettings(segment_s=2, keep_free_bytes=0)


def wait_until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    event, deadline_s = threading.Event(), time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "not in time"
        event.wait(0.01)


def lost(reason: str) -> float:
    return REGISTRY.get_sample_value("watchword_recording_lost_total", {"reason": reason}) or 0.0


@pytest.mark.long
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
async def test_the_time_of_a_picture_finds_it_in_the_recording_of_one_connection(tmp_path: Path, codec: str) -> None:
    recorder = Recorder(tmp_path / "recordings", RECORDING)
    recorder.start()
    sink, facts = Sink(), Facts(tmp_path)
    with live_camera(codec=codec, width=160, height=120, fps=10, gop=10) as source:
        camera = Camera("gate", source.url, record=Recording(3650, 10**9))
        reader, register = Recordings(tmp_path / "recordings"), Register(camera)
        async with hosting(register, sink, facts, settings=SETTINGS, pictures=recorder.watch, follower=recorder):
            await until(lambda: len(sink.frames) >= 25, "frames", within_s=60)
            register.cameras = [Camera("gate", source.url, record=Recording(3650, 10**9, on=False))]
            asked_of = len(sink.frames)
            await until(lambda: len(sink.frames) >= asked_of + 5, "it is watched on", within_s=60)
        assert source.connections == 1
    await asyncio.to_thread(recorder.close, 10)
    facts.catalog.close()
    frames = sink.frames[10:20]
    clip = reader.clip("gate", frames[0].captured_ms, frames[-1].captured_ms + 1)
    shown = pictures(b"".join(clip.chunks()), clip.start_ms)
    for frame in frames:
        with av.open(io.BytesIO(frame.jpeg), "r", format="mjpeg") as jpeg:
            meant_ms = time_shown(next(jpeg.decode(video=0)), frame.captured_ms)
        near = [made_ms for at_ms, made_ms in shown if abs(at_ms - frame.captured_ms) <= PRE_ROLL_MS]
        assert min((abs(made_ms - meant_ms) for made_ms in near), default=None) in range(41), (meant_ms, shown)


def pictures(data: bytes, start_ms: int) -> list[tuple[float, int]]:
    """By the clip's time: when each picture says that it was made."""
    with av.open(io.BytesIO(data), "r") as container:
        found = []
        for frame in container.decode(video=0):
            assert frame.pts is not None and frame.time_base is not None
            at_ms = start_ms + float(frame.pts * frame.time_base) * 1000
            found.append((at_ms, time_shown(frame, round(at_ms))))
    return found


@pytest.mark.long
def test_of_a_recorder_that_is_killed_twenty_times_every_closed_fragment_plays(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ts", 4)
    reader = Recordings(tmp_path / "recordings")
    start_ms, torn = START_MS, []
    # Killed by SIGKILL. Forked from a server that has the modules, since to import them takes longer than the test.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([filmed_until_killed.__name__])
    for turn in range(20):
        wanted = 1 + turn * 7 % 40
        child = processes.Process(target=filmed_until_killed.record, args=(tmp_path / "recordings", path, start_ms))
        child.start()
        try:
            wait_until(lambda: len(fragments(reader, start_ms)) >= wanted, within_s=60)  # noqa: B023 - called here only
        finally:
            child.kill()
            child.join()
        torn.append(reader.segments("gate")[-1])
        start_ms = read_index(torn[-1].index)[-1].end_ms + 60_000
    recorder = Recorder(tmp_path / "recordings", RECORDING)
    recorder.start()
    recorder.close(30)
    for segment in reader.segments("gate"):
        last = read_index(segment.index)[-1]
        assert segment.video.stat().st_size == last.offset + last.size
    assert len(set(torn)) == 20
    for segment in torn:
        assert len(decoded(segment.video)) == 10 * len(read_index(segment.index))


def fragments(reader: Recordings, since_ms: int) -> list[int]:
    found = [segment for segment in reader.segments("gate") if segment.start_ms >= since_ms]
    return [entry.start_ms for segment in found for entry in read_index(segment.index)]


def test_a_disk_that_hangs_costs_recordings_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path, RecordingSettings(queue_bytes=1024 * 1024))
    recorder.follow([Camera("gate", "rtsp://gate", record=Recording(3650, 10**9))])
    hangs = threading.Event()
    write = recorder._segments.write
    monkeypatch.setattr(recorder._segments, "write", lambda one, now: hangs.wait(60) and write(one, now))
    recorder.start()
    form, before = Format(b"init"), lost("queue")
    with caplog.at_level(logging.WARNING):
        for number in range(40):
            start_ms = START_MS + number * 1000
            recorder._give(Fragment("gate", form, number, bytes(100_000), 90_000, start_ms, start_ms + 1000, key=True))
        assert lost("queue") - before == 30
        hangs.set()
        wait_until(lambda: recorder._queued == 0)
    recorder.close(10)
    assert ["is behind" in record.message for record in caplog.records] == [True, False]
    assert sum(len(read_index(one.index)) for one in Recordings(tmp_path).segments("gate")) == 10


def test_what_waits_is_written_when_it_ends(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "recordings", RECORDING)
    recorder.follow([Camera("gate", "rtsp://gate", record=Recording(3650, 10**9))])
    for fragment in tapped([film(tmp_path / "a.ts", 3)]):
        recorder._give(fragment)
    recorder.start()
    recorder.close(10)
    clip = Recordings(tmp_path / "recordings").clip("gate", START_MS, START_MS + 3_000)
    assert len(decoded(b"".join(clip.chunks()))) == 30


def test_a_fault_of_the_writer_costs_one_fragment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path / "recordings", RECORDING)
    recorder.follow([Camera("gate", "rtsp://gate", record=Recording(3650, 10**9))])
    write, faults = recorder._segments.write, iter([True])

    def faulty(fragment: Fragment, now: int) -> bool:
        if next(faults, False):
            raise KeyError("a bug")
        return write(fragment, now)

    monkeypatch.setattr(recorder._segments, "write", faulty)
    for fragment in tapped([film(tmp_path / "a.ts", 3)]):
        recorder._give(fragment)
    recorder.start()
    recorder.close(10)
    assert "in an unforeseen way" in caplog.text
    assert len(fragments(Recordings(tmp_path / "recordings"), 0)) == 2


def test_a_camera_is_recorded_while_its_registration_says_so(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RECORDING)
    limit = Recording(3650, 10**9)
    for camera, on in [
        (Camera("gate", "rtsp://gate"), False),
        (Camera("gate", "rtsp://gate", record=limit), True),
        (Camera("gate", "rtsp://gate", record=Recording(3650, 10**9, on=False)), False),
        (Camera("gate", "rtsp://gate", record=limit, watching=False), False),
    ]:
        recorder.follow([camera])
        assert ("gate" in recorder._on) is on
        assert ("gate" in recorder._limits) is (camera.record is not None)
