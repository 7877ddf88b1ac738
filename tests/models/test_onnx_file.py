from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.engines.ort import OrtEngine
from models.onnx_file import outside_weights
from proto.errors import Broken


def inside(name: str = "weight") -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(4, np.float32), name)


def outside(name: str = "weight") -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    return tensor


def model(initializer: onnx.TensorProto, constant: onnx.TensorProto) -> onnx.ModelProto:
    """A graph with a weight of its own, and a constant inside a branch inside a node."""
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=constant)], "branch", [], [])
    node = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    return helper.make_model(helper.make_graph([node], "graph", [], [], [initializer]))


def test_a_model_with_all_its_weights_inside_passes() -> None:
    assert not outside_weights(model(inside(), inside()).SerializeToString())


@pytest.mark.parametrize(("initializer", "constant"), [(outside(), inside()), (inside(), outside())])
def test_a_weight_in_another_file_is_found(initializer: onnx.TensorProto, constant: onnx.TensorProto) -> None:
    assert outside_weights(model(initializer, constant).SerializeToString())


def test_a_second_graph_cannot_hide_a_weight() -> None:
    first, second = model(outside(), inside()), model(inside(), inside())

    assert outside_weights(first.SerializeToString() + second.SerializeToString())


def test_other_bytes_are_no_model() -> None:
    with pytest.raises(ValueError, match="not an ONNX model"):
        outside_weights(b"\xff\xff\xff")


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", model(outside(), inside()).SerializeToString()])
def test_the_engine_opens_no_such_model(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)

    with pytest.raises(Broken) as met:
        OrtEngine(file, file, threads=1)

    assert met.value.todo
