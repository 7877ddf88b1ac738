from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from broker.topics import MAX_RECORD_BYTES
from cameras.framing import Cut
from cameras.looking import CROP_PX, WatchedView
from cameras.notes import Notes
from cameras.settings import CameraSettings
from cameras.source import probe
from cameras.view import View
from catalog.views import CameraView
from proto.metrics import CAMERA_VIEWS, VIEW_CHANGES
from proto.types import Camera
from proto.v1.events_pb2 import Frame
from tests.cameras.rig import AWAY, SETTINGS, START_MS, Facts, Register, Sink, hosting, until
from tests.clips import CLIPS

Colours = NDArray[np.uint8]
FPS = 4
WIDE, HIGH = 1280, 720


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


def still(clip: str, at_s: float, width: int, height: int) -> Colours:
    with av.open(str(CLIPS[clip])) as source:
        frame = next(one for one in source.decode(video=0) if (one.time or 0.0) >= at_s)
        return np.asarray(frame.reformat(width, height, "rgb24").to_ndarray(), dtype=np.uint8)


def written(path: Path, pictures: Iterable[Colours], width: int, height: int, pix_fmt: str = "yuv420p") -> Path:
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3)).round().astype(np.int16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.options = {"preset": "ultrafast", "crf": "18"}
        for number, picture in enumerate(pictures):
            noisy = picture + np.roll(noise, 37 * number, axis=1)
            frame = av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def passing(seconds: int) -> Iterator[tuple[Colours, Cut | None]]:
    """A wall, and from the eighth second on a cyclist of 1 % of the picture who passes; with where the cyclist is."""
    wall, cyclist = still("bikes", 8.5, WIDE, HIGH), still("bikes", 4.5, WIDE, HIGH)[60:690, 700:950]
    shrunk = av.VideoFrame.from_ndarray(np.ascontiguousarray(cyclist), format="rgb24").reformat(64, 144)
    thing = np.asarray(shrunk.to_ndarray(), dtype=np.uint8)
    for number in range(seconds * FPS):
        at_s = number / FPS - 8
        picture = wall.copy()
        left, top = round(100 + 120 * at_s), 400
        if at_s < 0:
            yield picture, None
            continue
        picture[top : top + 144, left : left + 64] = thing
        yield picture, Cut(left, top, left + 64, top + 144)


async def sent(facts: Facts, clip: Path, settings: CameraSettings = SETTINGS) -> list[Frame]:
    sink, camera = Sink(), Camera("gate", str(clip), speed=0.0, start_ms=START_MS)
    async with hosting(Register(camera), sink, facts, settings=settings) as host:
        await until(lambda: bool(host.states()) and host.states()["gate"].now == "done", "the end", 60)
        await until(lambda: facts.get("gate") is not None and facts.get("gate").ended, "all is sent", 60)  # type: ignore[union-attr]
    return sink.frames


async def test_a_kept_frame_carries_what_moved_as_sharp_as_the_source(facts: Facts, tmp_path: Path) -> None:
    shown = list(passing(16))
    frames = await sent(facts, written(tmp_path / "it.mp4", (picture for picture, _ in shown), WIDE, HIGH))
    seen = [(frame, *shown[round((frame.captured_ms - START_MS) * FPS / 1000)]) for frame in frames]
    moving = [(frame, picture, where) for frame, picture, where in seen if where is not None]
    assert len(moving) >= 8
    for frame, picture, where in moving:
        crop = frame.crops[0]
        pixels = simplejpeg.decode_jpeg(crop.jpeg)
        left, top = round(crop.left * WIDE), round(crop.top * HIGH)
        right, bottom = round(crop.right * WIDE), round(crop.bottom * HIGH)
        assert left <= where.left + 16 and right >= where.right - 16
        assert top <= where.top + 16 and bottom >= where.bottom - 16
        assert max(pixels.shape) <= CROP_PX
        assert abs(pixels.shape[0] - (bottom - top)) <= 2 and abs(pixels.shape[1] - (right - left)) <= 2
        true = picture[top // 2 * 2 :, left // 2 * 2 :][: pixels.shape[0], : pixels.shape[1]]
        assert float(np.abs(pixels.astype(int) - true).mean()) < 8
    assert all(not frame.crops for frame, _, where in seen if where is None)


async def test_crops_can_be_switched_off(facts: Facts, tmp_path: Path) -> None:
    clip = written(tmp_path / "it.mp4", (picture for picture, _ in passing(12)), WIDE, HIGH)
    frames = await sent(facts, clip, SETTINGS.model_copy(update={"crops": 0}))
    assert frames and not any(frame.crops for frame in frames)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "gray"])
