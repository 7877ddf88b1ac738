"""Gives a tower that was published for a batch of one a free batch size.

The batch of one is fixed throughout such a graph. So the graph becomes the body of a Scan, which passes it one item
after another; the weights stay outside and exist once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.making.onnx_rules import fixed_batch
from proto.errors import Broken


def with_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, wrapped if needed so that it takes any number of items, with the same results."""
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    sizes = {fixed_batch(value) for value in inputs}
    if sizes == {None}:
        return model
    if sizes != {1}:
        raise Broken("the tower takes a fixed number of items at once", todo="use one that was exported for any number")
    nodes = copy.deepcopy(list(graph.node))
    for value in inputs:
        # The item's tensor inside must not share the name of the batch outside.
        _rename(nodes, value.name, f"{value.name}.one")
    items = [_typed(f"{value.name}.item", value, _sizes(value)[1:]) for value in inputs]
    body = helper.make_graph(
        [
            *(
                helper.make_node("Reshape", [f"{value.name}.item", f"{value.name}.shape"], [f"{value.name}.one"])
                for value in inputs
            ),
            *nodes,
            helper.make_node("Reshape", [graph.output[0].name, "row.shape"], ["row"]),
        ],
        "one_item",
        items,
        [_typed("row", graph.output[0], _sizes(graph.output[0])[1:])],
    )
    scan = helper.make_node(
        "Scan", [value.name for value in inputs], ["unit_vector"], body=body, num_scan_inputs=len(inputs)
    )
    shapes = [numpy_helper.from_array(np.array(_sizes(value), np.int64), f"{value.name}.shape") for value in inputs]
    shapes.append(numpy_helper.from_array(np.array([-1], np.int64), "row.shape"))
    around = helper.make_graph(
        [scan],
        graph.name or "tower",
        [_typed(value.name, value, ["batch", *_sizes(value)[1:]]) for value in inputs],
        [_typed("unit_vector", graph.output[0], ["batch", *_sizes(graph.output[0])[1:]])],
        [*graph.initializer, *shapes],
    )
    wrapped = helper.make_model(around, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(wrapped)
    return wrapped


def _typed(name: str, like: Any, sizes: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, like.type.tensor_type.elem_type, sizes)


def _sizes(value: Any) -> list[Any]:
    return [
        size.dim_param if size.HasField("dim_param") else size.dim_value for size in value.type.tensor_type.shape.dim
    ]


def _rename(nodes: Iterable[Any], name: str, other: str) -> None:
    for node in nodes:
        for place, given in enumerate(node.input):
            if given == name:
                node.input[place] = other
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g.node, name, other)
