"""What is read and changed in fragmented MP4 (ISO/IEC 14496-12) without a library. Pure.

A file begins with its initialisation: the boxes `ftyp` and `moov`. Fragments follow, each a `moof` that describes
samples and an `mdat` that holds them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

TICKS = 90_000
"""Media time counts so many ticks a second."""

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_VISUAL_ENTRY = 86
"""Where the boxes inside a sample entry of video begin."""
_JPEG = re.compile(rb"\x04\x80*[\x01-\x7f]\x6c")
"""The decoder configuration of a stream of JPEGs; other `mp4v` is MPEG-4 part 2."""


def boxes(data: bytes | bytearray, begin: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """The type, begin and end of each whole box there. Boxes of 4 GiB and more are not known."""
    last = len(data) if end is None else end
    while begin + 8 <= last:
        size, kind = struct.unpack_from(">I4s", data, begin)
        if size < 8 or begin + size > last:
            return
        yield kind, begin, begin + size
        begin += size


def init_size(data: bytes | bytearray) -> int:
    """The size of the initialisation that `data` begins with; 0 when it is not whole."""
    return next((end for kind, _, end in boxes(data) if kind == b"moov"), 0)


def whole_fragments(data: bytes | bytearray, begin: int) -> int:
    """Where the last whole fragment ends of those that begin there."""
    ends, described = begin, False
    for kind, _, end in boxes(data, begin):
        if kind == b"mdat" and described:
            ends = end
        described = kind == b"moof"
    return ends


def renumbered(fragment: bytes, sequence: int, decode_ticks: int) -> bytes:
    """The same fragment (or as much of it as holds its `moof`) at another place of a file and another media time."""
    changed = bytearray(fragment)
    number, time = _find(changed, b"mfhd"), _find(changed, b"tfdt")
    struct.pack_into(">I", changed, number + 12, sequence)
    if changed[time + 8]:  # the version says how wide it is
        struct.pack_into(">Q", changed, time + 12, decode_ticks)
    else:
        struct.pack_into(">I", changed, time + 12, decode_ticks % 2**32)
    return bytes(changed)


def codec_string(init: bytes) -> str:
    """The codec as browsers ask for it (RFC 6381): "avc1.640028". Empty when it is not known."""
    try:
        return _codec_string(init)
    except (ValueError, IndexError, StopIteration, struct.error):
        return ""


def _codec_string(init: bytes) -> str:
    kind, begin, end = next(boxes(init, _find(init, b"stsd") + 16))
    inner = {name: init[at + 8 : until] for name, at, until in boxes(init, begin + _VISUAL_ENTRY, end)}
    name = kind.decode("ascii")
    match name:
        case "avc1" | "avc3":
            return f"{name}.{inner[b'avcC'][1:4].hex()}" if b"avcC" in inner else ""
        case "hvc1" | "hev1":
            return f"{name}.{_hevc(inner[b'hvcC'])}" if b"hvcC" in inner else ""
        case "av01":
            return f"{name}.{_av1(inner[b'av1C'])}" if b"av1C" in inner else ""
        case "mp4v":
            return "mp4v.6c" if _JPEG.search(inner.get(b"esds", b"")) else "mp4v.20"
        case _:
            return name


def _hevc(record: bytes) -> str:
    space, tier, profile = record[1] >> 6, "LH"[record[1] >> 5 & 1], record[1] & 31
    compatible = int(f"{int.from_bytes(record[2:6]):032b}"[::-1], 2)
    constraints = record[6:12].rstrip(b"\0")
    parts = [f"{['', 'A', 'B', 'C'][space]}{profile}", f"{compatible:X}", f"{tier}{record[12]}"]
    return ".".join([*parts, *(f"{byte:X}" for byte in constraints)])


def _av1(record: bytes) -> str:
    profile, level, tier = record[1] >> 5, record[1] & 31, "MH"[record[2] >> 7]
    bits = 10 if record[2] >> 6 & 1 else 8
    return f"{profile}.{level:02d}{tier}.{bits:02d}"


def _find(data: bytes | bytearray, wanted: bytes, begin: int = 0, end: int | None = None) -> int:
    """Where the first box of this type begins, inside others too. ValueError when there is none.

    The last box may be cut off, as in the first part of a fragment.
    """
    last = len(data) if end is None else end
    for kind, at, until in boxes(data, begin, last):
        if kind == wanted:
            return at
        if kind in _CONTAINERS:
            try:
                return _find(data, wanted, at + 8, until)
            except ValueError:
                continue
    raise ValueError(f"there is no box {wanted!r}")
