"""The colours of a picture, as the last part of an ONNX graph of an image tower; and of a text's colour tokens.

Each cell of 10 x 10 pixels is shared out among the colours by its distance, in Oklab, from examples of each. What
counts is how much more of a colour there is in the middle of the picture than along its edges: a crop shows the thing
in its middle, and at its edges what is behind it. So a picture that is the same all over has no colour.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

COLOUR_WORDS = Path(__file__).parents[1] / "data" / "colours.json"

_FLOAT = 1
"""`onnx.TensorProto.FLOAT`; an image has the finished bundle and no onnx."""
_PICTURE_SHARE = 0.3
"""Length of the colour part of a picture that shows one colour clearly. What it is keeps 0.95 of its length."""
_TEXT_SHARE = 0.6
"""Length of the colour part of a text that names one: larger, because it does not change the order of other things."""
_SAYS = {"grey": 0.5}
"""How much a colour that is named counts, where it is not 1: grey is also what little light leaves of any colour."""
_CELL = 10
_WHOLE = 0.85
"""Of a cell that counts, so much shows the picture: a pixel of it may look like what was filled in."""
_DEPTHS = (2, 4, 6)
"""Cells from the edge. What lies so deep is the middle: the deeper, the more it counts."""
_LEAST = {"black": 0.08, "white": 0.08, "grey": 0.08}
_LEAST_OTHER = 0.04
"""How much more of a colour the middle must show. Light and shadow make black, white and grey without a thing."""
_CLEAR = 0.2
"""So much more of it is a clear colour."""
_BLUR = 0.012
"""Squared distance in Oklab at which an example counts 1/e as much."""
_LIGHTNESS, _CHROMA = 0.7, 1.6
"""Weights of the distances: a thing's lightness says less about its colour."""

