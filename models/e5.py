"""multilingual-e5-small as an ONNX graph, built from the 4-bit weights of `models/e5_file.py`.

The weights stay in four bits: matrices as ONNX Runtime's MatMulNBits, whose blocks are the file's own, and the table of
token vectors as bytes that are unpacked for the tokens of a text only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.e5_file import BLOCK, E5File, FourBit
from proto.types import Vectors

OPSET = 17
_IR_VERSION = 10
_RUNTIME = "com.microsoft"
_INT8_ACTIVATIONS = 4
"""MatMulNBits' accuracy level: activations in int8 with one scale a block, added in 32 bits on every CPU."""
_FAR = -10_000.0
"""What a masked token's attention is lowered by."""
_FORMAT = "watchword"


def e5_graph(file: E5File, centre: Vectors | None) -> onnx.ModelProto:
    """`input_ids` and `attention_mask` (batch, tokens) to `unit_embedding` (batch, width), checked.

    The vector is the mean of the tokens' last states, of unit length. `centre` is subtracted from it, and the rest is
    brought to unit length again; None leaves it as it is.
    """
    drawing = _Drawing(file)
    states = drawing.embedded()
    far = drawing.far()
    for layer in range(file.sizes.layers):
        states = drawing.layer(states, far, f"l{layer}")
    drawing.pooled(states, centre)
    shape = ["batch", "tokens"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("unit_embedding", TensorProto.FLOAT, ["batch", file.sizes.width])
    graph = helper.make_graph(drawing.nodes, "multilingual-e5-small", inputs, [output], drawing.weights)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_RUNTIME, 1)]
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opsets, producer_name=_FORMAT)
    onnx.checker.check_model(model)
    return model