def test_a_crop_is_the_part_of_the_picture_that_it_says(tmp_path: Path, pix_fmt: str) -> None:
    picture = still("bikes", 8.5, 640, 360)
    clip = written(tmp_path / "it.mp4", [picture] * 3, 640, 360, pix_fmt)
    shown = probe(Camera("gate", str(clip)), 5)[1]
    part = simplejpeg.decode_jpeg(shown.crop(Cut(101, 51, 301, 171), CROP_PX, 95))
    true = picture[50:170, 100:300] if pix_fmt != "gray" else picture[50:170, 100:300].mean(axis=2, keepdims=True)
    height, width = min(part.shape[0], 120), min(part.shape[1], 200)
    assert (height, width) >= (118, 198)
    assert float(np.abs(part[:height, :width].astype(int) - true[:height, :width]).mean()) < 12
    large = simplejpeg.decode_jpeg(shown.crop(Cut(0, 0, 640, 360), CROP_PX, 95))
    assert large.shape == (234, 416, 3)


def test_the_largest_record_is_one_that_the_broker_takes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    shown = probe(Camera("gate", str(written(tmp_path / "it.mp4", [noise], 1280, 720))), 5)[1]
    crops = [shown.crop(Cut(left, 0, left + 416, 416), CROP_PX, 100) for left in (0, 416, 832)]
    assert sum(map(len, [*crops, shown.jpeg(384, 100)])) < MAX_RECORD_BYTES / 2


def covered_later(clear_s: int, covered_s: int) -> Iterator[Colours]:
    wall = still("bikes", 8.5, 320, 180)
    for number in range((clear_s + covered_s) * FPS):
        yield wall if number < clear_s * FPS else np.full_like(wall, 12)


async def test_a_covered_camera_is_told_in_frames_catalog_metric_and_log(
    facts: Facts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = VIEW_CHANGES.labels(state="covered")._value.get()
    frames = await sent(facts, written(tmp_path / "it.mp4", covered_later(40, 70), 320, 180))
    assert sorted({frame.view for frame in frames}) == [0, 1]
    found = facts.view_of("gate")
    assert found is not None
    assert (found.view, found.state) == (1, "covered")
    assert 40 < (found.since_ms - START_MS) / 1000 <= 100
    assert next(frame.captured_ms for frame in frames if frame.view == 1) >= found.since_ms
    assert VIEW_CHANGES.labels(state="covered")._value.get() == before + 1
    assert any("gate: it shows nothing" in record.message for record in caplog.records)


async def test_the_view_goes_on_after_a_restart_of_the_process(facts: Facts, tmp_path: Path) -> None:
    facts.put_view(CameraView("gate", 7, "covered", START_MS))
    sink, camera = Sink(), Camera("gate", str(CLIPS["bikes"]), speed=0.0, start_ms=START_MS)
    async with hosting(Register(camera), sink, facts) as host:
        await until(lambda: bool(host.states()) and bool(sink.frames), "frames")
        await until(lambda: CAMERA_VIEWS.labels(state="covered")._value.get() == 1, "the gauge")
    assert {frame.view for frame in sink.frames} == {7}


def test_a_view_that_cannot_be_read_is_taken_to_be_clear(facts: Facts, caplog: pytest.LogCaptureFixture) -> None:
    facts.trouble = AWAY
    view = WatchedView("gate", Notes(facts, facts, facts))
    with caplog.at_level(logging.WARNING):
        view.begin()
    assert (view.state, view.number) == (View.CLEAR, 0)
    assert "cannot be read" in caplog.text
