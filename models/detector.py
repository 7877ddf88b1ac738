"""The detector of a bundle: how its input is made ready, how its output is read, and how objects get vectors.

A detector is three optional files of a bundle. `detector/model.onnx` maps `image` (batch, 3, height, width) to `scores`
(batch, places, kinds) and `sides` (batch, places, 4 x bins); the places are those of the first stride, row by row, then
of the next. `detector/detector.json` is a DetectorConfig. `detector/words.f32` holds the unit vector of each kind's
name, from the bundle's own text tower: little-endian float32, kind by kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.preprocess import Pixels
from proto.errors import Broken
from proto.types import KIND, Box, Vector, Vectors

MOST_OBJECTS = 16
"""The most objects of one picture."""

_LARGEST_ENLARGEMENT = 2.0
_LEAST_SIDE = 1e-3
"""Thinner boxes lie outside the picture and were cut off at its edge."""
_TINY = 1e-12


class DetectorConfig(BaseModel):
    """`detector/detector.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kinds: tuple[Annotated[str, Field(pattern=f"^{KIND.pattern}$")], ...] = Field(min_length=1, max_length=1000)
    """The kinds of objects, in the order of the scores."""
    side: int = Field(ge=32, le=4096)
    """The long side that a picture is scaled to, keeping its shape. Small ones are enlarged to twice their size at
    most."""
    multiple: int = Field(ge=1, le=256)
    """Both sides of the input are multiples of it; what the picture does not fill is black."""
    channels: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of pixel values of 0 to 255, in the order of `channels`."""
    strides: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(min_length=1, max_length=8)
    """Pixels of the input between two places, one for each level."""
    bins: int = Field(ge=2, le=64)
    """A side's distance from its place is the mean of the numbers 0 to `bins` - 1, weighted by the softmax of its
    outputs, in strides."""
    threshold: float = Field(gt=0, lt=1)
    """The least score of an object."""
    overlap: float = Field(gt=0, le=1)
    """Of two boxes of one kind with a larger intersection over union, only the surer counts."""
    margin: float = Field(ge=0, le=1)
    """How much wider and higher the crop is than the box."""
    word_share: float = Field(ge=0, le=1)
    """An object's vector is unit(share x vector of its kind's name + (1 - share) x vector of its crop), where
    share = word_share x score."""
    colours: int = Field(0, ge=0)
    """How many of a vector's last numbers say which colours a picture shows. An object has those of its crop."""
    cost: float = Field(gt=0)
    """The work of one detection of a wide picture, in pictures embedded, without the objects' crops."""

    @model_validator(mode="after")
    def _divisible(self) -> DetectorConfig:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("a kind is named twice")
        if any(self.multiple % stride or self.side % stride for stride in self.strides):
            raise ValueError("multiple and side must be multiples of every stride")
        return self


@dataclass(frozen=True, eq=False)
class Detector:
    """The verified detector of a bundle."""

    model: Path
    config: DetectorConfig
    words: Vectors
    """The unit vectors of the names of the kinds."""

    def vector(self, kind: str, score: float, crop: Vector) -> Vector:
        """The vector of an object. `crop` is that of its part of the picture."""
        share, last = self.config.word_share * score, len(crop) - self.config.colours
        mixed = share * self.words[self.config.kinds.index(kind)][:last] + (1 - share) * _unit(crop[:last])
        meaning = np.sqrt(1 - float(crop[last:] @ crop[last:])) * _unit(mixed)
        vector: Vector = np.concatenate([meaning, crop[last:]]).astype(np.float32)
        return vector


def _unit(vector: Vector) -> Vector:
    unit: Vector = vector / max(float(np.linalg.norm(vector)), _TINY)
    return unit


@dataclass(frozen=True, slots=True)
class Found:
    """An object in a picture."""

    kind: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True, eq=False)
class DetectorPicture:
    """A picture as the detector takes it."""

    values: NDArray[np.float32]
    """(3, height, width), normalised."""
    width: int
    height: int
    """The part at the top left that shows the picture."""


def detector_picture(pixels: Pixels, config: DetectorConfig) -> DetectorPicture:
    """The whole picture, scaled."""
    scale = min(config.side / max(pixels.shape[:2]), _LARGEST_ENLARGEMENT)
    height, width = (min(config.side, max(1, round(side * scale))) for side in pixels.shape[:2])
    scaled = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    if config.channels == "BGR":
        scaled = scaled[:, :, ::-1]
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (config.mean, config.std))
    values = np.empty((3, *(-(-side // config.multiple) * config.multiple for side in (height, width))), np.float32)
    values[:] = -mean / std
    values[:, :height, :width] = (scaled.transpose(2, 0, 1) - mean) / std
    return DetectorPicture(values, width, height)


def crop_of(pixels: Pixels, box: Box, margin: float) -> Pixels:
    """The part of the picture that shows the object, widened by `margin` where the picture goes on."""
    height, width = pixels.shape[:2]
    across, down = (margin / 2 * side for side in (box.right - box.left, box.bottom - box.top))
    left, right = _bounds(box.left - across, box.right + across, width)
    top, bottom = _bounds(box.top - down, box.bottom + down, height)
    return pixels[top:bottom, left:right]


def _bounds(first: float, last: float, size: int) -> tuple[int, int]:
    begin = min(max(0, int(first * size)), size - 1)
    return begin, max(begin + 1, min(size, int(np.ceil(last * size))))


def objects_of(
    scores: NDArray[np.float32],
    sides: NDArray[np.float32],
    picture: DetectorPicture,
    config: DetectorConfig,
    *,
    threshold: float | None = None,
) -> list[Found]:
    """The objects that the detector's output means, the surest first, at most MOST_OBJECTS."""
    least = config.threshold if threshold is None else threshold
    places, kinds = np.nonzero(scores >= least)
    sure = scores[places, kinds]
    order = np.argsort(-sure, kind="stable")
    places, kinds, sure = places[order], kinds[order], sure[order]
    boxes = _boxes(sides[places], places, picture, config)
    kept: list[int] = []
    for number, box in enumerate(boxes):
        if len(kept) == MOST_OBJECTS:
            break
        rivals = [other for other in kept if kinds[other] == kinds[number]]
        sound = min(box[2] - box[0], box[3] - box[1]) > _LEAST_SIDE
        if sound and (not rivals or float(_overlaps(boxes[rivals], box).max()) <= config.overlap):
            kept.append(number)
    return [
        Found(config.kinds[kinds[number]], float(sure[number]), Box(*(float(side) for side in boxes[number])))
        for number in kept
    ]


def _boxes(
    sides: NDArray[np.float32], places: NDArray[np.intp], picture: DetectorPicture, config: DetectorConfig
) -> NDArray[np.float64]:
    """The boxes at these places, in shares of the picture: left, top, right, bottom."""
    grid = _grid(picture.values.shape[1], picture.values.shape[2], config.strides)[places]
    x, y, stride = grid.T
    raw = sides.reshape(-1, 4, config.bins).astype(np.float64)
    weights = np.exp(raw - raw.max(axis=2, keepdims=True))
    away = (weights @ np.arange(config.bins) / weights.sum(axis=2)) * stride[:, None]
    corners = np.stack([x - away[:, 0], y - away[:, 1], x + away[:, 2], y + away[:, 3]], axis=1)
    shares = corners / np.array([picture.width, picture.height] * 2)
    inside: NDArray[np.float64] = np.clip(shares, 0, 1)
    return inside


def _grid(height: int, width: int, strides: tuple[int, ...]) -> NDArray[np.float64]:
    """The middle of each place, x and y in pixels of the input, and its stride."""
    levels = []
    for stride in strides:
        y, x = np.mgrid[: height // stride, : width // stride].reshape(2, -1)
        levels.append(np.stack([(x + 0.5) * stride, (y + 0.5) * stride, np.full(x.size, stride)], axis=1))
    return np.concatenate(levels)


def _overlaps(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each of the boxes with `box`."""
    inner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.maximum(inner, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    overlaps: NDArray[np.float64] = shared / np.maximum(areas - shared, _TINY)
    return overlaps


def read_words(path: Path, kinds: int, dimension: int) -> Vectors:
    """The vectors in `words.f32`. Broken unless there is a unit vector for each kind."""
    content = path.read_bytes()
    if len(content) != kinds * dimension * 4:
        raise Broken(f"{path.name} has {len(content):,} bytes for {kinds} kinds", todo="get the bundle again")
    words: Vectors = np.frombuffer(content, "<f4").reshape(kinds, dimension).astype(np.float32)
    if not np.allclose(np.linalg.norm(words, axis=1), 1, atol=1e-3):
        raise Broken(f"{path.name} holds what are no unit vectors", todo="get the bundle again")
    return words
