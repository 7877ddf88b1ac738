"""Views of fixed cameras over hours, composed of real pictures: light, weather, noise, things that move, by seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from cameras.sketch import HEIGHT, WIDTH, Sketch
from tests.clips import CLIPS

Grey = NDArray[np.float32]
Light = Callable[[Grey, float], Grey]
"""What a picture of grey levels looks like at this second."""

MARGIN = WIDTH // 2
"""A view can be turned by half of what it shows."""
PLACES = {
    "street": ("bikes", 0.5),
    "taxi": ("bikes", 2.0),
    "cyclist": ("bikes", 4.5),
    "railing": ("bikes", 6.5),
    "wall": ("bikes", 8.5),
    "meadow": ("bigbuckbunny", 0.5),
    "wood": ("bigbuckbunny", 4.5),
    "car": ("carphone_pristine", 1.0),
}
"""Clip and second of pictures that stand for the views of fixed cameras."""


@cache
def wide(place: str) -> NDArray[np.uint8]:
    """The picture as colours, wider than what a camera sees of it: (HEIGHT, WIDTH + MARGIN, 3)."""
    clip, at_s = PLACES[place]
    with av.open(str(CLIPS[clip])) as source:
        frame = next(one for one in source.decode(video=0) if (one.time or 0.0) >= at_s)
        scaled = frame.reformat(WIDTH + MARGIN, HEIGHT, "rgb24", interpolation=Interpolation.AREA)
        return np.asarray(scaled.to_ndarray(), dtype=np.uint8)


def grey(place: str, *, turned: bool = False, infrared: bool = False) -> Grey:
    """What the camera sees: the left part of the wide picture, or, when it is turned, the right one."""
    weights = (0.75, 0.35, -0.1) if infrared else (0.299, 0.587, 0.114)
    whole = wide(place).astype(np.float32) @ np.asarray(weights, np.float32)
    return whole[:, MARGIN:] if turned else whole[:, :WIDTH]


def blurred(picture: Grey, sigma: float) -> Grey:
    reach = int(3 * sigma) + 1
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(picture, [(reach, reach) if one == axis else (0, 0) for one in (0, 1)], mode="edge")
        length = picture.shape[axis]
        parts = [weight * np.take(padded, range(at, at + length), axis=axis) for at, weight in enumerate(weights)]
        picture = np.sum(parts, axis=0, dtype=np.float32)
    return picture


class Sensor:
    """Makes what a sensor gives of grey levels: noise, and whole numbers from 0 to 255."""

    def __init__(self, noise: float = 1.5, seed: int = 0) -> None:
        self._noises, state = _noises(seed)
        self._random = np.random.default_rng(seed)
        self._random.bit_generator.state = state
        self.noise = noise

    def __call__(self, picture: Grey) -> Sketch:
        number, top, left = self._random.integers(0, 16, 3)
        noise = self._noises[number, top : top + HEIGHT, left : left + WIDTH]
        return np.clip(picture + self.noise * noise + 0.5, 0, 255).astype(np.uint8)


@cache
def _noises(seed: int) -> tuple[Grey, Mapping[str, Any]]:
    """Pictures of noise, and the generator's state after them."""
    random = np.random.default_rng(seed)
    noises = random.normal(0.0, 1.0, (16, HEIGHT + 16, WIDTH + 16)).astype(np.float32)
    return noises, random.bit_generator.state


def over_time(
    picture: Grey, light: Light, begin_s: float, end_s: float, step_s: float, sensor: Sensor
) -> Iterator[tuple[float, Sketch]]:
    """The camera's sketches from one second to another."""
    at_s = begin_s
    while at_s < end_s:
        yield at_s, sensor(light(picture, at_s))
        at_s += step_s
