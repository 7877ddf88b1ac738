"""One decoded picture: its masked areas are blanked before anything else is made of it. Made with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simplejpeg
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from cameras.areas import Covered, covered, pooled_any, widened
from cameras.framing import Cut
from cameras.meter import SourceFacts
from cameras.sketch import HEIGHT, WIDTH, Sketch
from proto.types import Area, now_ms

_MOST_SCALE = 2.0
"""A small picture is enlarged at most so far: more adds bytes and no detail."""
_HALVED_CHROMA = {"yuv420p", "yuvj420p"}
_SUBSAMPLED = {
    **dict.fromkeys(("yuv420p", "yuvj420p"), (2, 2)),
    **dict.fromkeys(("yuv422p", "yuvj422p"), (2, 1)),
    **dict.fromkeys(("yuv444p", "yuvj444p", "gray"), (1, 1)),
}
"""By pixel format, how many pixels across and down share one colour. Others are blanked as RGB."""
_REACH = 8
"""Pixels. In a format that is turned into RGB first, colours reach a little out of their place."""
_BLACK = (16, 128, 128)
_DARK = 24
"""What is black in a JPEG may be so much brighter."""
_EXPORT_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where a picture lies in its recording."""

    at_s: float
    """File time, over all rounds of a loop."""
    resumed: bool = False
    """The picture where the replay stopped before: it was kept then, and is here to compare the next ones with."""


class _Scaler:
    """Scales pictures of one source to one size; setting that up costs more than the scaling, so it is kept."""

    def __init__(self, pixels: str) -> None:
        self._pixels = pixels
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        how = Interpolation.AREA if width < frame.width else Interpolation.BICUBIC
        scaled = self._reformatter.reformat(frame, width, height, self._pixels, interpolation=how)
        return np.ascontiguousarray(scaled.to_ndarray(), dtype=np.uint8)


class Darkroom:
    """What the pictures of one source are made with. Used by the thread that reads it."""

    def __init__(self, masks: Sequence[Area] = ()) -> None:
        self.gray, self.rgb, self.part_rgb = _Scaler("gray"), _Scaler("rgb24"), _Scaler("rgb24")
        self._masks = tuple(masks)
        self._size = (0, 0)
        self._covered: dict[tuple[int, int], Covered] = {}
        """By how many pixels across and down share a value."""

    def blanked(self, frame: VideoFrame) -> VideoFrame:
        """The frame without what the masks cover. A copy, since the decoder predicts later frames from its own."""
        if not self._masks:
            return frame
        if (frame.width, frame.height) != self._size:
            self._size, self._covered = (frame.width, frame.height), {}
        shared = _SUBSAMPLED.get(frame.format.name)
        if shared is None:
            pixels = frame.to_ndarray(format="rgb24").copy()
            pixels[widened(self._hidden((1, 1)), _REACH)] = 0
            return VideoFrame.from_ndarray(pixels, format="rgb24")
        made = VideoFrame(frame.width, frame.height, frame.format.name)
        made.color_range, made.colorspace = frame.color_range, frame.colorspace
        for number, (whole, plane) in enumerate(zip(frame.planes, made.planes, strict=True)):
            rows, hidden = _rows(plane), self._hidden((1, 1) if number == 0 else shared)
            height, width = hidden.shape
            rows[:height, :width] = _rows(whole)[:height, :width]
            np.copyto(rows[:height, :width], np.uint8(_BLACK[number]), where=hidden)
        return made

    def _hidden(self, shared: tuple[int, int]) -> Covered:
        if shared not in self._covered:
            whole = covered(self._masks, *self._size)
            self._covered[shared] = whole if shared == (1, 1) else pooled_any(whole, *shared)
        return self._covered[shared]


