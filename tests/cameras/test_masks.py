"""What is masked leaves the camera process nowhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cameras.areas import covered, widened
from cameras.framing import Cut
from cameras.looking import Looking
from cameras.picture import Darkroom, Picture
from cameras.recorder import Recorder
from cameras.settings import RecordingSettings
from cameras.source import probe
from cameras.view import ViewWatch
from proto.areas import checked_area
from proto.errors import Invalid
from proto.types import Area, Camera, Recording
from tests.cameras.rig import SETTINGS, START_MS, Facts, Register, Sink, hosting, until
from tests.histories import HISTORIES

_BYTES = {"rgb24": 3, "yuv420p10le": 2}
"""Of a pixel, where it is not one."""
FORMATS = {
    "yuv420p": (2, 2),
    "yuv422p": (2, 1),
    "yuvj444p": (1, 1),
    "gray": (1, 1),
    "rgb24": (1, 1),
    "yuv420p10le": (2, 2),
}


@st.composite
def areas(draw: st.DrawFn) -> Area:
    """A polygon that does not cross itself: its corners lie around a point, in order."""
    middle = draw(st.floats(0.05, 0.95)), draw(st.floats(0.05, 0.95))
    turns = sorted(draw(st.lists(st.integers(0, 359), min_size=3, max_size=9, unique=True)))
    reaches = draw(st.lists(st.floats(0.03, 1.0), min_size=len(turns), max_size=len(turns)))
    corners = []
    for turn, reach in zip(turns, reaches, strict=True):
        angle = math.radians(turn)
        across, down = middle[0] + reach * math.cos(angle), middle[1] + reach * math.sin(angle)
        corners.append((min(1.0, max(0.0, across)), min(1.0, max(0.0, down))))
    try:
        return checked_area(corners)
    except Invalid:  # cut off at the border of the picture, it may touch itself
        return checked_area([middle, (0.99, middle[1]), (middle[0], 0.99)])


def inside(areas: list[Area], width: int, height: int) -> NDArray[np.bool_]:
    """The pixels whose middle is inside, found in another way than the code does: by the turns around it."""
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    found = np.zeros((height, width), np.bool_)
    for area in areas:
        angles = [np.arctan2(y - down, x - across) for x, y in area]
        steps = [(b - a + np.pi) % (2 * np.pi) - np.pi for a, b in zip(angles, [*angles[1:], angles[0]], strict=True)]
        found |= np.abs(sum(steps)) > np.pi
    return found


def frame_of(width: int, height: int, form: str, seed: int, hidden: NDArray[np.bool_], hidden_seed: int) -> Any:
    """A frame full of noise, whose hidden part has noise of its own."""
    frame: Any = av.VideoFrame(width, height, form)
    outer, inner = np.random.default_rng(seed), np.random.default_rng(hidden_seed)
    for number, plane in enumerate(frame.planes):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        across, down = FORMATS[form] if number else (1, 1)
        cells: Any = np.pad(hidden, ((0, -height % down), (0, -width % across)))
        cells = cells.reshape(cells.shape[0] // down, down, -1, across).any(axis=(1, 3))
        cells = cells.repeat(_BYTES.get(form, 1), axis=1)
        noise = outer.integers(0, 256, rows.shape, dtype=np.uint8)
        other = inner.integers(0, 256, rows.shape, dtype=np.uint8)
        noise[: cells.shape[0], : cells.shape[1]][cells] = other[: cells.shape[0], : cells.shape[1]][cells]
        if form == "yuv420p10le":
            noise[:, 1::2] &= 3
        rows[:] = noise
    return frame


def exits(frame: Any, masks: list[Area]) -> tuple[bytes, ...]:
    """All that leaves the process of a picture, or is decided by."""
    picture = Picture(Darkroom(masks), frame, START_MS, after_gap=True)
    width, height = picture.size
    looking = Looking(SETTINGS, ViewWatch())
    judged = looking.look(picture)
    return (
        picture.sketch().tobytes(),
        picture.jpeg(96, 90),
        picture.jpeg(32, 90),
        picture.crop(Cut(0, 0, width, height), 416, 90),
        picture.crop(Cut(width // 4, height // 4, width, height), 416, 90),
        repr(judged).encode(),
    )


@given(
    masks=st.lists(areas(), min_size=1, max_size=3),
    size=st.sampled_from([(96, 64), (101, 67), (64, 96)]),
    form=st.sampled_from(sorted(FORMATS)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=HISTORIES, deadline=None, derandomize=True, database=None)
def test_two_pictures_that_differ_only_behind_masks_leave_no_difference_at_any_exit(
    masks: list[Area], size: tuple[int, int], form: str, seed: int
) -> None:
    hidden = inside(masks, *size)
    one, other = (frame_of(*size, form, seed, hidden, behind) for behind in (1, 2))
    assert exits(one, masks) == exits(other, masks)
    shown = simplejpeg.decode_jpeg(Picture(Darkroom(masks), one, 0, after_gap=True).jpeg(min(size), 100))
    # What lies a block of the JPEG and a pixel of the scaling inside is as black as can be.
    deep = ~widened(~covered(masks, *size), 17)
    if deep.any():
        assert int(shown[deep].max()) <= 24


def test_the_frame_of_the_decoder_is_left_as_it_is() -> None:
    frame = frame_of(64, 48, "yuv420p", 3, np.zeros((48, 64), np.bool_), 0)
    before = [bytes(plane) for plane in frame.planes]
    Picture(Darkroom([((0.0, 0.0), (1.0, 0.0), (0.5, 1.0))]), frame, 0, after_gap=True)
    assert [bytes(plane) for plane in frame.planes] == before


def test_a_source_that_changes_its_size_is_masked_in_the_new_one() -> None:
    room = Darkroom([((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))])
    for size in ((64, 48), (128, 96), (64, 48)):
        frame = frame_of(*size, "yuv420p", 3, np.zeros(size[::-1], np.bool_), 0)
        assert len(np.unique(Picture(room, frame, 0, after_gap=True).sketch())) == 1


LEFT: Area = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lossless: something yellow moves in the left half, and something grey in the right."""
    path = tmp_path_factory.mktemp("busy") / "it.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=4)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(48):
            pixels = np.full((360, 640, 3), 60, np.uint8)
            pixels[100:220, 10 + 4 * number : 90 + 4 * number] = (255, 255, 0)
            if number > 20:
                pixels[40 : 40 + 4 * (number - 20), 420:520] = 200
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


