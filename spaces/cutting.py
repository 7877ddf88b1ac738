"""Parts of stored pictures. Pure but for Pillow."""

from __future__ import annotations

import io
import math

from PIL import Image

from proto.types import Box

_QUALITY = 95


def part_of(jpeg: bytes, box: Box) -> bytes | None:
    """The part of the picture in the box, as a JPEG; None when the picture cannot be read."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
            across, down = picture.size
            left, top = int(box.left * across), int(box.top * down)
            right, bottom = math.ceil(box.right * across), math.ceil(box.bottom * down)
            part = picture.convert("RGB").crop((left, top, max(left + 1, right), max(top + 1, bottom)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    into = io.BytesIO()
    part.save(into, "JPEG", quality=_QUALITY)
    return into.getvalue()
