"""Does an int8 tower give the same vectors on a CPU without VNNI? `python -m loadtests.int8_cpus [--bundle FOLDER]`.

Quantizes a small picture tower with every method of `models/making/quantize.py`, with 7-bit weights, as in bundles, and
with 8-bit ones. Then it compares the vectors of this CPU with those of an emulated one that has AVX2 but neither
AVX-512 nor VNNI. The goal is a cosine of 0.999 with 7 bits. The cosine with the fp32 tower, on this CPU, is printed
too.

The small tower has uniform weights and gets bright pictures, so that many weights and activations are large, which is
hard for 16-bit sums. `--bundle` uses the bundle's own picture tower, which takes minutes. Needs `qemu-x86_64` from
Debian's qemu-user.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from loadtests.encoder_parts import frames, reader, table
from models.bundle import Bundle, load_bundle
from models.engines.ort import OrtEngine
from models.making.quantize import Method, quantize_tower
from models.preprocess import Pictures
from proto.types import Vectors

GOAL = 0.999
_SIDE, _CHANNELS, _DIMENSION = 32, (16, 32), 64
_CALIBRATION, _COMPARED = 24, 8
_FEATURES = ("AVX2", "AVX512F", "AVX512VNNI")
_QEMU = "qemu-x86_64"
_FP32, _EIGHT = "fp32", "8 bits"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle's folder; default: a small tower")
    parser.add_argument("--compared", type=int, default=_COMPARED, help="pictures")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)  # the quantizer's advice
    if chosen.answer:
        _answer(chosen.answer)
        return
    if not shutil.which(_QEMU):
        sys.exit(f"{_QEMU} is not there, so nothing was compared: apt-get install qemu-user")
    with tempfile.TemporaryDirectory() as folder:
        worst = _compare(Path(folder), load_bundle(chosen.bundle) if chosen.bundle else None, chosen.compared)
    if worst < GOAL:
        sys.exit(f"the vectors depend on the CPU: cosine {worst:.4f}, and {GOAL} is the goal")


def _compare(folder: Path, bundle: Bundle | None, count: int) -> float:
    """The smallest cosine between the CPUs, over the towers with 7-bit weights."""
    pictures = _make(folder, bundle, count)
    np.save(folder / "pictures.npy", pictures)
    here = _answers(folder, [])
    there = _answers(folder, [_QEMU, "-cpu", "max"])
    print(f"{bundle.name if bundle else 'a small tower'}, {count} pictures")
    table([("this CPU", " ".join(sorted(here[0]))), ("emulated", " ".join(sorted(there[0])))])
    if {"AVX512F", "AVX512VNNI"} & there[0]:
        sys.exit("the emulated CPU has AVX-512 or VNNI, so this compares nothing")
    cosines: dict[str, float] = {}
    for name in sorted(here[1]):
        cosines[name] = _least(here[1][name], there[1][name])
        true = _least(here[1][name], here[1][_FP32])
        table([(f"{name:<16}", f"between CPUs {cosines[name]:.4f}, with fp32 {true:.4f}")])
    return min(cosine for name, cosine in cosines.items() if _EIGHT not in name)


def _make(folder: Path, bundle: Bundle | None, count: int) -> Pictures:
    """Write the towers to `folder`; returns pictures to compare them on."""
    if bundle:
        read = reader(bundle)
        pictures = np.stack([read(jpeg) for jpeg in frames(_CALIBRATION + count, bundle.image_side)])
        shutil.copyfile(bundle.visual, folder / f"{_FP32}.onnx")
    else:
        pictures = np.random.default_rng(1).uniform(0.5, 1, (_CALIBRATION + count, 3, _SIDE, _SIDE)).astype(np.float32)
        onnx.save(_small_tower(), folder / f"{_FP32}.onnx")
    for method in get_args(Method):
        quantize_tower(folder / f"{_FP32}.onnx", folder / f"{method}.onnx", method, pictures[count:])
        quantize_tower(folder / f"{_FP32}.onnx", folder / f"{method}, {_EIGHT}.onnx", method, pictures[count:], bits=8)
    found: Pictures = pictures[:count]
    return found


def _small_tower() -> onnx.ModelProto:
    numbers = np.random.default_rng(0)
    flat = _CHANNELS[1] * (_SIDE // 4) ** 2
    shapes = {
        "c1": (_CHANNELS[0], 3, 3, 3), "c2": (_CHANNELS[1], _CHANNELS[0], 3, 3),
        "w1": (flat, _DIMENSION), "w2": (_DIMENSION, _DIMENSION),
    }  # fmt: skip
    weights = {name: numbers.uniform(-1, 1, shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    weights |= {f"b{number}": np.full(count, 4.0) for number, count in enumerate(_CHANNELS, start=1)}
    weights |= {"zero": np.zeros(()), "six": np.full((), 6.0)}
    conv: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["image", "c1", "b1"], ["one"], **conv),
        helper.make_node("Clip", ["one", "zero", "six"], ["one.clipped"]),
        helper.make_node("Conv", ["one.clipped", "c2", "b2"], ["two"], **conv),
        helper.make_node("Clip", ["two", "zero", "six"], ["two.clipped"]),
        helper.make_node("Flatten", ["two.clipped"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w1"], ["three"]),
        helper.make_node("Relu", ["three"], ["three.positive"]),
        helper.make_node("MatMul", ["three.positive", "w2"], ["raw"]),
        helper.make_node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", _DIMENSION])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _answers(folder: Path, emulator: list[str]) -> tuple[set[str], dict[str, Vectors]]:
    """The CPU's features, and the vectors by the names of tower and engine."""
    command = [*emulator, sys.executable, "-m", "loadtests.int8_cpus", "--answer", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed\n{done.stderr.decode()[-2000:]}")
    with np.load(folder / "answers.npz") as found:
        return set(done.stdout.decode().split()), dict(found)


def _answer(folder: Path) -> None:
    pictures = np.load(folder / "pictures.npy")
    found: dict[str, Vectors] = {}
    for tower in sorted(folder.glob("*.onnx")):
        engine = OrtEngine(tower, tower, threads=1)
        found[tower.stem] = engine.embed_images(pictures)
        engine.close()
    np.savez(folder / "answers.npz", **found)  # type: ignore[arg-type]
    # Ask the processor itself: under the emulator /proc/cpuinfo is the host's.
    features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    print(" ".join(name for name in _FEATURES if features.get(name)))


def _least(left: Vectors, right: Vectors) -> float:
    return float((left * right).sum(axis=1).min())


if __name__ == "__main__":
    main()
