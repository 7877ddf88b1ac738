"""The ONNX Runtime engine; the only module that imports onnxruntime."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from models.choices import Provider
from models.engine import Pictures
from models.onnx_file import outside_weights
from models.tokens import Ids
from proto.errors import Broken, Transient
from proto.types import Vectors

_PROVIDERS: dict[Provider, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_AUTO: tuple[Provider, ...] = ("cuda", "rocm", "cpu")
"""The others are asked for by name: TensorRT here takes minutes to build, and OpenVINO is not always the faster."""
_MOST_LANES = 4
_BATCH_A_LANE = 4
_GPU_BATCH = 64
_NUMBERS: dict[str, type[np.int64 | np.int32]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_TINY = 1e-12
_VENDOR_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    *(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


class OrtEngine:
    """Both towers on ONNX Runtime.

    On a CPU the pictures of a batch are shared out to lanes that run side by side on the same weights. That keeps the
    cores busier than many threads on one picture, which wait for each other at every layer.
    """

    def __init__(self, visual: Path, textual: Path, *, threads: int, provider: Provider = "cpu") -> None:
        chosen = _provider(provider)
        cores = threads or len(os.sched_getaffinity(0))
        on_cpu = chosen == _PROVIDERS["cpu"]
        self._lanes = min(cores, _MOST_LANES) if on_cpu else 1
        self.name = f"onnxruntime/{chosen}"
        # A lane is at its best with a few pictures; more only let callers wait.
        self.best_batch = self._lanes * _BATCH_A_LANE if on_cpu else _GPU_BATCH
        self.towers_apart = on_cpu
        self._visual = _open(visual, max(1, cores // self._lanes), chosen)
        self._textual = _open(textual, cores, chosen)
        self._pool = ThreadPoolExecutor(self._lanes, thread_name_prefix="lane")
        self._image_input = self._visual.get_inputs()[0].name
        text_inputs = self._textual.get_inputs()
        self._ids_input = text_inputs[0].name
        self._mask_input = text_inputs[1].name if len(text_inputs) > 1 else None
        self._ids_type = _NUMBERS.get(text_inputs[0].type, np.int64)

    def embed_images(self, pictures: Pictures) -> Vectors:
        shares = np.array_split(pictures, min(self._lanes, len(pictures)))
        return np.concatenate(list(self._pool.map(self._embed_share, shares)))

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        inputs: dict[str, NDArray[Any]] = {self._ids_input: ids.astype(self._ids_type, copy=False)}
        if self._mask_input:
            inputs[self._mask_input] = mask.astype(self._ids_type, copy=False)
        return _run(self._textual, inputs)

    def close(self) -> None:
        self._pool.shutdown()
        del self._visual, self._textual

    def _embed_share(self, pictures: Pictures) -> Vectors:
        return _run(self._visual, {self._image_input: pictures})


def _provider(name: Provider) -> str:
    """ONNX Runtime's own name of it; Broken when this build has none."""
    there = set(ort.get_available_providers())
    if name == "auto":
        name = next(known for known in _AUTO if _PROVIDERS[known] in there)
    if _PROVIDERS[name] not in there:
        raise Broken(
            f"this build of onnxruntime has no {_PROVIDERS[name]}",
            todo="install the onnxruntime package for it, or set encoder.provider=cpu",
        )
    return _PROVIDERS[name]


def _open(model: Path, threads: int, provider: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    # Idle threads that spin would take the cores from the database and the broker beside us.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    todo = "get the bundle again"
    try:
        content = model.read_bytes()
        if outside_weights(content):
            raise Broken(f"{model.name} keeps weights in other files", todo="use a bundle of single-file models")
        session = ort.InferenceSession(content, options, providers=[provider])
    except OSError as error:
        raise Broken(f"cannot read {model}: {error.strerror}", todo=todo) from error
    except _VENDOR_ERRORS as error:
        raise Broken(f"onnxruntime cannot open {model}: {error}", todo=todo) from error
    if provider not in session.get_providers():
        # It only warns, and computes on the CPU.
        raise Broken(f"onnxruntime cannot load its {provider}", todo="is the driver installed? or encoder.provider=cpu")
    return session


def _run(session: Any, inputs: dict[str, NDArray[Any]]) -> Vectors:
    try:
        (vectors, *_) = session.run(None, inputs)
    except _VENDOR_ERRORS as error:
        raise Transient(f"onnxruntime failed: {error}", todo="the worker opens its engine again; try again") from error
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, _TINY)
    return unit
