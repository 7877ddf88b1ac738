from __future__ import annotations

import ctypes
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from models.bundle import NEEDED, VISUAL, Bundle
from models.engines.buckets import pieces_of
from models.engines.canary import check_canary
from models.engines.cuda_graphs import capture
from models.making.sealing import seal
from proto.errors import Broken, Transient
from tests.models.gpu import Gpu, install
from tests.models.toy import toy_bundle

pytestmark = pytest.mark.long


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return install(monkeypatch)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")


def _open(bundle: Bundle, cache: Path, **options: Any) -> Any:
    from models.engines.trt import TrtEngine

    return TrtEngine(
        bundle, **{"precision": "fp16", "buckets": (1, 4), "cache": cache, "say": lambda _: None, **options}
    )


def _pictures(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 3, 32, 32), np.uint8)


def test_a_batch_is_cut_into_buckets(gpu: Gpu) -> None:
    cut = [(piece.first, piece.count, piece.bucket) for piece in pieces_of(11, (1, 4))]
    assert cut == [(0, 4, 4), (4, 4, 4), (8, 3, 4)]
    assert [(piece.count, piece.bucket) for piece in pieces_of(5, (1, 4))] == [(4, 4), (1, 1)]
    assert pieces_of(0, (1, 4)) == []


def test_each_bucket_is_recorded_once_and_launched_as_a_graph(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    engine = _open(bundle, tmp_path)
    assert len(gpu.named("capture")) == 2 * 2 * 2  # towers, buckets, lanes
    gpu.calls.clear()
    engine.embed_images(_pictures(9))
    assert len(gpu.named("launch")) == 3
    assert gpu.named("capture") == []
    engine.close()


def test_the_next_piece_is_copied_in_while_one_is_computed(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    engine = _open(bundle, tmp_path)
    gpu.calls.clear()
    engine.embed_images(_pictures(8))
    steps = [call.split(" ")[0] for call in gpu.calls]
    copies = [place for place, step in enumerate(steps) if step == "htod"]
    assert copies[1] < steps.index("event_synchronize")
    streams = {name: {call.split(" ")[1] for call in gpu.named(name)} for name in ("htod", "launch", "dtoh")}
    assert streams["htod"].isdisjoint(streams["launch"])
    assert streams["launch"] == streams["dtoh"]
    engine.close()


def test_pictures_go_to_the_gpu_as_pixel_values(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    engine = _open(bundle, tmp_path)
    gpu.calls.clear()
    engine.embed_images(_pictures(4))
    assert [call.split(" ")[2] for call in gpu.named("htod")] == [str(4 * 3 * 32 * 32)]
    engine.close()


def test_work_waits_for_its_own_copy(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    engine = _open(bundle, tmp_path)
    gpu.calls.clear()
    engine.embed_images(_pictures(1))
    steps = [call.split(" ")[0] for call in gpu.calls]
    assert steps == ["htod", "record", "wait_for_event", "launch", "dtoh", "record", "event_synchronize"]
    engine.close()


def test_a_plan_is_built_once(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    _open(bundle, tmp_path).close()
    assert len(gpu.named("build")) == 2
    gpu.calls.clear()
    _open(bundle, tmp_path).close()
    assert gpu.named("build") == []


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"buckets": (1, 8)}], ids=["precision", "buckets"])
def test_another_setting_builds_another_plan(gpu: Gpu, bundle: Bundle, tmp_path: Path, change: dict[str, Any]) -> None:
    _open(bundle, tmp_path).close()
    gpu.calls.clear()
    _open(bundle, tmp_path, **change).close()
    assert len(gpu.named("build")) == 2


def test_another_gpu_version_or_space_builds_another_plan(
    gpu: Gpu, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt

    _open(bundle, tmp_path).close()
    gpu.name = "Another GPU"
    _open(bundle, tmp_path).close()
    monkeypatch.setattr(tensorrt, "__version__", "10.14.0")
    _open(bundle, tmp_path).close()
    _open(toy_bundle(tmp_path / "other", seed=5), tmp_path).close()
    assert len(gpu.named("build")) == 8


def test_a_damaged_plan_is_built_again(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    _open(bundle, tmp_path).close()
    for plan in tmp_path.glob("*.plan"):
        plan.write_bytes(b"damage")
    gpu.calls.clear()
    engine = _open(bundle, tmp_path)
    check_canary(engine, bundle)
    assert len(gpu.named("build")) == 2
    engine.close()


def test_layer_timings_are_kept_for_the_next_build(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    _open(bundle, tmp_path).close()
    assert gpu.named("timings") == ["timings 0", "timings 1"]


@pytest.mark.parametrize(("precision", "flags"), [("fp32", ""), ("fp16", " FP16"), ("bf16", " BF16")])
def test_the_precision_is_a_flag_of_the_build(
    gpu: Gpu, bundle: Bundle, tmp_path: Path, precision: str, flags: str
) -> None:
    _open(bundle, tmp_path, precision=precision).close()
    assert gpu.named("build") == [f"build{flags}"] * 2


def _int8(bundle: Bundle, folder: Path, **options: Any) -> Bundle:
    """The bundle with its picture tower quantised by onnxruntime."""
    for path in NEEDED:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.folder / path, folder / path)
    if options:
        spread = np.random.default_rng(1).normal(size=(20, 1, 3, 32, 32)).astype(np.float32)
        feeds = [{"image": picture} for picture in spread]
        quantize_static(bundle.visual, folder / VISUAL, Feeds(feeds), op_types_to_quantize=["Gemm"], **options)
    else:
        quantize_dynamic(bundle.visual, folder / VISUAL, op_types_to_quantize=["MatMul", "Gemm"])
    return seal(folder, name="int8", licence="none", provenance=["made in a test"])


class Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


SYMMETRIC = {
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
    "extra_options": {"ActivationSymmetric": True, "QuantizeBias": False},
}


@pytest.mark.parametrize(("precision", "flag"), [("int8", "FP16"), ("fp16", "FP16"), ("bf16", "BF16")])
def test_a_quantised_tower_is_built_as_int8_and_the_other_is_not(
    gpu: Gpu, bundle: Bundle, tmp_path: Path, precision: str, flag: str
) -> None:
    quantised = _int8(bundle, tmp_path / "int8", **SYMMETRIC)
    engine = _open(quantised, tmp_path, precision=precision)
    check_canary(engine, quantised)
    assert gpu.named("build") == [f"build {flag} INT8", f"build {flag}"]
    engine.close()


def test_int8_of_a_bundle_without_quantised_layers_says_what_to_use(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(Broken, match="holds no int8 layers") as met:
        _open(bundle, tmp_path, precision="int8")
    assert "statically quantised" in met.value.todo


@pytest.mark.parametrize("options", [{"activation_type": QuantType.QUInt8}, {}], ids=["asymmetric", "dynamic"])
def test_an_int8_bundle_that_only_onnxruntime_reads_is_broken(
    gpu: Gpu, bundle: Bundle, tmp_path: Path, options: dict[str, Any]
) -> None:
    quantised = _int8(bundle, tmp_path / "int8", **options)
    with pytest.raises(Broken, match=r"zero point|DynamicQuantizeLinear") as met:
        _open(quantised, tmp_path, precision="int8")
    assert "symmetric scales" in met.value.todo


def test_a_build_says_how_far_it_is(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    _open(bundle, tmp_path, say=said.append).close()
    assert "building the visual tower: Building Engine 50 %" in said
    assert not [line for line in said if "Tactics" in line]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("parse", "no importer for operator"),
        ("build", "cannot build"),
        ("mem_alloc", "memory is too small"),
        ("device", "invalid device"),
    ],
)
def test_what_cannot_be_opened_is_broken_and_gives_the_gpu_back(
    gpu: Gpu, bundle: Bundle, tmp_path: Path, fault: str, words: str
) -> None:
    gpu.fail = fault
    with pytest.raises(Broken, match=words):
        _open(bundle, tmp_path)
    assert len(gpu.named("push")) == len(gpu.named("pop"))


def test_a_fault_while_serving_is_transient(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    engine = _open(bundle, tmp_path)
    gpu.fail = "htod"
    with pytest.raises(Transient, match="illegal memory access"):
        engine.embed_images(_pictures(1))
    engine.close()


def test_closing_gives_all_memory_back(gpu: Gpu, bundle: Bundle, tmp_path: Path) -> None:
    engine = _open(bundle, tmp_path)
    assert gpu.memory
    engine.close()
    assert gpu.memory == {}
    assert len(gpu.named("graph_close")) == len(gpu.named("capture"))
    assert len(gpu.named("push")) == len(gpu.named("pop"))


def test_another_major_version_is_refused(
    gpu: Gpu, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt

    monkeypatch.setattr(tensorrt, "__version__", "11.4.0")
    with pytest.raises(Broken, match=r"11\.4\.0"):
        _open(bundle, tmp_path)


def test_every_part_of_the_key_is_in_the_plans_name(gpu: Gpu) -> None:
    from models.engines.trt import PlanKey

    key = PlanKey("0123456789abcdef", "visual", "NVIDIA H200", "fp16", (1, 4), 77, "10.13")
    others = [
        replace(key, space="f" * 16), replace(key, tower="textual"), replace(key, gpu="NVIDIA L4"),
        replace(key, precision="bf16"), replace(key, buckets=(1, 8)), replace(key, version="10.14"),
    ]  # fmt: skip
    assert len({other.file for other in others} | {key.file}) == len(others) + 1


class _Driver:
    """The driver's graph calls; `broken` names the one that fails."""

    def __init__(self, broken: str = "") -> None:
        self.calls: list[str] = []
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> int:
            self.calls.append(name)
            return 700 if name == self._broken else 0

        return call


def test_a_graph_is_recorded_launched_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    graph = capture(5, lambda: driver.calls.append("work"))
    graph.launch(5)
    graph.close()
    assert driver.calls == [
        "cuStreamBeginCapture_v2", "work", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch",
        "cuGraphExecDestroy", "cuGraphDestroy",
    ]  # fmt: skip


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_graph_that_cannot_be_recorded_names_the_call(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: _Driver(call))
    with pytest.raises(Transient, match="CUDA error 700"):
        capture(5, lambda: None)


def test_a_machine_without_the_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.engines.cuda_graphs._LIBRARY", "libnothing-of-that-name.so.1")
    with pytest.raises(Broken, match="no NVIDIA driver"):
        capture(5, lambda: None)
