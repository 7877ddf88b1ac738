"""Turns encoded pictures into the visual model's input. Pure, one picture at a time, thread-safe.

A GPU engine takes pixel values, a quarter of the bytes, and normalises them on the device. Others take them normalised.
"""

from __future__ import annotations

import io
import math
import traceback
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, field_validator

from proto.errors import Poison

Picture = NDArray[np.float32 | np.uint8]
"""One picture as engine input: (3, height, width). Floats are normalised."""

Pictures = NDArray[np.float32 | np.uint8]
"""Several pictures as engine input: (count, 3, height, width)."""

Pixels = NDArray[np.uint8]
"""One decoded picture: (height, width, 3), red, green, blue."""

_JPEG = b"\xff\xd8"
_EXIF = b"Exif\0\0"
_EXIF_WITHIN = 64 * 1024
_ORIENTATION = 0x0112
_UPRIGHT = 1
_DAMAGE = (ValueError, KeyError, RuntimeError, OverflowError)
"""What simplejpeg raises for damaged files: KeyError for an unknown colour space in the header."""
_OTHER_FORMATS = ("PNG", "WEBP", "JPEG")
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class PreprocessConfig(BaseModel):
    """`visual/preprocess_cfg.json`, in open_clip's notation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int]
    """Height and width of the model's input; a single number means a square."""
    mode: Literal["RGB"] = "RGB"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    """shortest: fill the input and crop. longest: the whole picture, with a margin. squash: stretch."""
    fill_color: int = Field(0, ge=0, le=255)
    """The margin of `longest`."""
    decode_at_least: float = Field(2.5, ge=1)
    """A JPEG may be decoded at a reduced size, but at least this many times the size it is then scaled to. Decoding
    scales differently from open_clip: at 1, vectors of a model not made for it have a cosine of 0.99."""

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, size: object) -> object:
        return (size, size) if isinstance(size, int) else size


class Preprocessor:
    """Decodes a JPEG, PNG or WebP and scales it to the model's size. Refuses too large pictures before decoding."""

    def __init__(self, config: PreprocessConfig, *, max_bytes: int, max_pixels: int) -> None:
        self._config = config
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of every picture it returns."""
        return 3, *self._config.size

    def __call__(self, data: bytes, out: Picture | None = None) -> Picture:
        """The picture as engine input, written to `out` if given. Poison when it can never be read."""
        return fitted(self._decoded(data, None), self._config, out)

    def pixels(self, data: bytes, side: int) -> Pixels:
        """The whole picture, with a long side of at most `side` pixels. Poison as above."""
        pixels = self._decoded(data, side)
        long = max(pixels.shape[:2])
        if long <= side:
            return pixels
        size = [max(1, round(length * side / long)) for length in pixels.shape[1::-1]]
        return np.asarray(Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=2))

    def fitted(self, pixels: Pixels, out: Picture) -> Picture:
        """A decoded picture, or a part of one, as engine input."""
        return fitted(pixels, self._config, out)

    def _decoded(self, data: bytes, side: int | None) -> Pixels:
        """The picture at a size that is enough for the model's input, or for a long side of `side`."""
        if not data:
            raise Poison("empty", "the picture has no bytes", todo="send a JPEG, PNG or WebP")
        if len(data) > self._max_bytes:
            raise Poison(
                "too_large",
                f"the picture has {len(data):,} bytes, more than {self._max_bytes:,}",
                todo="send it smaller, or raise encoder.max_item_bytes",
            )
        return self._decode_jpeg(data, side) if data.startswith(_JPEG) else self._decode_other(data)

    def _decode_jpeg(self, data: bytes, side: int | None) -> Pixels:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except _DAMAGE as error:
            raise _unreadable(data, error) from error
        self._check_pixels(width, height)
        if colours not in ("YCbCr", "RGB", "Gray") or _is_rotated(data):
            return self._decode_other(data)
        try:
            return _decode_scaled(data, *self._least(height, width, side))
        except _DAMAGE as error:
            raise Poison("truncated", f"the JPEG is cut off or damaged ({error})", todo="send it whole") from error

    def _least(self, height: int, width: int, side: int | None) -> tuple[int, int]:
        """The least height and width to decode at."""
        if side is not None:
            scale = min(1.0, side / max(height, width))
            return math.ceil(height * scale), math.ceil(width * scale)
        down, across = _fit(height, width, self._config)
        return math.ceil(down * self._config.decode_at_least), math.ceil(across * self._config.decode_at_least)

    def _decode_other(self, data: bytes) -> Pixels:
        try:
            image = Image.open(io.BytesIO(data), formats=_OTHER_FORMATS)
            try:
                self._check_pixels(*image.size)
                return _opaque(_upright(image))
            finally:
                image.close()  # frees the pixels at once; leaving a `with` block only closes the file
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise Poison("too_large", "the picture has far too many pixels", todo="send it smaller") from error
        except UnidentifiedImageError as error:
            raise _not_an_image() from error
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
            # Pillow raises OSError for a truncated file, and the others for a damaged inner structure.
            _forget_frames(error)
            raise Poison("truncated", f"the picture is cut off or damaged ({error})", todo="send it whole") from error

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise Poison(
                "too_large",
                f"the picture has {width}x{height} pixels, more than {self._max_pixels:,}",
                todo="send it smaller, or raise encoder.max_pixels",
            )


