"""Composes a video: a fixed camera's background, light, noise, a swaying patch, and cut-outs on their ways."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from evals.yard.pictures import Bytes, Floats, Planes, background, chroma_of, cut_out, luma_of, planes_of
from evals.yard.scenes import DAY, DUSK, FPS, NIGHT, PLACES, Passing, Spot, Video, spot

COMPOSER = 1  # raise it when the same table gives other frames: composed folders are then made anew
ENCODER = f"PyAV {av.__version__}"
SEEN = 0.3  # of its area inside the picture: from then on an object counts as there
SOLID = 0.5


@dataclass(frozen=True, slots=True)
class Light:
    """How much light there is, and what the sensor makes of it."""

    gain: float
    colour: float
    blur: float
    read_noise: float
    photon_noise: float
    lamp: float  # how much of the light comes from the lamp


LIGHTS = {
    DAY: Light(1.0, 1.0, 0.6, 1.0, 0.10, 0.0),
    DUSK: Light(0.66, 0.7, 0.9, 2.0, 0.16, 0.25),
    NIGHT: Light(0.48, 0.35, 1.3, 3.2, 0.24, 0.5),
}


Sides = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Truth:
    """One object of a video: when it is there, and its box (l, t, r, b in shares) at the middle of that time."""

    what: str
    start_s: float
    end_s: float
    box: Sides
    share: float
    track: tuple[tuple[float, Sides], ...] = ()
    """Its box twice a second."""


@functools.cache
def truths(video: Video) -> tuple[Truth, ...]:
    """What is where in the video, in the order of its table."""
    return tuple(_truth(passing, video) for passing in video.passings)


def _truth(passing: Passing, video: Video) -> Truth:
    there = [at for at in range(video.frames) if _counts(spot(passing, video, at / FPS), video)]
    first, last = there[0], there[-1]
    box = _box(passing, video, (first + last) // 2)
    share = (box[2] - box[0]) * (box[3] - box[1])
    # At the same instants for all, so that of two things that are there at once each has its box.
    track = tuple((at / FPS, _box(passing, video, at)) for at in range(first, last + 1) if at % (FPS // 2) == 0)
    return Truth(passing.what, first / FPS, (last + 1) / FPS, box, share, track)


def _box(passing: Passing, video: Video, frame: int) -> Sides:
    at = spot(passing, video, frame / FPS)
    assert at is not None
    left, top, right, bottom = _inside(at, video)
    return left / video.width, top / video.height, right / video.width, bottom / video.height


def _inside(at: Spot, video: Video) -> tuple[float, float, float, float]:
    left, right = at.x - at.width / 2, at.x + at.width / 2
    return max(0.0, left), max(0.0, at.feet - at.height), min(video.width, right), min(video.height, at.feet)


def _counts(at: Spot | None, video: Video) -> bool:
    if at is None or at.solid < SOLID:
        return False
    left, top, right, bottom = _inside(at, video)
    return max(0.0, right - left) * max(0.0, bottom - top) >= SEEN * at.width * at.height


class Scene:
    """The frames of one video. The same video gives the same frames."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._light = LIGHTS[video.condition]
        picture = background(video.place, video.width, video.height)
        self._still = planes_of(picture.filter(ImageFilter.GaussianBlur(self._light.blur * video.height / 720)))
        self._lamp = _lamp(video, self._light.lamp)
        self._dice = np.random.default_rng(video.seed)
        self._grain = _grain(self._dice, video)
        self._phase = float(self._dice.uniform(0, math.tau))

    def frame(self, number: int, objects: bool = True, noise: bool = True) -> Planes:
        """Frame `number`, without its objects for a clean background, without noise to compare pixels."""
        second = number / FPS
        planes = Planes(self._still.luma.copy(), self._still.blue.copy(), self._still.red.copy())
        self._sway(planes, second)
        if objects:
            for passing in self._video.passings:
                at = spot(passing, self._video, second)
                if at is not None:
                    _paint(planes, passing, at, second, self._light.blur)
        return self._develop(planes, number, noise)

    def _sway(self, planes: Planes, second: float) -> None:
        """Moves the rows of a patch sideways, most at its middle, so that its edges do not tear."""
        patch = PLACES[self._video.place].sway
        if patch is None:
            return
        wind = 0.6 + 0.4 * math.sin(second * 0.5 + self._phase)
        for plane, scale in ((planes.luma, 1.0), (planes.blue, 0.5), (planes.red, 0.5)):
            height, width = plane.shape
            left, top = round(patch[0] * width), round(patch[1] * height)
            right, bottom = round(patch[2] * width), round(patch[3] * height)
            rows = np.arange(bottom - top, dtype=np.float32)[:, None]
            columns = np.arange(right - left, dtype=np.float32)[None, :]
            far = 7 * scale * self._video.height / 720 * wind
            down = second * 3.1 + self._phase + rows * (0.02 / scale)
            across = columns * (0.008 / scale)
            most_down = far * np.sin(math.pi * (rows + 1) / (bottom - top + 1))
            most_across = np.sin(math.pi * columns / (right - left - 1))
            moved = (most_down * np.sin(down)) * (most_across * np.cos(across))
            moved += (most_down * np.cos(down)) * (most_across * np.sin(across))
            from_column = np.clip(np.rint(columns + moved), 0, right - left - 1).astype(np.intp)
            plane[top:bottom, left:right] = np.take_along_axis(plane[top:bottom, left:right], from_column, axis=1)

    def _develop(self, planes: Planes, number: int, noise: bool) -> Planes:
        """What the sensor makes of the light: exposure, lamp, colour, noise."""
        light, second = self._light, number / FPS
        exposure = light.gain * (1 + 0.03 * math.sin(math.tau * second / 23 + self._phase))
        levels = np.clip(16 + (np.arange(256) - 16) * exposure, 16, 235).astype(np.uint8)
        luma = np.take(levels, planes.luma, mode="clip")
        if self._lamp is not None:
            luma = (16 + (((luma - np.uint8(16)) * self._lamp) >> 7)).astype(np.uint8)
        if noise:
            sigma = (np.sqrt(light.read_noise**2 + light.photon_noise * np.arange(256)) * 8).astype(np.int16)
            speckle = np.take(sigma, luma, mode="clip")
            speckle *= self._speckle(number)
            speckle >>= 7
            speckle += luma
            luma = np.clip(speckle, 0, 255, out=speckle).astype(np.uint8)
        tones = np.clip(128 + (np.arange(256) - 128) * light.colour * min(1.0, exposure + 0.1), 0, 255).astype(np.uint8)
        return Planes(luma, *(np.take(tones, plane, mode="clip") for plane in (planes.blue, planes.red)))

    def _speckle(self, number: int) -> NDArray[np.int16]:
        """One piece of the field of noise, another for every frame."""
        shift = np.random.default_rng((self._video.seed, number)).integers(0, 64, 2)
        field = self._grain[shift[0] :, shift[1] :][: self._video.height, : self._video.width]
        return field[::-1] if number % 2 else field


