"""Makes an int8 bundle, and keeps it only if it is faster and finds the same on real frames.

That depends on the processor: a file that is twice as fast on one is slower on another. So each tower is tried
separately, on this machine.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from models.bundle import (
    CALIBRATION,
    COLOURS,
    CONFIG,
    DETECTOR_FILES,
    PREPROCESS,
    TEXTUAL,
    TOKENIZER,
    VISUAL,
    Bundle,
    load_bundle,
)
from models.engines.canary import tokenizer_of
from models.engines.ort import OrtEngine
from models.making.sealing import new_folder, seal
from models.preprocess import Pictures, Preprocessor
from models.tokens import Ids
from proto.errors import Invalid, WatchwordError
from proto.types import Vectors

LEAST_COSINE = 0.995
LEAST_OVERLAP = 0.9
LEAST_GAIN = 1.1
"""Less is within measurement noise."""
LEAST_FRAMES = 40
"""Half calibrate, half judge. Among fewer than twenty the ten best would agree by chance."""
QUERIES = (
    "a person walking", "a person riding a bicycle", "a child playing", "a group of people", "somebody at the door",
    "a red car", "a white van", "a truck at the gate", "a bus in the street", "a motorcycle", "a dog running", "a cat",
    "a bird in a tree", "a butterfly", "an apple on the ground", "a rabbit", "green grass", "an empty yard", "night",
    "rain", "snow", "a building", "a face", "somebody talking",
)  # fmt: skip
_WAYS: tuple[tuple[Tower, Method], ...] = (
    ("image", "dynamic"),
    ("image", "products"),
    ("image", "static"),
    ("text", "dynamic"),
)
"""Texts are short, so measuring their scales at each call costs little; pictures are worth a calibration."""
_NONE = float("nan")
_BEST = 10
_ROUNDS = 7
_LEAST_ROUND_S = 0.05
_BATCH = 8
_MOST_BYTES, _MOST_PIXELS = 32 * 1024 * 1024, 50_000_000
_PRODUCTS = ["MatMul", "Gemm"]
"""The operators where a transformer spends its time. Quantized sums and norms lose most and gain least."""

Say = Callable[[str], None]
Tower = Literal["image", "text"]
Method = Literal["dynamic", "products", "static"]
"""dynamic: products only, scales measured at each call. products, static: scales from frames, for products or all."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One method of quantizing one tower, compared with the original."""

    tower: Tower
    method: Method
    megabytes: float
    was_megabytes: float
    item_ms: float
    was_item_ms: float
    least_cosine: float
    reason: str
    """Why it is rejected; empty when it may be kept."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was tried, and the result."""

    trials: list[Trial]
    overlap: float | None
    """Mean share of each query's ten best frames that stayed among its ten best. None when no tower passed."""
    tau: float | None
    """Mean Kendall tau of the order of all frames."""
    kept: Bundle | None
    reason: str
    """Why no bundle was kept; empty when one was."""


@dataclass(frozen=True, slots=True)
class _Sample:
    calibration: Pictures
    pictures: Pictures
    texts: tuple[Ids, Ids]


def quantize_bundle(bundle: Bundle, target: Path, frames: Sequence[bytes], *, threads: int, say: Say) -> Verdict:
    """Try an int8 bundle on encoded `frames` of real cameras; `target` exists afterwards only if it is kept."""
    if target.exists():
        raise Invalid(f"{target} is already there", todo="remove it, or choose another --name")
    sample = _sample(bundle, frames)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=target.parent) as scratch:
        was = OrtEngine(bundle.visual, bundle.textual, threads=threads)
        try:
            trials = list(_trials(bundle, sample, was, Path(scratch), threads, say))
            towers: dict[Tower, Trial] = {}
            for trial in trials:
                best = towers.get(trial.tower)
                if not trial.reason and (best is None or trial.item_ms < best.item_ms):
                    towers[trial.tower] = trial
            if not towers:
                return Verdict(trials, None, None, None, "no tower is both faster and true to itself in int8")
            visual = _file(Path(scratch), towers["image"]) if "image" in towers else bundle.visual
            textual = _file(Path(scratch), towers["text"]) if "text" in towers else bundle.textual
            overlap, tau = _agreement(was, OrtEngine(visual, textual, threads=threads), sample)
        finally:
            was.close()
        if overlap < LEAST_OVERLAP:
            return Verdict(trials, overlap, tau, None, f"it finds other frames than before (overlap@10 {overlap:.3f})")
        kept = _write(bundle, target, visual, textual, towers)
        return Verdict(trials, overlap, tau, kept, "")


