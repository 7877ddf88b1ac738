"""Reads the committed cut-outs and backgrounds, and turns RGB into the planes that the encoder takes."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DATA = Path(__file__).parent / "data"
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """One picture as luma and the two chroma planes at half the size (BT.601, limited range)."""

    luma: Bytes
    blue: Bytes
    red: Bytes


@dataclass(frozen=True, slots=True)
class CutOut:
    """An object without its background."""

    name: str
    part: str
    facing: str  # left, right, front, back or none: the way it looks in its picture
    frames: tuple[Image.Image, ...]  # RGBA, one size; several are steps of a walk


def luma_of(rgb: Floats) -> Floats:
    """Brightness, 16 to 235."""
    luma: Floats = 16 + (65.738 * rgb[..., 0] + 129.057 * rgb[..., 1] + 25.064 * rgb[..., 2]) / 256
    return luma


def chroma_of(rgb: Floats) -> tuple[Floats, Floats]:
    """Blue and red difference at half the size; the picture's sides are even."""
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    small = rgb.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    blue = 128 + (-37.945 * small[..., 0] - 74.494 * small[..., 1] + 112.439 * small[..., 2]) / 256
    red = 128 + (112.439 * small[..., 0] - 94.154 * small[..., 1] - 18.285 * small[..., 2]) / 256
    return blue.astype(np.float32), red.astype(np.float32)


def planes_of(picture: Image.Image) -> Planes:
    """The picture as the encoder takes it; its sides are even."""
    rgb = np.asarray(picture.convert("RGB"), np.float32)
    blue, red = chroma_of(rgb)
    return Planes(_bytes(luma_of(rgb)), _bytes(blue), _bytes(red))


def _bytes(values: Floats) -> Bytes:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@functools.cache
def catalog() -> Mapping[str, Mapping[str, Any]]:
    """What data/cutouts.json says of each cut-out: part, frames, size, facing, source."""
    found: dict[str, dict[str, Any]] = json.loads((DATA / "cutouts.json").read_text(encoding="utf-8"))
    return found


@functools.lru_cache(maxsize=16)
def cut_out(name: str) -> CutOut:
    """The cut-out of that name in data/cutouts.json."""
    said = catalog()[name]
    sheet = Image.open(DATA / "cutouts" / f"{name}.webp").convert("RGBA")
    count, width = int(said["frames"]), int(said["width"])
    steps = tuple(sheet.crop((k * width, 0, (k + 1) * width, sheet.height)) for k in range(count))
    return CutOut(name, str(said["part"]), str(said["facing"]), steps)


def background(name: str, width: int, height: int) -> Image.Image:
    """The background at the size of a video."""
    picture = Image.open(DATA / "backgrounds" / f"{name}.webp").convert("RGB")
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)
