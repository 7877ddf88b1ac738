"""The ONNX Runtime engine; the only module that imports onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from models.engine import Pictures
from models.onnx_file import outside_weights
from models.tokens import Ids
from proto.errors import Broken, Transient
from proto.types import Vectors

_PROVIDER = "CPUExecutionProvider"
_NUMBERS: dict[str, type[np.int64 | np.int32]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_TINY = 1e-12
_VENDOR_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    *(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


class OrtEngine:
    """Both towers on ONNX Runtime's CPU provider."""

    name = f"onnxruntime/{_PROVIDER}"
    # Measured on EfficientNet-Lite2: a picture costs the same in a batch of 4 and of 16, and texts wait less behind 4.
    best_batch = 4

    def __init__(self, visual: Path, textual: Path, *, threads: int) -> None:
        self._visual = _open(visual, threads)
        self._textual = _open(textual, threads)
        self._image_input = self._visual.get_inputs()[0].name
        text_inputs = self._textual.get_inputs()
        self._ids_input = text_inputs[0].name
        self._mask_input = text_inputs[1].name if len(text_inputs) > 1 else None
        self._ids_type = _NUMBERS.get(text_inputs[0].type, np.int64)

    def embed_images(self, pictures: Pictures) -> Vectors:
        return _run(self._visual, {self._image_input: pictures})

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        inputs: dict[str, NDArray[Any]] = {self._ids_input: ids.astype(self._ids_type, copy=False)}
        if self._mask_input:
            inputs[self._mask_input] = mask.astype(self._ids_type, copy=False)
        return _run(self._textual, inputs)

    def close(self) -> None:
        del self._visual, self._textual


def _open(model: Path, threads: int) -> Any:
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
        return ort.InferenceSession(content, options, providers=[_PROVIDER])
    except OSError as error:
        raise Broken(f"cannot read {model}: {error.strerror}", todo=todo) from error
    except _VENDOR_ERRORS as error:
        raise Broken(f"onnxruntime cannot open {model}: {error}", todo=todo) from error


def _run(session: Any, inputs: dict[str, NDArray[Any]]) -> Vectors:
    try:
        (vectors, *_) = session.run(None, inputs)
    except _VENDOR_ERRORS as error:
        raise Transient(f"onnxruntime failed: {error}", todo="the worker opens its engine again; try again") from error
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, _TINY)
    return unit
