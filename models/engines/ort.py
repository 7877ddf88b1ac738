"""The ONNX Runtime engine; the only module that imports onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from models.choices import Provider
from models.detector import Detector, DetectorPicture, Found, objects_of
from models.engines.buckets import buckets, pieces_of
from models.engines.engine import Abilities, Engine
from models.onnx_file import outside_weights
from models.preprocess import Pictures, PreprocessConfig
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
"""The others must be named: TensorRT here takes minutes to build, and OpenVINO is not always faster."""
_NUMBERED = {_PROVIDERS[name] for name in ("tensorrt", "cuda", "rocm")}
"""Providers that take a GPU number."""
_MEMORY = {_PROVIDERS[name]: "cuda" for name in ("tensorrt", "cuda")}
"""ONNX Runtime's name of the device memory, for providers that have their own."""
_MOST_LANES = 4
_BATCH_A_LANE = 4
_GPU_BATCH = 64
_NUMBERS: dict[str, type[np.int64 | np.int32]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_TINY = 1e-12
_AGAIN = "the worker opens its engine again; try again"
_VENDOR_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    *(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)

Inputs = TypeVar("Inputs")


class OrtEngine(Engine):
    """Both towers on ONNX Runtime.

    On a CPU, lanes that share the weights run parts of a batch in parallel. That keeps the cores busier than many
    threads on one picture, which wait for each other at every layer. On a GPU the pictures are copied to fixed places
    as pixel values, and normalised there.
    """

    def __init__(
        self,
        visual: Path,
        textual: Path,
        *,
        threads: int,
        provider: Provider = "cpu",
        device: int = 0,
        preprocess: PreprocessConfig | None = None,
        fixed: bool | None = None,
    ) -> None:
        """`threads` 0 means one per core; `device` is the GPU's number; `preprocess` is needed to normalise there.
        `fixed` is whether pictures have fixed places; by default the provider decides."""
        chosen = _provider(provider)
        cores = threads or len(os.sched_getaffinity(0))
        on_cpu = chosen == _PROVIDERS["cpu"]
        if fixed is None:
            fixed = chosen in _MEMORY
        self._lanes = min(cores, _MOST_LANES) if on_cpu and not fixed else 1
        self.name = f"onnxruntime/{chosen}"
        # A lane needs only a few pictures; more would only make callers wait.
        self.best_batch = self._lanes * _BATCH_A_LANE if on_cpu else _GPU_BATCH
        self.abilities = Abilities(takes_pixels=fixed and preprocess is not None, texts_apart=on_cpu)
        self._visual = _open(
            visual, max(1, cores // self._lanes), chosen, device, preprocess if self.abilities.takes_pixels else None
        )
        self._textual = _open(textual, cores, chosen, device)
        self._pool = ThreadPoolExecutor(self._lanes, thread_name_prefix="lane")
        self._image_input = self._visual.get_inputs()[0].name
        self._places = _Places(self._visual, _MEMORY.get(chosen, "cpu"), device, _GPU_BATCH) if fixed else None
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
        self._places = None
        del self._visual, self._textual

    def _embed_share(self, pictures: Pictures) -> Vectors:
        if self._places:
            return _unit(self._places.run, pictures)
        return _run(self._visual, {self._image_input: pictures})


class _Places:
    """A visual tower with one fixed input buffer on the device per bucket, bound once.

    A call then allocates no device memory and binds nothing: it copies the pictures in and the vectors out. ONNX
    Runtime sees only the buckets' shapes; for every new shape it would search for the fastest convolutions again.
    """

    def __init__(self, session: Any, memory: str, device: int, most: int) -> None:
        self._session = session
        self._where = memory, device
        self._buckets = buckets(most)
        self._bound: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def run(self, pictures: Pictures) -> Vectors:
        vectors = []
        for piece in pieces_of(len(pictures), self._buckets):
            shape = piece.bucket, *pictures.shape[1:]
            if shape not in self._bound:
                self._bound[shape] = self._bind(shape, pictures.dtype.type)
            place, binding = self._bound[shape]
            part = pictures[piece.first : piece.first + piece.count]
            if piece.count < piece.bucket:
                part = np.resize(part, shape)
            place.update_inplace(np.ascontiguousarray(part))
            self._session.run_with_iobinding(binding)
            # Copied: the next call overwrites this buffer.
            vectors.append(binding.get_outputs()[0].numpy()[: piece.count].copy())
        return np.concatenate(vectors)

    def _bind(self, shape: tuple[int, ...], numbers: type[np.float32 | np.uint8]) -> tuple[Any, Any]:
        """The input buffer and its binding. The vectors are small, so their buffer is on the host."""
        place = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), numbers, *self._where)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._session.get_inputs()[0].name, place)
        binding.bind_output(self._session.get_outputs()[0].name)
        return place, binding


