"""MiniLM with its pooling inside the graph: tokens in, one unit vector per text out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIMENSION = 384


def pooled_minilm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Maps `input_ids` and `attention_mask` (batch, tokens) to `unit_embedding` (batch, 384): mean of unit length."""
    graph = model.graph
    # A single text has no second segment, so every token type is zero.
    kept = [value for value in graph.input if value.name != "token_type_ids"]
    types = helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"], name="token_types")
    del graph.input[:]
    graph.input.extend(kept)
    graph.node.insert(0, types)
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "pooling.last"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "pooling.tokens"))
    graph.node.extend(
        [
            helper.make_node("Cast", ["attention_mask"], ["pooling.mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["pooling.mask", "pooling.last"], ["pooling.column"]),
            helper.make_node("Mul", ["last_hidden_state", "pooling.column"], ["pooling.masked"]),
            # The result is normalised, so the sum serves as the mean.
            helper.make_node("ReduceSum", ["pooling.masked", "pooling.tokens"], ["pooling.sum"], keepdims=0),
            helper.make_node("LpNormalization", ["pooling.sum"], ["unit_embedding"], axis=1, p=2),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("unit_embedding", TensorProto.FLOAT, ["batch", DIMENSION]))
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model
