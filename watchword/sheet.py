"""The contact sheet: the pictures of hits in one JPEG, each with its box and a caption."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from catalog.files import write_whole
from proto.errors import Invalid

Sides = tuple[float, float, float, float]
"""Left, top, right and bottom, in shares of the picture."""

_COLUMNS = 4
_TILE = (320, 180)
_MARGIN, _LINE = 8, 18
_CAPTION_LINES = 2
_MOST_TILES = 100
"""A sheet of more pictures could not be looked at; the rest is left out."""
_LEAST_BOX = 8
"""Pixels. A box of something tiny is drawn larger."""
_SURE, _WEAK = (255, 64, 32), (150, 150, 150)


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of the sheet."""

    picture: Path | None
    """A file; None when there is no picture."""
    box: Sides | None
    """What to draw in it; None for nothing."""
    caption: tuple[str, ...]
    """At most two lines."""
    sure: bool = True
    """Whether the box is drawn in the colour of sure hits."""


@dataclass(frozen=True, slots=True)
class Row:
    """A question, and what answers it. It takes as many lines of pictures as it needs."""

    title: str
    tiles: Sequence[Tile]


def check_sheet(path: Path) -> Path:
    """The path, or Invalid when no contact sheet can be written there."""
    if path.suffix.lower() not in {".jpg", ".jpeg"}:
        raise Invalid(f"{path.name!r} is not the name of a JPEG", todo="write --sheet FILE.jpg")
    if not path.parent.is_dir():
        raise Invalid(f"there is no folder {path.parent}", todo="make it, or name another file for --sheet")
    return path


def write_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Draw the rows below each other and write them. Broken when the disk refuses."""
    width = _COLUMNS * (_TILE[0] + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, max(_LINE, sum(_height(row) for row in rows))), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    top = 0
    for row in rows:
        draw.text((_MARGIN, top + 3), row.title, fill="black", font=font)
        for number, tile in enumerate(row.tiles[:_MOST_TILES]):
            left = _MARGIN + number % _COLUMNS * (_TILE[0] + _MARGIN)
            below = top + _LINE + _MARGIN + number // _COLUMNS * _tile_height()
            _draw_picture(sheet, draw, tile, (left, below))
            for line, words in enumerate(tile.caption[:_CAPTION_LINES]):
                draw.text((left, below + _TILE[1] + 2 + line * _LINE), words, fill="black", font=font)
        top += _height(row)
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=88)
    write_whole(path, data.getvalue(), durable=False)


def _height(row: Row) -> int:
    lines = -(-min(len(row.tiles), _MOST_TILES) // _COLUMNS)
    return _LINE + 2 * _MARGIN + lines * _tile_height()


def _tile_height() -> int:
    return _TILE[1] + _CAPTION_LINES * _LINE + _MARGIN


def _draw_picture(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, at: tuple[int, int]) -> None:
    if tile.picture is None:
        draw.rectangle((*at, at[0] + _TILE[0], at[1] + _TILE[1]), outline=_WEAK)
        return
    try:
        with Image.open(tile.picture) as picture:
            small = picture.convert("RGB")
    except OSError:  # damaged, or removed meanwhile: the caption alone says what it was
        return
    small.thumbnail(_TILE)
    sheet.paste(small, at)
    if tile.box is not None:
        (left, right), (top, bottom) = (_edges(tile.box[side::2], small.size[side]) for side in (0, 1))
        corners = (at[0] + left, at[1] + top, at[0] + right, at[1] + bottom)
        draw.rectangle(corners, outline=_SURE if tile.sure else _WEAK, width=3)


def _edges(sides: Sequence[float], pixels: int) -> tuple[int, int]:
    """The first and the last pixel between two shares of a side: at least _LEAST_BOX pixels, which can be seen."""
    first, last = int(sides[0] * pixels), max(0, int(sides[1] * pixels) - 1)
    short = max(0, _LEAST_BOX - 1 - (last - first))
    first = max(0, min(first - short // 2, pixels - _LEAST_BOX))
    return first, max(last, first + _LEAST_BOX - 1)