class _Drawing:
    """The graph under construction."""

    def __init__(self, file: E5File) -> None:
        self._file = file
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._axes("first", 0)
        self._axes("second", 1)
        self._axes("last", -1)
        self._axes("middle", 1, 2)

    def embedded(self) -> str:
        """The tokens' vectors and positions, normalised."""
        packed = self._packed("emb.word")
        rows = len(self._file.vocabulary.pieces)
        blocks = packed.numbers.shape[1]
        self._weight("token.numbers", packed.numbers[:rows])
        self._weight("token.scales", packed.scales[:rows])
        self._weight("four", np.array(4, np.uint8))
        self._weight("eight", np.array(8, np.float32))
        self._weight("token.shape", np.array([0, 0, blocks * BLOCK], np.int64))
        both = self._add("Gather", ["token.numbers", "input_ids"], "token.both", axis=0)
        high = self._add("BitShift", [both, "four"], "token.high", direction="RIGHT")
        raised = self._add("BitShift", [both, "four"], "token.raised", direction="LEFT")
        low = self._add("BitShift", [raised, "four"], "token.low", direction="RIGHT")
        order = self._add("Concat", [low, high], "token.order", axis=-1)
        numbers = self._add("Sub", [self._floats(order), "eight"], "token.signed")
        scales = self._add("Gather", ["token.scales", "input_ids"], "token.scale", axis=0)
        column = self._add("Unsqueeze", [self._floats(scales), "last"], "token.column")
        scaled = self._add("Mul", [numbers, column], "token.scaled")
        tokens = self._add("Reshape", [scaled, "token.shape"], "token.vectors")
        # A single text has no second segment, so every token is of the first type.
        plain = self._file.plain
        self._weight("positions", plain["emb.pos"] + plain["emb.type"][0])
        size = self._add("Shape", ["input_ids"], "tokens.count", start=1, end=2)
        places = self._add("Slice", ["positions", "first", size, "first"], "positions.used")
        return self._normalised(self._add("Add", [tokens, places], "embedded"), "emb.ln")

    def far(self) -> str:
        """What is added to attention scores: nothing for a text's tokens, a large negative number for padding."""
        self._weight("one", np.array(1, np.float32))
        self._weight("far", np.array(_FAR, np.float32))
        absent = self._add("Sub", ["one", self._floats("attention_mask")], "mask.absent")
        lowered = self._add("Mul", [absent, "far"], "mask.lowered")
        return self._add("Unsqueeze", [lowered, "middle"], "mask.row")

    def layer(self, states: str, far: str, name: str) -> str:
        sizes = self._file.sizes
        heads = sizes.width // sizes.heads
        queries = np.float32(1 / np.sqrt(heads))
        if name == "l0":
            self._weight("heads.apart", np.array([0, 0, sizes.heads, heads], np.int64))
            self._weight("heads.joined", np.array([0, 0, sizes.width], np.int64))
            self._weight("heads.scale", np.array(queries, np.float32))
        parts = {}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            product = self._product(states, f"{name}.{part}")
            apart = self._add("Reshape", [product, "heads.apart"], f"{name}.{part}.apart")
            parts[part] = self._add("Transpose", [apart], f"{name}.{part}.heads", perm=order)
        scores = self._add("MatMul", [parts["q"], parts["k"]], f"{name}.scores")
        scaled = self._add("Mul", [scores, "heads.scale"], f"{name}.scaled")
        lowered = self._add("Add", [scaled, far], f"{name}.lowered")
        shares = self._add("Softmax", [lowered], f"{name}.shares", axis=-1)
        mixed = self._add("MatMul", [shares, parts["v"]], f"{name}.mixed")
        turned = self._add("Transpose", [mixed], f"{name}.turned", perm=[0, 2, 1, 3])
        joined = self._add("Reshape", [turned, "heads.joined"], f"{name}.joined")
        attended = self._product(joined, f"{name}.ao")
        states = self._normalised(self._add("Add", [attended, states], f"{name}.attended"), f"{name}.aln")
        inner = self._add("Gelu", [self._product(states, f"{name}.fi")], f"{name}.gelu", domain=_RUNTIME)
        outer = self._product(inner, f"{name}.fo")
        return self._normalised(self._add("Add", [outer, states], f"{name}.fed"), f"{name}.oln")

    def pooled(self, states: str, centre: Vectors | None) -> None:
        column = self._add("Unsqueeze", [self._floats("attention_mask"), "last"], "mask.column")
        masked = self._add("Mul", [states, column], "pooled.masked")
        # The result is normalised, so the sum serves as the mean.
        total = self._add("ReduceSum", [masked, "second"], "pooled.sum", keepdims=0)
        if centre is None:
            self._add("LpNormalization", [total], "unit_embedding", axis=1, p=2)
            return
        self._weight("centre", centre.astype(np.float32))
        unit = self._add("LpNormalization", [total], "pooled.unit", axis=1, p=2)
        rest = self._add("Sub", [unit, "centre"], "pooled.centred")
        self._add("LpNormalization", [rest], "unit_embedding", axis=1, p=2)

    def _product(self, states: str, name: str) -> str:
        packed = self._packed(f"{name}.w")
        rows, blocks, _ = packed.numbers.shape
        self._weight(f"{name}.numbers", _neighbours(packed))
        self._weight(f"{name}.scales", packed.scales.astype(np.float32).reshape(-1))
        product = self._add(
            "MatMulNBits",
            [states, f"{name}.numbers", f"{name}.scales"],
            f"{name}.product",
            domain=_RUNTIME,
            K=blocks * BLOCK,
            N=rows,
            bits=4,
            block_size=BLOCK,
            accuracy_level=_INT8_ACTIVATIONS,
        )
        self._weight(f"{name}.bias", self._file.plain[f"{name}.b"])
        return self._add("Add", [product, f"{name}.bias"], f"{name}.biased")

    def _packed(self, name: str) -> FourBit:
        return self._file.packed[name]

    def _normalised(self, states: str, name: str) -> str:
        plain = self._file.plain
        inputs = [
            states,
            self._weight(f"{name}.scale", plain[f"{name}.w"]),
            self._weight(f"{name}.bias", plain[f"{name}.b"]),
        ]
        return self._add("LayerNormalization", inputs, name, axis=-1, epsilon=self._file.sizes.epsilon)

    def _floats(self, name: str) -> str:
        output = f"{name}.floats"
        if not any(output in node.output for node in self.nodes):
            self._add("Cast", [name], output, to=TensorProto.FLOAT)
        return output

    def _axes(self, name: str, *axes: int) -> None:
        self._weight(name, np.array(axes, np.int64))

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _weight(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _neighbours(packed: FourBit) -> NDArray[np.uint8]:
    """The numbers as MatMulNBits wants them: byte i holds number 2i in its low half and 2i + 1 in its high half."""
    apart = np.concatenate([packed.numbers & 15, packed.numbers >> 4], axis=2)
    paired: NDArray[np.uint8] = apart[:, :, 0::2] | (apart[:, :, 1::2] << 4)
    return paired
