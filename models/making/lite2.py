"""EfficientNet-Lite2 as an ONNX graph that returns a vector in a text model's space, built from its checkpoint.

The network gives 1,000 class probabilities, softened, because it is too sure of its first guess. The twenty largest
weight the vectors of their class names; the sum, scaled to unit length, is the picture's vector. It lies in the space
of the text model that embedded the names. The picture's colours follow it (models/making/colours.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.making.colours import COLOURS, picture_colours
from proto.types import Vectors

SIDE = 260
"""Side in pixels of the square pictures that the network was trained on."""
MEAN = 127 / 255
STD = 128 / 255
"""(x - 127) / 128 for pixels of 0 to 255, written for pixels of 0 to 1."""

OPSET = 17
_IR_VERSION = 10
_CLASSES_KEPT = 20
_TEMPERATURE = 2.0
"""By what the class scores are divided: found with `loadtests/languages.py`."""
_NORM_EPSILON = 1e-3
_BLOCKS = 21
_STRIDED_BLOCKS = (1, 4, 7, 15)
"""The first block of each stage that halves the picture."""

Tensors = Mapping[str, NDArray[Any]]


def lite2_graph(tensors: Tensors, class_vectors: Vectors) -> onnx.ModelProto:
    """`image` (batch, 3, 260, 260) to `embedding` (batch, dimension + colours), checked."""
    drawing = _Drawing()
    _probabilities(drawing, tensors)
    _mixture(drawing, class_vectors)
    picture_colours(drawing, "image", "meaning", "embedding", side=SIDE, mean=MEAN, std=STD)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    embedding = helper.make_tensor_value_info(
        "embedding", TensorProto.FLOAT, ["batch", class_vectors.shape[1] + len(COLOURS)]
    )
    graph = helper.make_graph(drawing.nodes, "efficientnet-lite2-words", [image], [embedding], drawing.weights)
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model, full_check=True)
    return model


class _Drawing:
    """A graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _probabilities(drawing: _Drawing, tensors: Tensors) -> None:
    drawing.weight("zero", np.array(0, np.float32))
    drawing.weight("six", np.array(6, np.float32))
    network = _Network(drawing, tensors)
    now = network.conv("image", "_conv_stem", "_bn0", stride=2, clip=True)
    for number in range(_BLOCKS):
        now = network.block(now, f"_blocks.{number}", stride=2 if number in _STRIDED_BLOCKS else 1)
    now = network.conv(now, "_conv_head", "_bn1", stride=1, clip=True)
    now = drawing.add("GlobalAveragePool", [now], "pooled")
    now = drawing.add("Flatten", [now], "features", axis=1)
    weight = drawing.weight("fc.weight", tensors["_fc.weight"])
    bias = drawing.weight("fc.bias", tensors["_fc.bias"])
    drawing.add("Gemm", [now, weight, bias], "logits", transB=1)
    drawing.weight("temperature", np.array(_TEMPERATURE, np.float32))
    drawing.add("Div", ["logits", "temperature"], "softened")
    drawing.add("Softmax", ["softened"], "probabilities", axis=1)


class _Network:
    """Adds the network's parts to the graph, with each batch norm folded into the convolution before it."""

    def __init__(self, drawing: _Drawing, tensors: Tensors) -> None:
        self._drawing = drawing
        self._tensors = tensors
        self._side = SIDE

    def conv(self, source: str, name: str, norm: str, *, stride: int, clip: bool) -> str:
        weight = self._tensors[f"{name}.weight"]
        gamma, beta, mean, variance = (
            self._tensors[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + _NORM_EPSILON)
        folded = (weight * scale[:, None, None, None]).astype(np.float32)
        kernel = folded.shape[2]
        before, after = self._padding(kernel, stride)
        output = self._drawing.add(
            "Conv",
            [
                source,
                self._drawing.weight(f"{name}.weight", folded),
                self._drawing.weight(f"{name}.bias", (beta - mean * scale).astype(np.float32)),
            ],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=folded.shape[0] if folded.shape[1] == 1 else 1,
        )
        return self._drawing.add("Clip", [output, "zero", "six"], f"{name}.clipped") if clip else output

    def block(self, source: str, name: str, *, stride: int) -> str:
        now = source
        if f"{name}._expand_conv.weight" in self._tensors:
            now = self.conv(now, f"{name}._expand_conv", f"{name}._bn0", stride=1, clip=True)
        now = self.conv(now, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, clip=True)
        now = self.conv(now, f"{name}._project_conv", f"{name}._bn2", stride=1, clip=False)
        first = self._tensors.get(f"{name}._expand_conv.weight", self._tensors[f"{name}._depthwise_conv.weight"])
        inputs = first.shape[1] if f"{name}._expand_conv.weight" in self._tensors else first.shape[0]
        if stride == 1 and inputs == self._tensors[f"{name}._project_conv.weight"].shape[0]:
            now = self._drawing.add("Add", [now, source], f"{name}.sum")
        return now

    def _padding(self, kernel: int, stride: int) -> tuple[int, int]:
        """TensorFlow's SAME padding: the odd pixel goes at the end. Also updates the side for the next part."""
        side, self._side = self._side, -(-self._side // stride)
        whole = max((self._side - 1) * stride + kernel - side, 0)
        return whole // 2, whole - whole // 2


def _mixture(drawing: _Drawing, class_vectors: Vectors) -> None:
    drawing.weight("class_vectors", class_vectors)
    drawing.weight("kept", np.array([_CLASSES_KEPT], np.int64))
    drawing.weight("axis", np.array([1], np.int64))
    drawing.nodes.append(helper.make_node("TopK", ["probabilities", "kept"], ["weights", "classes"], name="best"))
    drawing.add("Gather", ["class_vectors", "classes"], "vectors", axis=0)
    drawing.add("Unsqueeze", ["weights", "axis"], "row")
    drawing.add("MatMul", ["row", "vectors"], "sum")
    drawing.add("Squeeze", ["sum", "axis"], "mixture")
    drawing.add("LpNormalization", ["mixture"], "meaning", axis=1, p=2)
