"""Adds normalising to a visual tower, so that the device does it and receives a quarter of the bytes."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from models.preprocess import PreprocessConfig, normalising

_NAME = "watchword.pixels"


def taking_pixels(tower: bytes, config: PreprocessConfig) -> bytes:
    """The ONNX model with pixel values, (count, 3, height, width), as input."""
    model = onnx.load_from_string(tower)
    graph = model.graph
    picture = graph.input[0]
    inner = picture.name
    factor, less = (
        numpy_helper.from_array(values[None], f"{_NAME}.{number}") for number, values in enumerate(normalising(config))
    )
    graph.initializer.extend([factor, less])
    ahead = [
        helper.make_node("Cast", [_NAME], [f"{_NAME}.cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{_NAME}.cast", factor.name], [f"{_NAME}.scaled"]),
        helper.make_node("Sub", [f"{_NAME}.scaled", less.name], [inner]),
    ]
    nodes = [*ahead, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    picture.name = _NAME
    picture.type.tensor_type.elem_type = TensorProto.UINT8
    content: bytes = model.SerializeToString()
    return content