class OrtDetector:
    """A bundle's detector on ONNX Runtime, on the CPU.

    Pictures have different shapes, so each is a call of its own; lanes run several at once, each on one core.
    """

    def __init__(self, detector: Detector, *, threads: int) -> None:
        """`threads` 0 means one per core."""
        self._config = detector.config
        self.at_once = min(threads or len(os.sched_getaffinity(0)), _MOST_LANES)
        self._session = _open(detector.model, 1, _PROVIDERS["cpu"], 0)
        self._pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="detect")

    def detect(self, pictures: Sequence[DetectorPicture], *, threshold: float | None = None) -> list[list[Found]]:
        def one(picture: DetectorPicture) -> list[Found]:
            scores, sides = self._run(picture.values)
            return objects_of(scores, sides, picture, self._config, threshold=threshold)

        return list(self._pool.map(one, pictures))

    def close(self) -> None:
        self._pool.shutdown()
        del self._session

    def _run(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        try:
            scores, sides = self._session.run(["scores", "sides"], {"image": values[None]})
        except _VENDOR_ERRORS as error:
            raise Transient(f"onnxruntime failed: {error}", todo=_AGAIN) from error
        return scores[0], sides[0]


def _provider(name: Provider) -> str:
    """ONNX Runtime's name of the provider; Broken when this build lacks it."""
    there = set(ort.get_available_providers())
    if name == "auto":
        name = next(known for known in _AUTO if _PROVIDERS[known] in there)
    if _PROVIDERS[name] not in there:
        raise Broken(
            f"this build of onnxruntime has no {_PROVIDERS[name]}",
            todo="install the onnxruntime package for it, or set encoder.provider=cpu",
        )
    return _PROVIDERS[name]


def _options(provider: str, device: int) -> dict[str, str]:
    return {"device_id": str(device)} if provider in _NUMBERED else {}


def _open(model: Path, threads: int, provider: str, device: int, pixels: PreprocessConfig | None = None) -> Any:
    """The session of the model. With `pixels` its input is pixel values."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    # Spinning idle threads would take cores from the database and the broker on this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    todo = "get the bundle again"
    try:
        content = model.read_bytes()
        if outside_weights(content):
            raise Broken(f"{model.name} keeps weights in other files", todo="use a bundle of single-file models")
        if pixels:
            content = _taking_pixels(content, pixels)
        session = ort.InferenceSession(content, options, providers=[(provider, _options(provider, device))])
    except OSError as error:
        raise Broken(f"cannot read {model}: {error.strerror}", todo=todo) from error
    except _VENDOR_ERRORS as error:
        raise Broken(f"onnxruntime cannot open {model}: {error}", todo=todo) from error
    if provider not in session.get_providers():
        # ONNX Runtime only warns, and falls back to the CPU.
        raise Broken(f"onnxruntime cannot load its {provider}", todo="is the driver installed? or encoder.provider=cpu")
    return session


def _taking_pixels(tower: bytes, config: PreprocessConfig) -> bytes:
    try:
        from models.engines.normaliser import taking_pixels
    except ImportError as error:
        raise Broken(f"onnx is not installed ({error}), to normalise on the GPU", todo="pip install onnx") from error
    return taking_pixels(tower, config)


def _run(session: Any, inputs: dict[str, NDArray[Any]]) -> Vectors:
    return _unit(lambda inputs: session.run(None, inputs)[0], inputs)


def _unit(run: Callable[[Inputs], NDArray[Any]], inputs: Inputs) -> Vectors:
    try:
        vectors = run(inputs)
    except _VENDOR_ERRORS as error:
        raise Transient(f"onnxruntime failed: {error}", todo=_AGAIN) from error
    vectors = vectors.astype(np.float32, copy=False)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, _TINY)
    return unit