def _grain(dice: np.random.Generator, video: Video) -> NDArray[np.int16]:
    """Unit noise times 16; darker light has coarser grain, as a camera's own noise filter leaves it."""
    field: Floats = dice.standard_normal((video.height + 64, video.width + 64), np.float32)
    if video.condition == NIGHT:
        field = (field + np.roll(field, 1, 0) + np.roll(field, 1, 1) + np.roll(field, (1, 1), (0, 1))) / np.float32(2)
    return np.clip(np.rint(field * 16), -64, 64).astype(np.int16)


def _lamp(video: Video, strength: float) -> NDArray[np.uint16] | None:
    if not strength:
        return None
    x, y = PLACES[video.place].lamp
    rows = (np.arange(video.height)[:, None] / video.height - y) * 1.3
    columns = np.arange(video.width)[None, :] / video.width - x
    pool = np.exp(-(rows**2 + columns**2) / 0.09)
    light: NDArray[np.uint16] = (128 * np.minimum(1.15, 1 - strength * 0.5 + strength * pool)).astype(np.uint16)
    return light


@functools.lru_cache(maxsize=4)
def _shadow() -> Image.Image:
    across, down = np.mgrid[-1:1:64j, -1:1:24j]
    return Image.fromarray((110 * np.clip(1 - np.hypot(across, down), 0, 1)).astype(np.uint8).T.copy(), "L")


