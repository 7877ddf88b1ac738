"""A detector of a few numbers: each 8 x 8 part of a picture is "light" or "dark"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import DETECTOR, DETECTOR_CONFIG, DETECTOR_WORDS
from models.detector import DetectorConfig
from tests.models.toy import DIMENSION

CONFIG: dict[str, Any] = {
    "kinds": ["light", "dark"],
    "side": 64,
    "multiple": 8,
    "channels": "RGB",
    "mean": [128.0] * 3,
    "std": [20.0] * 3,
    "strides": [8],
    "bins": 2,
    "threshold": 0.9,
    "overlap": 0.3,
    "margin": 0.1,
    "word_share": 1.0,
    "cost": 2.0,
}


def toy_config(**changes: Any) -> DetectorConfig:
    return DetectorConfig.model_validate_json(json.dumps(CONFIG | changes))


def add_toy_detector(folder: Path, **changes: Any) -> Path:
    """Put it into a folder of towers that is not sealed yet."""
    (folder / "detector").mkdir(exist_ok=True)
    onnx.save(detector(), folder / DETECTOR)
    (folder / DETECTOR_CONFIG).write_text(json.dumps(CONFIG | changes))
    (folder / DETECTOR_WORDS).write_bytes(np.eye(2, DIMENSION, dtype="<f4").tobytes())
    return folder


def detector() -> onnx.ModelProto:
    """The score of "light" is the sigmoid of the red; a box reaches one stride to each side."""
    weights: dict[str, np.ndarray] = {
        "signs": np.array([1, -1], np.float32).reshape(2, 1, 1, 1),
        "flat": np.array([0, 0, -1], np.int64),
        "red": np.array([0], np.int64),
        "end": np.array([1], np.int64),
        "channel": np.array([1], np.int64),
        "zero": np.array(0, np.float32),
        "near": np.array([0, 20] * 4, np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["image", "red", "end", "channel"], ["one"]),
        helper.make_node("AveragePool", ["one"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["pooled", "signs"], ["both"], kernel_shape=[1, 1]),
        helper.make_node("Reshape", ["both", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["logits"], perm=[0, 2, 1]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("ReduceMax", ["logits"], ["most"], axes=[2], keepdims=1),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "near"], ["sides"]),
    ]
    graph = helper.make_graph(
        nodes,
        "light-and-dark",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", "places", 2]),
            helper.make_tensor_value_info("sides", TensorProto.FLOAT, ["batch", "places", 8]),
        ],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
