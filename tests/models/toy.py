"""Towers of a few numbers, for tests that need a bundle and no real model."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import CONFIG, PREPROCESS, TEXTUAL, TOKENIZER, VISUAL, Bundle
from models.making.sealing import seal
from models.making.vocabulary import published_tokenizer
from tests.models.small import write_sentencepiece

SIDE, WINDOW, WORDS, DIMENSION = 32, 24, 200, 16
TEXT_CONFIG = {"context_length": WINDOW, "vocab_size": WORDS, "hf_tokenizer_name": "toy/words"}


def toy_folder(folder: Path, *, batch: int | str = "batch", seed: int = 0) -> Path:
    """A published model: towers, tokenizer and configuration, without a manifest."""
    for path in ("visual", "textual"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    onnx.save(visual_tower(batch, seed), folder / VISUAL)
    onnx.save(textual_tower(batch, seed), folder / TEXTUAL)
    write_sentencepiece(folder / "textual")
    preprocess = {"size": [SIDE, SIDE], "mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"}
    (folder / PREPROCESS).write_text(json.dumps(preprocess))
    (folder / CONFIG).write_text(json.dumps({"embed_dim": DIMENSION, "text_cfg": TEXT_CONFIG}))
    return folder


def toy_bundle(folder: Path, *, seed: int = 0, add: Callable[[Path], object] = lambda _: None) -> Bundle:
    """A sealed bundle of toy towers, and what `add` puts into its folder."""
    toy_folder(folder, seed=seed)
    settings = folder / "textual" / "tokenizer_config.json"
    (folder / TOKENIZER).write_text(_published((folder / TOKENIZER).read_bytes(), settings.read_text()))
    settings.unlink()
    add(folder)
    return seal(folder, name=folder.name, licence="none", provenance=["made in a test"])


@cache
def _published(tokenizer: bytes, settings: str) -> str:
    return str(published_tokenizer(tokenizer, json.loads(settings), TEXT_CONFIG).to_str(pretty=True))


def visual_tower(batch: int | str, seed: int, width: int = 48) -> onnx.ModelProto:
    numbers = np.random.default_rng(seed)
    weights = {"w": numbers.normal(size=(width, DIMENSION)), "b": numbers.normal(size=DIMENSION) * 0.01}
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["raw"]),
        helper.make_node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2),
    ]
    return _model(nodes, weights, "image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])


def textual_tower(batch: int | str, seed: int) -> onnx.ModelProto:
    weights = {"table": np.random.default_rng(seed + 1).normal(size=(WORDS, DIMENSION))}
    nodes = [
        helper.make_node("Gather", ["table", "text"], ["words"]),
        helper.make_node("ReduceMean", ["words"], ["raw"], axes=[1], keepdims=0),
        helper.make_node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2),
    ]
    return _model(nodes, weights, "text", TensorProto.INT32, [batch, WINDOW])


def _model(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], name: str, kind: int, shape: list[int | str]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [shape[0], DIMENSION])],
        [numpy_helper.from_array(values.astype(np.float32), key) for key, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