def _paint(planes: Planes, passing: Passing, at: Spot, second: float, blur: float) -> None:
    """Lays the object and its shadow over the planes."""
    rgba, left, top = _patch(passing, at, second, blur)
    height, width = planes.luma.shape
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + rgba.width), min(height, top + rgba.height)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    pixels = np.asarray(rgba, np.float32)[y0 - top : y1 - top, x0 - left : x1 - left]
    cover: Floats = (pixels[..., 3] / 255).astype(np.float32)
    under: Floats = planes.luma[y0:y1, x0:x1].astype(np.float32)
    colour = pixels[..., :3] * _match(luma_of(pixels[..., :3]), cover, under)
    planes.luma[y0:y1, x0:x1] = np.clip(under + (luma_of(colour) - under) * cover, 0, 255)
    small = cover.reshape((y1 - y0) // 2, 2, (x1 - x0) // 2, 2).mean(axis=(1, 3))
    for plane, tone in zip((planes.blue, planes.red), chroma_of(colour), strict=True):
        below = plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2].astype(np.float32)
        plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = np.clip(below + (tone - below) * small, 0, 255)


def _match(luma: Floats, cover: Floats, under: Floats) -> float:
    """Pulls the object's brightness a third of the way to that of its place, as one sun lights both."""
    weight = float(cover.sum())
    if weight < 1:
        return 1.0
    own, around = float((luma * cover).sum()) / weight, float(under.mean())
    return min(1.25, max(0.6, ((2 * own + around) / 3) / max(own, 1.0)))


def _patch(passing: Passing, at: Spot, second: float, blur: float) -> tuple[Image.Image, int, int]:
    """The object at its size with its shadow below, on a canvas with even corners; and where the canvas lies."""
    cut = cut_out(passing.what)
    step = cut.frames[_step(len(cut.frames), second)]
    if cut.facing in ("left", "right") and (cut.facing == "right") != passing.rightwards:
        step = step.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = max(2, round(at.width)), max(2, round(at.height))
    step = step.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if at.turn:
        step = step.rotate(at.turn, Image.Resampling.BILINEAR)
    margin = 4 + 2 * round(blur)
    left, top = round(at.x - at.width / 2) - margin, round(at.feet - at.height) - margin
    left, top, odd = left & ~1, top & ~1, (left & 1, top & 1)
    canvas = Image.new("RGBA", ((width + 2 * margin + 3) & ~1, (height + 2 * margin + 3) & ~1))
    corner = (margin + odd[0], margin + odd[1])
    if passing.way != "flying":
        deep = max(4, round(width * 0.09))
        dark = _shadow().resize((width, 2 * deep))
        canvas.paste((0, 0, 0, 255), (corner[0], min(corner[1] + height - round(1.6 * deep), canvas.height)), dark)
    canvas.alpha_composite(step, corner)
    canvas = canvas.filter(ImageFilter.GaussianBlur(0.5 + 0.5 * blur))
    if at.solid < 1:
        canvas.putalpha(canvas.getchannel("A").point([round(level * at.solid) for level in range(256)]))
    return canvas, left, top


def _step(count: int, second: float) -> int:
    """Steps of a walk, forth and back."""
    if count == 1:
        return 0
    beat = int(second * 5) % (2 * count - 2)
    return min(beat, 2 * count - 2 - beat)


def pictures(video: Video) -> Iterator[Planes]:
    """All frames in order."""
    scene = Scene(video)
    for number in range(video.frames):
        yield scene.frame(number)


def write(video: Video, path: Path) -> None:
    """Writes the video as H.264 in MP4."""
    with av.open(str(path), "w", format="mp4") as container:
        options = {"crf": "27", "preset": "superfast", "maxrate": "900k", "bufsize": "1800k", "g": "24"}
        stream = container.add_stream("libx264", rate=FPS, options={**options, "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for planes in pictures(video):
            flat: list[Bytes] = [planes.luma, *(p.reshape(-1, video.width) for p in (planes.blue, planes.red))]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.concatenate(flat), format="yuv420p")))
        container.mux(stream.encode())