_TO_CONES = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
             (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
_TO_LAB = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
           (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip
_GAMMA = 2.2

_EXAMPLES = {
    "black": "101010 202020 181820",
    "white": "ffffff e8e8e8 e0e4e8",
    "grey": "505050 707070 909090 b0b0b0 606870 788088",
    "red": "c01818 a01010 e02020 801010 d03030",
    "orange": "e87010 f08020 d06010",
    "yellow": "f0d020 e0c030 f8e860 c8a820",
    "green": "208030 40a040 105020 60c060 406020",
    "blue": "2040a0 3060d0 102060 4080d0 60a0e0",
    "turquoise": "20a0a0 40c0c0 108080 30b8a8",
    "purple": "602090 8040a0 a060c0",
    "pink": "e070a0 f0a0b8 e04890",
    "brown": "603818 805030 402410 a07848",
}
COLOURS = tuple(_EXAMPLES)
"""In the order of the vector's numbers, which is that of COLOUR_WORDS too."""


class Drawing(Protocol):
    """An ONNX graph under construction."""

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str: ...

    def weight(self, name: str, values: NDArray[Any]) -> str: ...


def picture_colours(
    drawing: Drawing, image: str, meaning: str, output: str, *, side: int, mean: float, std: float
) -> None:
    """`output`: the unit vector `meaning` of the picture, followed by a number for each colour; of unit length.

    `image` is (batch, 3, side, side), normalised by `mean` and `std`. What is exactly 0 was filled in beside the
    picture.
    """
    drawn = _Branch(drawing)
    cells = drawing.add("AveragePool", [image], "colour.cells", kernel_shape=[_CELL, _CELL], strides=[_CELL, _CELL])
    inner, edge = drawn.middle_and_edge(image, side // _CELL)
    shares = drawn.shares(cells, side // _CELL, mean, std)
    more = drawn.op("Sub", drawn.mean_of(shares, inner, "inner"), drawn.mean_of(shares, edge, "edge"), "more")
    least = np.array([_LEAST.get(name, _LEAST_OTHER) for name in COLOURS], np.float32)
    beyond = drawn.op("Sub", more, drawn.number("least", least), "beyond")
    clear = drawing.add(
        "Clip",
        [drawn.op("Div", beyond, drawn.number("clear", _CLEAR), "scaled"), drawn.number("0", 0), drawn.number("1", 1)],
        "colour.clear",
    )
    drawn.joined(meaning, clear, _PICTURE_SHARE, output)


def text_colours(drawing: Drawing, ids: str, meaning: str, output: str, *, first_id: int) -> None:
    """`output`: the unit vector `meaning` of the text, followed by a number for each colour that `ids` name."""
    drawn = _Branch(drawing)
    numbers = drawing.weight("colour.ids", np.arange(first_id, first_id + len(COLOURS), dtype=np.int64))
    apart = drawing.add("Unsqueeze", [ids, drawn.axis("column", 2)], "colour.column")
    same = drawing.add("Cast", [drawn.op("Equal", apart, numbers, "same")], "colour.found", to=_FLOAT)
    named = drawing.add("ReduceMax", [same], "colour.named", axes=[1], keepdims=0)
    says = drawn.number("says", np.array([_SAYS.get(name, 1.0) for name in COLOURS], np.float32))
    drawn.joined(meaning, drawn.op("Mul", named, says, "said"), _TEXT_SHARE, output)


class _Branch:
    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._numbers: set[str] = set()

    def number(self, name: str, value: Any) -> str:
        """A constant."""
        full = f"colours.{name}"
        if full not in self._numbers:
            self._numbers.add(full)
            self._drawing.weight(full, np.asarray(value, np.float32))
        return full

    def op(self, kind: str, left: str, right: str, output: str) -> str:
        return self._drawing.add(kind, [left, right], f"colour.{output}")

    def middle_and_edge(self, image: str, across: int) -> tuple[str, str]:
        """Weights of the cells, (batch, 1, cells): those of the middle, and those along the edge."""
        size = self._drawing.add("Abs", [image], "colour.sizes")
        largest = self._drawing.add("ReduceMax", [size], "colour.largest", axes=[1], keepdims=1)
        pixels = self._more_than(largest, "tiny", 1e-4, "pixels")
        cells = {"kernel_shape": [_CELL, _CELL], "strides": [_CELL, _CELL]}
        filled = self._drawing.add("AveragePool", [pixels], "colour.filled", **cells)
        there = self._more_than(filled, "whole", _WHOLE, "there")
        beside = self.op("Sub", self.number("1", 1), there, "beside")
        deep = [self._deeper(beside, depth) for depth in _DEPTHS]
        middle = self._drawing.add("Sum", deep, "colour.middle")
        edge = self.op("Sub", there, deep[0], "along_edge")
        shape = self._drawing.weight("colour.flat", np.array([0, 1, across * across], np.int64))
        return self.op("Reshape", middle, shape, "middle.flat"), self.op("Reshape", edge, shape, "edge.flat")

    def _more_than(self, values: str, name: str, least: float, output: str) -> str:
        more = self.op("Greater", values, self.number(name, least), f"{output}.more")
        return self._drawing.add("Cast", [more], f"colour.{output}", to=_FLOAT)

    def _deeper(self, beside: str, depth: int) -> str:
        """1 where a cell is more than `depth` cells from what lies beside the picture."""
        pads = np.array([0, 0, depth, depth, 0, 0, depth, depth], np.int64)
        amount = self._drawing.weight(f"colour.pads{depth}", pads)
        padded = self._drawing.add("Pad", [beside, amount, self.number("1", 1)], f"colour.padded{depth}")
        sides = [2 * depth + 1] * 2
        near = self._drawing.add("MaxPool", [padded], f"colour.near{depth}", kernel_shape=sides, strides=[1, 1])
        return self.op("Sub", self.number("1", 1), near, f"deep{depth}")

    def shares(self, cells: str, across: int, mean: float, std: float) -> str:
        """How much of each colour each cell is: (batch, cells, colours)."""
        light = self.op("Mul", cells, self.number("std", std), "light")
        light = self.op("Add", light, self.number("mean", mean), "values")
        light = self._drawing.add("Clip", [light, self.number("0", 0), self.number("1", 1)], "colour.rgb")
        light = self.op("Pow", light, self.number("gamma", _GAMMA), "linear")
        shape = self._drawing.weight("colour.list", np.array([0, 3, across * across], np.int64))
        rows = self._drawing.add(
            "Transpose", [self.op("Reshape", light, shape, "cells.rgb")], "colour.rows", perm=[0, 2, 1]
        )
        cones = self.op("MatMul", rows, self.number("to_cones", np.transpose(_TO_CONES)), "cones")
        roots = self.op("Pow", cones, self.number("third", 1 / 3), "roots")
        examples, belongs = _examples()
        # The squared distance without the cell's own part, which the softmax removes.
        scale = np.diag([_LIGHTNESS, _CHROMA, _CHROMA])
        places = examples @ scale
        to_nearness = np.transpose(_TO_LAB) @ scale @ places.T * (2 / _BLUR)
        nearness = self.op("MatMul", roots, self.number("to_nearness", to_nearness), "products")
        far = self.number("far", (places**2).sum(axis=1) / _BLUR)
        nearness = self._drawing.add("Softmax", [self.op("Sub", nearness, far, "nearness")], "colour.parts", axis=2)
        return self.op("MatMul", nearness, self.number("belongs", belongs), "shares")

    def mean_of(self, shares: str, weights: str, name: str) -> str:
        """(batch, colours)"""
        total = self._drawing.add("ReduceSum", [weights, self.axis("last", 2)], f"colour.{name}.total", keepdims=1)
        total = self.op("Max", total, self.number("1", 1), f"{name}.most")
        mean = self.op("Div", self.op("MatMul", weights, shares, f"{name}.sum"), total, f"{name}.mean")
        return self.op("Squeeze", mean, self.axis("row", 1), f"{name}.shares")

    def joined(self, meaning: str, colours: str, share: float, output: str) -> None:
        """The unit vector of both; the colours together have the length `share` at most."""
        squares = self.op("Mul", colours, colours, "squares")
        length2 = self._drawing.add("ReduceSum", [squares, self.axis("numbers", 1)], "colour.length2", keepdims=1)
        length = self._drawing.add(
            "Sqrt", [self.op("Max", length2, self.number("1", 1), "length2.most")], "colour.length"
        )
        shortened = self.op("Mul", self.op("Div", colours, length, "bounded"), self.number("share", share), "part")
        squares = self.op("Mul", shortened, shortened, "part.squares")
        taken = self._drawing.add("ReduceSum", [squares, self.axis("numbers", 1)], "colour.taken", keepdims=1)
        rest = self._drawing.add("Sqrt", [self.op("Sub", self.number("1", 1), taken, "left")], "colour.rest")
        self._drawing.add("Concat", [self.op("Mul", meaning, rest, "meaning"), shortened], output, axis=1)

    def axis(self, name: str, axis: int) -> str:
        full = f"colour.axis.{name}"
        if full not in self._numbers:
            self._numbers.add(full)
            self._drawing.weight(full, np.array([axis], np.int64))
        return full


def _examples() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The examples in Oklab, and which colour each belongs to, as rows of 0 and 1."""
    values, belongs = [], []
    for name in COLOURS:
        for code in _EXAMPLES[name].split():
            values.append([int(code[at : at + 2], 16) / 255 for at in (0, 2, 4)])
            belongs.append([float(name == other) for other in COLOURS])
    cones = np.array(values) ** _GAMMA @ np.transpose(_TO_CONES)
    return np.cbrt(cones) @ np.transpose(_TO_LAB), np.array(belongs)
