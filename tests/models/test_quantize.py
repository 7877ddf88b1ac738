from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.bundle import VISUAL, Bundle
from models.engines.opening import open_engine
from models.making import quantize
from models.making.quantize import Verdict, kendall_tau, quantize_bundle
from models.making.verifying import verify
from proto.errors import Invalid
from tests.models.parts import frames, jpeg
from tests.models.toy import toy_bundle

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """Real frames, a second and more apart."""
    clips = ("bikes", "bigbuckbunny", "carphone_pristine")
    return [jpeg(pixels[::2, ::2]) for clip in clips for pixels in frames(clip, every=12)][:48]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return toy_bundle(tmp_path / "toy")


def _quantize(bundle: Bundle, pictures: list[bytes], target: Path) -> Verdict:
    return quantize_bundle(bundle, target, pictures, threads=1, say=lambda _: None)


def _paced(monkeypatch: pytest.MonkeyPatch, was_ms: float, now_ms: float) -> None:
    """The measured times, so that the verdict does not hang on how busy this machine is."""
    monkeypatch.setattr(quantize, "_alternated", lambda *_: (was_ms, now_ms))


def test_an_int8_bundle_that_is_faster_and_true_is_kept(
    bundle: Bundle, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _paced(monkeypatch, 10.0, 5.0)
    verdict = _quantize(bundle, pictures, tmp_path / "toy-int8")
    assert verdict.kept is not None, verdict
    assert verdict.overlap is not None
    assert verdict.overlap >= quantize.LEAST_OVERLAP
    assert verdict.kept.space != bundle.space
    assert "int8 by onnxruntime" in verdict.kept.manifest.provenance[-1]
    assert verify(verdict.kept.folder) == []
    operators = {node.op_type for node in onnx.load(verdict.kept.folder / VISUAL).graph.node}
    assert operators & {
        "MatMulInteger",
        "DynamicQuantizeMatMul",
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearMatMul",
    }
    open_engine(verdict.kept).close()


def test_what_is_not_faster_is_refused_and_leaves_nothing(
    bundle: Bundle, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _paced(monkeypatch, 10.0, 9.9)
    verdict = _quantize(bundle, pictures, tmp_path / "toy-int8")
    assert verdict.kept is None
    assert "not faster here (1.01 x)" in {trial.reason for trial in verdict.trials}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy"]


def test_what_gives_other_vectors_is_refused(
    bundle: Bundle, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _paced(monkeypatch, 10.0, 5.0)
    monkeypatch.setattr(quantize, "quantize_tower", _noisy)
    verdict = _quantize(bundle, pictures, tmp_path / "toy-int8")
    assert verdict.kept is None
    assert [trial.reason[:13] for trial in verdict.trials] == ["other vectors"] * 4


def test_what_finds_other_frames_is_refused(
    bundle: Bundle, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _paced(monkeypatch, 10.0, 5.0)
    monkeypatch.setattr(quantize, "LEAST_COSINE", -1.0)
    monkeypatch.setattr(quantize, "quantize_tower", _noisy)
    verdict = _quantize(bundle, pictures, tmp_path / "toy-int8")
    assert verdict.kept is None
    assert verdict.overlap is not None
    assert verdict.overlap < quantize.LEAST_OVERLAP
    assert "finds other frames" in verdict.reason
    assert not (tmp_path / "toy-int8").exists()


def test_a_tower_that_cannot_be_made_int8_says_why(
    bundle: Bundle, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no shape for tensor 7")

    monkeypatch.setattr(quantize, "quantize_tower", fails)
    verdict = _quantize(bundle, pictures, tmp_path / "toy-int8")
    assert {trial.reason for trial in verdict.trials} == {"not possible (RuntimeError: no shape for tensor 7)"}


def test_a_tower_without_anything_to_quantize_is_named(
    bundle: Bundle, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _paced(monkeypatch, 10.0, 5.0)
    verdict = _quantize(bundle, pictures, tmp_path / "toy-int8")
    text = next(trial for trial in verdict.trials if trial.tower == "text")
    assert text.reason == "nothing in it could be made int8"


def test_too_few_frames_are_no_judge(bundle: Bundle, pictures: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="39 frames"):
        _quantize(bundle, pictures[:39], tmp_path / "toy-int8")


def test_kendall_tau_tells_the_same_order_from_the_reverse() -> None:
    scores = np.array([0.9, 0.5, 0.1, 0.3], np.float32)
    assert kendall_tau(scores, scores * 2) == 1.0
    assert kendall_tau(scores, -scores) == -1.0
    assert kendall_tau(scores, np.array([0.9, 0.5, 0.3, 0.1], np.float32)) == pytest.approx(2 / 3)


def test_the_measured_times_are_of_the_calls_themselves() -> None:
    calls: list[str] = []
    matrix = np.random.default_rng(0).normal(size=(200, 200))

    def slow() -> None:
        calls.append("slow")
        for _ in range(50):
            matrix @ matrix

    first, second = quantize._alternated(slow, lambda: calls.append("quick"), 1)
    assert first > second
    assert {"slow", "quick"} == set(calls)


def _noisy(before: Path, after: Path, method: str, calibration: Any) -> None:
    """A quantizer that ruins the weights."""
    model = onnx.load(before)
    numbers = np.random.default_rng(9)
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.ndim == 2:
            weight.CopyFrom(numpy_helper.from_array(numbers.normal(size=values.shape).astype(np.float32), weight.name))
    model.graph.node.append(helper.make_node("Identity", [model.graph.output[0].name], [f"{method}.unused"]))
    onnx.save(model, after)
