"""int8 towers mean the same on a CPU with VNNI, which adds products in 32 bits, and on one that adds two in 16."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from models.engines.ort import OrtEngine
from models.making.quantize import Method, quantize_tower
from models.preprocess import Pictures
from tests.models.toy import SIDE, textual_tower, visual_tower

METHODS: tuple[Method, ...] = get_args(Method)


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    onnx.save(visual_tower("batch", seed=0), tmp_path / "visual.onnx")
    onnx.save(textual_tower("batch", seed=0), tmp_path / "textual.onnx")
    return tmp_path / "visual.onnx"


@pytest.fixture
def bright() -> Pictures:
    return np.random.default_rng(1).uniform(0.5, 1, (16, 3, SIDE, SIDE)).astype(np.float32)


def _int8(tower: Path, method: Method, calibration: Pictures, **options: Any) -> Path:
    made = tower.with_name(f"{method}.onnx")
    quantize_tower(tower, made, method, calibration, **options)
    return made


def _weights(tower: Path) -> list[NDArray[np.int8]]:
    """Its matrices, (inputs, outputs)."""
    values = [numpy_helper.to_array(weight) for weight in onnx.load(tower).graph.initializer]
    return [value for value in values if value.dtype == np.int8 and value.ndim == 2]


def _product(activations: NDArray[np.uint8], weights: NDArray[np.int8], *, in_16_bits: bool) -> NDArray[np.int64]:
    """u8 by s8. In 16 bits, as without VNNI: two neighbours are added, and what does not fit is cut to what does."""
    products = activations.astype(np.int64)[:, None] * weights.astype(np.int64)
    pairs = products.reshape(-1, 2, weights.shape[1]).sum(axis=1)
    whole: NDArray[np.int64] = (np.clip(pairs, -(2**15), 2**15 - 1) if in_16_bits else pairs).sum(axis=0)
    return whole


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_of_an_int8_tower_fit_into_sums_of_16_bits_with_the_brightest_picture(
    tower: Path, bright: Pictures, method: Method
) -> None:
    (weights,) = _weights(_int8(tower, method, bright))
    white = np.full(weights.shape[0], 255, np.uint8)
    assert np.abs(weights.astype(int)).max() == 64, "all of the 7 bits is used, and no more"
    assert (_product(white, weights, in_16_bits=True) == _product(white, weights, in_16_bits=False)).all()


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_8_bits_do_not_fit(tower: Path, bright: Pictures, method: Method) -> None:
    (weights,) = _weights(_int8(tower, method, bright, bits=8))
    white = np.full(weights.shape[0], 255, np.uint8)
    cut, whole = _product(white, weights, in_16_bits=True), _product(white, weights, in_16_bits=False)
    assert np.abs(cut - whole).max() > 2**15


@pytest.mark.parametrize("method", METHODS)
def test_an_int8_tower_gives_the_vectors_of_the_fp32_tower_on_this_cpu_whatever_it_is(
    tower: Path, bright: Pictures, method: Method
) -> None:
    vectors = []
    for each in (tower, _int8(tower, method, bright)):
        engine = OrtEngine(each, tower.with_name("textual.onnx"), threads=1)
        vectors.append(engine.embed_images(bright))
        engine.close()
    assert (vectors[0] * vectors[1]).sum(axis=1).min() > 0.999