def _sample(bundle: Bundle, frames: Sequence[bytes]) -> _Sample:
    if len(frames) < LEAST_FRAMES:
        raise Invalid(f"{len(frames)} frames cannot judge a model", todo=f"give clips with at least {LEAST_FRAMES}")
    prepare = Preprocessor(bundle.preprocess, max_bytes=_MOST_BYTES, max_pixels=_MOST_PIXELS)
    pictures = np.stack([prepare(frame) for frame in frames])
    tokenizer = tokenizer_of(bundle)
    return _Sample(pictures[::2], pictures[1::2], tokenizer.padded([tokenizer(text) for text in QUERIES]))


def _trials(bundle: Bundle, sample: _Sample, was: OrtEngine, scratch: Path, threads: int, say: Say) -> Iterator[Trial]:
    for tower, method in _WAYS:
        say(f"trying the {tower} tower in int8, {method}")
        before = bundle.visual if tower == "image" else bundle.textual
        after = scratch / f"{tower}-{method}.onnx"
        try:
            with _quiet():
                quantize_tower(before, after, method, sample.calibration)
            towers = (after, bundle.textual) if tower == "image" else (bundle.visual, after)
            now = OrtEngine(*towers, threads=threads)
        except Exception as error:  # every step of the quantizer raises errors of its own
            words = error.message if isinstance(error, WatchwordError) else f"{type(error).__name__}: {error}"
            yield Trial(tower, method, _NONE, _megabytes(before), _NONE, _NONE, _NONE, f"not possible ({words[:120]})")
            continue
        try:
            yield _tried(tower, method, was, now, sample, _megabytes(after), _megabytes(before))
        finally:
            now.close()


def _tried(
    tower: Tower,
    method: Method,
    was: OrtEngine,
    now: OrtEngine,
    sample: _Sample,
    megabytes: float,
    was_megabytes: float,
) -> Trial:
    if tower == "image":
        items = sample.pictures[:_BATCH]
        was_ms, now_ms = _alternated(lambda: was.embed_images(items), lambda: now.embed_images(items), len(items))
        before, after = _embed(was, sample.pictures), _embed(now, sample.pictures)
    else:
        one = (sample.texts[0][:1], sample.texts[1][:1])
        was_ms, now_ms = _alternated(lambda: was.embed_texts(*one), lambda: now.embed_texts(*one), 1)
        before, after = was.embed_texts(*sample.texts), now.embed_texts(*sample.texts)
    cosine = float((before * after).sum(axis=1).min())
    reason = ""
    if np.array_equal(before, after):
        reason = "nothing in it could be made int8"
    elif not cosine >= LEAST_COSINE:
        reason = f"other vectors (cosine {cosine:.4f})"
    elif was_ms < now_ms * LEAST_GAIN:
        reason = f"not faster here ({was_ms / now_ms:.2f} x)"
    return Trial(tower, method, megabytes, was_megabytes, now_ms, was_ms, cosine, reason)


def _alternated(first: Callable[[], object], second: Callable[[], object], items: int) -> tuple[float, float]:
    """Median milliseconds per item of both, run alternately and in both orders so that a busy moment affects both."""
    first()
    repeats = max(1, round(_LEAST_ROUND_S / _seconds(first, 1)))
    second()
    taken: dict[Callable[[], object], list[float]] = {first: [], second: []}
    for number in range(_ROUNDS):
        for call in (first, second) if number % 2 else (second, first):
            taken[call].append(1000 * _seconds(call, repeats) / (repeats * items))
    return statistics.median(taken[first]), statistics.median(taken[second])