class Picture:
    """One decoded picture. Scaling happens when it is asked for, in the thread that reads the source."""

    def __init__(
        self,
        darkroom: Darkroom,
        frame: VideoFrame,
        captured_ms: int,
        *,
        after_gap: bool,
        recorded: Recorded | None = None,
        source: SourceFacts | None = None,
    ) -> None:
        self._darkroom = darkroom
        self._frame = darkroom.blanked(frame)
        self.captured_ms = captured_ms
        self.grabbed_ms = now_ms()
        self.after_gap = after_gap
        self.recorded = recorded
        """None for a live picture."""
        self.source = source
        """What its source sends, as far as it is known."""
        self.stirs = False
        """Whether something moves in it; said by whoever looks at it."""
        self.glance = False
        """It is only asked whether something may have moved in it. It comes again, to be looked at."""
        self._sketch: Sketch | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as decoded."""
        return self._frame.width, self._frame.height

    def sketch(self) -> Sketch:
        """The small picture that policies look at."""
        if self._sketch is None:
            self._sketch = self._darkroom.gray(self._frame, WIDTH, HEIGHT)
        return self._sketch

    def jpeg(self, side: int, quality: int) -> bytes:
        """The picture with a short side of `side` pixels, its proportions kept."""
        scale = min(side / min(self.size), _MOST_SCALE)
        return _packed(self._darkroom.rgb, self._frame, scale, quality)

    def crop(self, cut: Cut, longest: int, quality: int) -> bytes:
        """A part of the picture, as sharp as the source is; made smaller where a side is longer than `longest`."""
        scale = min(1.0, longest / max(cut.width, cut.height))
        return _packed(self._darkroom.part_rgb, _part(self._frame, cut), scale, quality)


@dataclass(frozen=True, slots=True)
class Passed:
    """Word of pictures that were not decoded, since the packets say that nothing moves."""

    captured_ms: int
    """When the latest of them was taken."""
    source: SourceFacts
    after_gap: bool = False
    same: int = 0
    """So many of them, the latest and others before it, show nothing new. 0: that is not decided yet."""
    grabbed_ms: int = field(default_factory=now_ms)


def _packed(scaler: _Scaler, frame: VideoFrame, scale: float, quality: int) -> bytes:
    pixels = scaler(frame, max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    packed: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
    return packed


def _part(frame: VideoFrame, cut: Cut) -> VideoFrame:
    """A part of the frame. Only its own pixels are copied and converted where the format is the usual one."""
    if frame.format.name not in _HALVED_CHROMA:
        pixels = frame.to_ndarray(format="rgb24")[cut.top : cut.bottom, cut.left : cut.right]
        return VideoFrame.from_ndarray(np.ascontiguousarray(pixels, dtype=np.uint8), format="rgb24")
    # Chroma has half the resolution: the part begins and ends at even pixels.
    left, top = cut.left // 2 * 2, cut.top // 2 * 2
    width, height = max(2, (cut.right - left) // 2 * 2), max(2, (cut.bottom - top) // 2 * 2)
    part = VideoFrame(width, height, frame.format.name)
    part.color_range, part.colorspace = frame.color_range, frame.colorspace
    for whole, plane, less in zip(frame.planes, part.planes, (1, 2, 2), strict=True):
        rows = _rows(whole)[top // less :, left // less :]
        _rows(plane)[: height // less, : width // less] = rows[: height // less, : width // less]
    return part


def _rows(plane: Any) -> NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # its stub does not say that it is a buffer


def masked_jpeg(jpeg: bytes, masks: Sequence[Area]) -> tuple[bytes, bool] | None:
    """A stored picture without what the masks cover, and whether that changed it: it may be older than they are. None
    when it cannot be read."""
    try:
        pixels = simplejpeg.decode_jpeg(jpeg, "RGB")
    except ValueError:
        return None
    height, width = pixels.shape[:2]
    hidden = covered(masks, width, height)
    # A picture that was masked is black there, but for the edges, into which its neighbours bleed.
    inner = ~widened(~hidden, _REACH)
    if inner.any() and pixels[inner].max() <= _DARK:
        return jpeg, False
    pixels[widened(hidden, _REACH)] = 0
    blank: bytes = simplejpeg.encode_jpeg(pixels, _EXPORT_QUALITY, "RGB", "420")
    return blank, True
