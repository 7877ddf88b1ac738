"""The multilingual Universal Sentence Encoder as an ONNX graph, built from the weights of `models/making/muse_file.py`.

Each token's vector goes through three branches, which look at 2, 3 and 5 neighbours; the sum over the tokens goes
through four dense layers. The table of token vectors stays in bytes: only a text's own tokens become floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.making.colours import COLOURS, text_colours
from models.making.muse_file import BRANCHES, DIMENSION, PARTS, WIDTH, Weights
from proto.types import Vectors

OPSET = 17
_IR_VERSION = 10


def muse_graph(weights: Weights, *, tokens: int, centre: Vectors | None) -> onnx.ModelProto:
    """`input_ids` and `attention_mask` (batch, tokens) to `unit_embedding` (batch, 512 + colours), checked.

    `tokens` is the size of the vocabulary; the ids from there on are colours that the text names (models/colours.py).
    `centre` is subtracted from the unit vector, and the rest is brought to unit length again; None leaves the vector as
    it is, without colours.
    """
    drawing = _Drawing(weights)
    vectors = drawing.embedded(weights.table[:tokens])
    text = drawing.pooled(vectors, drawing.branches(vectors))
    if centre is None:
        drawing.unit(drawing.dense(text), "unit_embedding")
    else:
        text_colours(
            drawing, "input_ids", drawing.centred(drawing.dense(text), centre), "unit_embedding", first_id=tokens
        )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    dimension = DIMENSION + (0 if centre is None else len(COLOURS))
    output = helper.make_tensor_value_info("unit_embedding", TensorProto.FLOAT, ["batch", dimension])
    graph = helper.make_graph(drawing.nodes, "universal-sentence-encoder", inputs, [output], drawing.weights)
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model)
    return model


class _Drawing:
    """The graph under construction."""

    def __init__(self, weights: Weights) -> None:
        self._source = weights
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.weight("axis.tokens", np.array([1], np.int64))
        self.weight("axis.last", np.array([2], np.int64))
        mask = self.add("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
        self.add("Unsqueeze", [mask, "axis.tokens"], "mask.row")
        self.add("Unsqueeze", [mask, "axis.last"], "mask.column")

    def embedded(self, table: NDArray[np.uint8]) -> str:
        """The tokens' vectors: (batch, tokens, 512)."""
        self.weight("table", table)
        self.weight("parts", np.array(PARTS, np.int64))
        self.weight("scales", self._source.scale[:, None])
        self.weight("offsets", self._source.offset[:, None])
        # A colour's token has no vector of its own, and the mask leaves it out.
        known = self.add("Min", ["input_ids", self.weight("last", np.array(len(table) - 1, np.int64))], "known")
        part = self.add("Mod", [known, "parts"], "part")
        numbers = self.add("Gather", ["table", known], "numbers", axis=0)
        scaled = self.add(
            "Mul",
            [
                self.add("Cast", [numbers], "numbers.floats", to=TensorProto.FLOAT),
                self.add("Gather", ["scales", part], "scale", axis=0),
            ],
            "scaled",
        )
        return self.add("Add", [scaled, self.add("Gather", ["offsets", part], "offset", axis=0)], "vectors")

    def branches(self, vectors: str) -> list[str]:
        """What each branch says of each token: (batch, tokens, 256)."""
        arrays = self._source.arrays

        def joined(name: str) -> NDArray[np.float32]:
            return np.concatenate([arrays[f"{name}{tokens}"] for tokens in BRANCHES], axis=-1)

        product = self._product(vectors, "projection", joined("proj"))
        biased = self.add("Add", [product, self.weight("projection.bias", joined("proj_b"))], "projected")
        # One normalisation over the three branches together.
        normal = self._normalised(biased, "projected.normal", joined("ln_g"), joined("ln_b"))
        turned = self.add("Transpose", [normal], "turned", perm=[0, 2, 1])
        apart = [f"branch{tokens}" for tokens in BRANCHES]
        self.weight("branch.sizes", np.array([WIDTH] * len(BRANCHES), np.int64))
        self.nodes.append(helper.make_node("Split", [turned, "branch.sizes"], apart, name="branches", axis=1))
        return [self._branch(f"branch{tokens}", tokens, before) for tokens, before in BRANCHES.items()]

    def _branch(self, states: str, tokens: int, before: int) -> str:
        for step in (1, 2):
            name = f"branch{tokens}.{step}"
            # What stands beyond a text's end is zero, as in a batch of one.
            masked = self.add("Mul", [states, "mask.row"], f"{name}.masked")
            kernel = self._source.arrays[f"w{step}_{tokens}"].reshape(tokens, WIDTH, WIDTH).transpose(2, 1, 0)
            seen = self.add(
                "Conv",
                [
                    masked,
                    self.weight(f"{name}.kernel", kernel),
                    self.weight(f"{name}.bias", self._source.arrays[f"b{step}_{tokens}"]),
                ],
                f"{name}.seen",
                kernel_shape=[tokens],
                pads=[before, tokens - 1 - before],
            )
            states = self.add("Add", [self.add("Relu", [seen], f"{name}.relu"), masked], f"{name}.sum")
        return self.add("Transpose", [states], f"branch{tokens}.turned", perm=[0, 2, 1])

    def pooled(self, vectors: str, branches: list[str]) -> str:
        """The sum over the tokens, divided by the square root of their number: (batch, 512)."""
        arrays = self._source.arrays
        features = self.add("Concat", [vectors, *branches], "features", axis=2)
        normal = self._normalised(features, "features.normal", arrays["ln_g"], arrays["ln_b"])
        # The projection is linear, so that it is done once for the sum.
        masked = self.add("Mul", [normal, "mask.column"], "features.masked")
        total = self.add("ReduceSum", [masked, "axis.tokens"], "features.sum", keepdims=0)
        count = self.add("ReduceSum", ["mask", "axis.tokens"], "count", keepdims=1)
        bias = self.add("Mul", [count, self.weight("text.bias", arrays["cnn_b"])], "text.biases")
        text = self.add("Add", [self._product(total, "text.projection", arrays["cnn_W"]), bias], "text.sum")
        return self.add("Div", [text, self.add("Sqrt", [count], "count.root")], "text")

    def dense(self, text: str) -> str:
        arrays = self._source.arrays
        first = self.add("Relu", [self._product(text, "dense.d0", arrays["d0"])], "dense.0")
        second = self._sum(text, "p1", first, "d1", "dense.1.sum")
        second = self.add("Relu", [second], "dense.1")
        third = self.add("Relu", [self._product(second, "dense.d2", arrays["d2"])], "dense.2")
        return self.add("Tanh", [self._sum(second, "p3", third, "d3", "dense.3.sum")], "dense.3")

    def _sum(self, one: str, left: str, other: str, right: str, output: str) -> str:
        arrays = self._source.arrays
        products = [
            self._product(one, f"dense.{left}", arrays[left]),
            self._product(other, f"dense.{right}", arrays[right]),
        ]
        return self.add("Add", products, output)

    def centred(self, text: str, centre: Vectors) -> str:
        unit = self.unit(text, "unit")
        rest = self.add("Sub", [unit, self.weight("centre", centre.astype(np.float32))], "centred")
        return self.unit(rest, "meaning")

    def unit(self, text: str, output: str) -> str:
        return self.add("LpNormalization", [text], output, axis=1, p=2)

    def _product(self, source: str, name: str, matrix: NDArray[np.float32]) -> str:
        return self.add("MatMul", [source, self.weight(f"{name}.matrix", matrix)], name)

    def _normalised(self, source: str, name: str, scale: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        inputs = [source, self.weight(f"{name}.scale", scale), self.weight(f"{name}.bias", bias)]
        return self.add("LayerNormalization", inputs, name, axis=-1, epsilon=self._source.epsilon)

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name