def _seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def _embed(engine: OrtEngine, pictures: Pictures) -> Vectors:
    parts = [engine.embed_images(pictures[first : first + _BATCH]) for first in range(0, len(pictures), _BATCH)]
    return np.concatenate(parts)


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Passes the quantizer one picture at a time."""

    def __init__(self, name: str, pictures: Pictures) -> None:
        self._feeds = iter([{name: picture[None]} for picture in pictures])

    def get_next(self) -> Any:
        return next(self._feeds, None)


def quantize_tower(
    before: Path, after: Path, method: Method, calibration: Pictures, *, bits: Literal[7, 8] = 7
) -> None:
    """Write the tower `before` in int8 to `after`. `calibration` pictures give the static scales.

    A CPU without VNNI adds two products of an activation (0 to 255) and a weight in 16 bits. 2 * 255 * 64 fits, so
    7-bit weights give the same result on every CPU; 2 * 255 * 127 saturates. 8 bits are for measuring that.
    """
    if method == "dynamic":
        quantize_dynamic(
            before,
            after,
            op_types_to_quantize=_PRODUCTS,
            per_channel=True,
            reduce_range=bits == 7,
            weight_type=QuantType.QInt8,
        )
        return
    prepared = after.with_suffix(".prepared.onnx")
    quant_pre_process(before, prepared, skip_symbolic_shape=True)
    session = onnxruntime.InferenceSession(prepared, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    del session
    quantize_static(
        prepared,
        after,
        _Calibration(name, calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=_PRODUCTS if method == "products" else None,
        per_channel=True,
        reduce_range=bits == 7,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    prepared.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer, which logs advice to the root logger in the middle of our table."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


def _agreement(was: OrtEngine, now: OrtEngine, sample: _Sample) -> tuple[float, float]:
    """Overlap of the ten best and Kendall tau, with texts and frames as queries and both final towers."""
    try:
        before, after = _embed(was, sample.pictures), _embed(now, sample.pictures)
        asked, asks = was.embed_texts(*sample.texts), now.embed_texts(*sample.texts)
    finally:
        now.close()
    scores = np.concatenate([asked, before]) @ before.T, np.concatenate([asks, after]) @ after.T
    pairs = list(zip(*scores, strict=True))
    return statistics.mean(_overlap(*pair) for pair in pairs), statistics.mean(kendall_tau(*pair) for pair in pairs)


def _overlap(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return len(set(np.argsort(-left)[:_BEST]) & set(np.argsort(-right)[:_BEST])) / _BEST


def kendall_tau(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """How far two scorings agree on the order: 1 entirely, -1 reversed."""
    upper = np.triu_indices(len(left), 1)
    signs = [np.sign(scores[:, None] - scores[None, :])[upper] for scores in (left, right)]
    moved = float(np.sqrt(np.count_nonzero(signs[0]) * np.count_nonzero(signs[1])))
    return float(signs[0] @ signs[1]) / moved if moved else 1.0


def _write(bundle: Bundle, target: Path, visual: Path, textual: Path, towers: dict[Tower, Trial]) -> Bundle:
    with new_folder(target) as work:
        sources = {VISUAL: visual, TEXTUAL: textual}
        kept = {*DETECTOR_FILES, CALIBRATION, COLOURS} & bundle.manifest.files.keys()
        for path in (VISUAL, TEXTUAL, PREPROCESS, TOKENIZER, CONFIG, *sorted(kept)):
            (work / path).parent.mkdir(exist_ok=True)
            shutil.copyfile(sources.get(path, bundle.folder / path), work / path)
        how = ", ".join(f"{tower} tower {trial.method}" for tower, trial in towers.items())
        provenance = [
            *bundle.manifest.provenance,
            f"int8 by onnxruntime {onnxruntime.__version__}: {how}; from space {bundle.space.id}",
        ]
        seal(work, name=target.name, licence=bundle.licence, provenance=provenance)
    return load_bundle(target)


def _file(scratch: Path, trial: Trial) -> Path:
    return scratch / f"{trial.tower}-{trial.method}.onnx"


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