async def test_no_frame_of_the_topic_and_no_crop_shows_what_is_masked(facts: Facts, busy: Path) -> None:
    camera = Camera("gate", str(busy), speed=0, start_ms=START_MS, masks=(LEFT,))
    sink = Sink()
    async with hosting(Register(camera), sink, facts) as host:
        await until(lambda: bool(host.states()) and host.states()["gate"].now == "done", "the end", 60)
        await until(lambda: facts.get("gate") is not None and facts.get("gate").ended, "all is sent", 60)  # type: ignore[union-attr]
    assert any(frame.crops for frame in sink.frames)
    for frame in sink.frames:
        pixels = simplejpeg.decode_jpeg(frame.jpeg)
        assert int(pixels[:, : pixels.shape[1] // 2 - 16].max()) <= 8
        assert int(pixels[:, pixels.shape[1] // 2 + 16 :].max()) > 40
        for crop in frame.crops:
            seen = simplejpeg.decode_jpeg(crop.jpeg).astype(int)
            assert int((seen[:, :, 0] - seen[:, :, 2]).max()) < 40, "something yellow"
            assert crop.right > 0.5


def test_the_test_picture_of_a_new_camera_is_masked(busy: Path) -> None:
    camera = Camera("gate", str(busy), masks=(LEFT,))
    _, picture = probe(camera, 5)
    assert int(simplejpeg.decode_jpeg(picture.jpeg(360, 90))[:, :304].max()) <= 8


def test_a_camera_with_masks_is_not_recorded_whoever_wrote_its_row(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecordingSettings())
    limits = Recording(7, 10**9)
    plain, masked = Camera("plain", "x", record=limits), Camera("masked", "x", record=limits, masks=(LEFT,))
    allowed = Camera("allowed", "x", record=limits, masks=(LEFT,), unmasked_recording=True)
    recorder.follow([plain, masked, allowed])
    assert recorder._on == {"plain", "allowed"}