def _forget_frames(error: BaseException | None) -> None:
    """Free the half-read pixels, up to hundreds of megabytes, that Pillow's frames in the traceback hold. They are in a
    reference cycle that would otherwise stay until a garbage collection."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _not_an_image() -> Poison:
    return Poison("not_an_image", "these bytes are no JPEG, PNG or WebP", todo="send a JPEG, PNG or WebP")


def _unreadable(data: bytes, error: Exception) -> Poison:
    if len(data) > 4 and data[2] == 0xFF:
        return Poison("truncated", f"the JPEG ends inside its header ({error})", todo="send it whole")
    return _not_an_image()


def _is_rotated(data: bytes) -> bool:
    if data.find(_EXIF, 0, _EXIF_WITHIN) < 0:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return bool(image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT)
    except Exception:  # damaged metadata does not make the picture unreadable
        return False


def _decode_scaled(data: bytes, height: int, width: int) -> Pixels:
    """Decode at the smallest multiple of an eighth of the size that is not below the requested size."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)
    except ValueError as error:
        # Some cameras leave stray bytes between segments; the picture itself is complete.
        if "extraneous bytes" not in str(error):
            raise
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, strict=False)
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    return ImageOps.exif_transpose(image)


def _opaque(image: Image.Image) -> Pixels:
    """8-bit RGB: 16-bit grey is scaled, not clipped, and transparent parts become white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.uint32)
        return np.repeat((np.minimum(grey, 65535) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer)
    return np.asarray(image.convert("RGB"))


def _fit(height: int, width: int, config: PreprocessConfig) -> tuple[int, int]:
    """The size the whole picture is scaled to before cropping or adding a margin."""
    wanted_height, wanted_width = config.size
    if config.resize_mode == "squash":
        return wanted_height, wanted_width
    scales = (wanted_height / height, wanted_width / width)
    scale = max(scales) if config.resize_mode == "shortest" else min(scales)
    # For a square, open_clip uses torchvision, which rounds down; otherwise it rounds to the nearest.
    whole = int if config.resize_mode == "shortest" and wanted_height == wanted_width else round
    least = (wanted_height, wanted_width) if config.resize_mode == "shortest" else (1, 1)
    return max(least[0], whole(height * scale)), max(least[1], whole(width * scale))


def fitted(pixels: Pixels, config: PreprocessConfig, out: Picture | None = None) -> Picture:
    """The picture scaled to the model's size; normalised unless `out` is for pixel values."""
    fit = _fit(pixels.shape[0], pixels.shape[1], config)
    seen = config.size if config.resize_mode == "shortest" else fit
    out = np.empty((3, *config.size), np.float32) if out is None else out
    (height, width), (top, left) = seen, ((whole - part) // 2 for whole, part in zip(config.size, seen, strict=True))
    if seen != config.size:
        margin = _put(np.full((1, 1, 3), config.fill_color, np.uint8), config, np.empty((3, 1, 1), out.dtype))
        out[:, :top], out[:, top + height :] = margin, margin
        out[:, :, :left], out[:, :, left + width :] = margin, margin
    _put(_middle(pixels, fit, seen, config), config, out[:, top : top + height, left : left + width])
    return out


def _middle(pixels: Pixels, fit: tuple[int, int], wanted: tuple[int, int], config: PreprocessConfig) -> Pixels:
    """The centre crop, of size `wanted`, of the picture scaled to size `fit`.

    Only the crop is computed, so that a thin strip, which would be huge at that size, stays small.
    """
    height, width = pixels.shape[:2]
    if (height, width) == fit == wanted:
        return pixels
    top, left = (round((whole - part) / 2) for whole, part in zip(fit, wanted, strict=True))
    down, across = height / fit[0], width / fit[1]
    box = (left * across, top * down, min(width, (left + wanted[1]) * across), min(height, (top + wanted[0]) * down))
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((wanted[1], wanted[0]), _RESAMPLING[config.interpolation], box))


def _put(pixels: Pixels, config: PreprocessConfig, out: Picture) -> Picture:
    """Write channels first, normalised if `out` has floats. Reusing memory takes a third of the time."""
    channels = pixels.transpose(2, 0, 1)
    if out.dtype == np.uint8:
        out[...] = channels
    else:
        factor, less = normalising(config)
        np.multiply(channels, factor, out=out, dtype=np.float32)
        np.subtract(out, less, out=out)
    return out


def normalising(config: PreprocessConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The factor for pixel values and what is then subtracted, which gives (value / 255 - mean) / std."""
    mean, std = (np.array(values)[:, None, None] for values in (config.mean, config.std))
    return (1 / (255 * std)).astype(np.float32), (mean / std).astype(np.float32)
