"""The native TensorRT engine; the only module that imports tensorrt and pycuda.

Not run on hardware: written against the documented API of TensorRT 10 and pycuda, type-checked against TensorRT's
stubs, and tested with a double of the calls it makes.

Each tower is built once per GPU model and cached on disk, with one optimisation profile per batch bucket. Each bucket
has two lanes with their own buffers and CUDA graph, so that one lane copies pictures in while the other computes.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycuda.driver as cuda
import tensorrt as trt
from numpy.typing import NDArray

from models.bundle import Bundle
from models.choices import Precision
from models.engines.buckets import pieces_of
from models.engines.cuda_graphs import Graph, capture
from models.engines.engine import Abilities, Engine
from models.engines.normaliser import taking_pixels
from models.preprocess import Pictures
from models.tokens import Ids
from proto.errors import Broken, Transient, WatchwordError
from proto.types import Vectors

Say = Callable[[str], None]

_MAJOR = "10."
_WORKSPACE_BYTES = 4 << 30
_FLAGS: dict[Precision, tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",), "bf16": ("BF16",), "int8": ("FP16",)}
"""Quantised networks get the int8 flag whatever the precision; their other layers compute in fp16."""
_TINY = 1e-12
_LANES = 2
_AGAIN = "the worker opens its engine again; try again"
_log = logging.getLogger("watchword.models")


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Identifies a built tower. A plan with another key is never opened; the tower is built again."""

    space: str
    tower: str
    gpu: str
    precision: Precision
    buckets: tuple[int, ...]
    window: int
    """Tokens of every text."""
    version: str

    @property
    def file(self) -> str:
        buckets = "-".join(map(str, self.buckets))
        return f"{self.space}-{self.tower}-{self._gpu}-{self.precision}-b{buckets}-trt{self.version}.plan"

    @property
    def timings(self) -> str:
        """The file of TensorRT's layer timings, which are valid for every model on this GPU."""
        return f"{self._gpu}-trt{self.version}.timings"

    @property
    def _gpu(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.gpu.lower()).strip("-")


class TrtEngine(Engine):
    """Both towers on one NVIDIA GPU. One thread owns it: the CUDA context is current in the opening thread."""

    abilities = Abilities(takes_pixels=True)

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: Precision,
        buckets: Sequence[int],
        cache: Path,
        device: int = 0,
        say: Say = _log.info,
    ) -> None:
        """Plans are read from `cache`, or built there, which takes minutes, if this GPU has none yet."""
        if not str(trt.__version__).startswith(_MAJOR):
            raise Broken(f"TensorRT {trt.__version__} is installed", todo="pip install 'tensorrt>=10,<11'")
        self.name = f"tensorrt/{precision}"
        self.best_batch = max(buckets)
        self._window = bundle.text_window
        self._towers: list[_Tower] = []
        with _translated(
            Broken, "cannot be opened", "see the worker's log; encoder.engine=onnxruntime runs everywhere"
        ):
            cuda.init()
            gpu = cuda.Device(device)
            self._context = gpu.retain_primary_context()
            self._context.push()
            try:
                for tower, read in (
                    ("visual", lambda: taking_pixels(bundle.visual.read_bytes(), bundle.preprocess)),
                    ("textual", bundle.textual.read_bytes),
                ):
                    major, minor = gpu.compute_capability()
                    name = f"{gpu.name()} sm{major}{minor}"
                    key = PlanKey(
                        bundle.space.id,
                        tower,
                        name,
                        precision,
                        tuple(sorted(buckets)),
                        bundle.text_window,
                        trt.__version__,
                    )
                    self._towers.append(_Tower(_engine(key, read, cache, say), key.buckets))
            except BaseException:
                self.close()
                raise

    def embed_images(self, pictures: Pictures) -> Vectors:
        return self._run(0, [pictures])

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        # A profile has one length, so shorter texts are padded; masked tokens change nothing.
        missing = self._window - ids.shape[1]
        filled = [np.pad(values, ((0, 0), (0, missing))) for values in (ids, mask)] if missing else [ids, mask]
        return self._run(1, filled)

    def close(self) -> None:
        for tower in self._towers:
            tower.close()
        self._towers.clear()
        self._context.pop()

    def _run(self, tower: int, inputs: Sequence[NDArray[Any]]) -> Vectors:
        with _translated(Transient, "failed", _AGAIN):
            vectors = self._towers[tower].run(inputs)
        unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
        return unit


class _Tower:
    """One built tower with its lanes; `run` keeps both streams busy."""

    def __init__(self, engine: trt.ICudaEngine, buckets: Sequence[int]) -> None:
        self._engine = engine
        self._buckets = buckets
        self._copying, self._computing = cuda.Stream(), cuda.Stream()
        self._lanes = {
            bucket: [_Lane(engine, place, self._computing) for _ in range(_LANES)]
            for place, bucket in enumerate(buckets)
        }

    def run(self, inputs: Sequence[NDArray[Any]]) -> Vectors:
        answers: list[Vectors] = []
        under_way: list[tuple[_Lane, int]] = []
        for number, piece in enumerate(pieces_of(len(inputs[0]), self._buckets)):
            if len(under_way) == _LANES:
                lane, count = under_way.pop(0)
                answers.append(lane.answer(count))
            lane = self._lanes[piece.bucket][number % _LANES]
            parts = [values[piece.first : piece.first + piece.count] for values in inputs]
            lane.start(parts, self._copying, self._computing)
            under_way.append((lane, piece.count))
        answers += [lane.answer(count) for lane, count in under_way]
        return np.concatenate(answers)

    def close(self) -> None:
        for lanes in self._lanes.values():
            for lane in lanes:
                lane.close()
        self._lanes.clear()


class _Lane:
    """One bucket's buffers, pinned on the host and fixed on the device, and the CUDA graph of its work."""

    def __init__(self, engine: trt.ICudaEngine, profile: int, stream: cuda.Stream) -> None:
        self._context = engine.create_execution_context()
        if not self._context.set_optimization_profile_async(profile, stream.handle):
            raise Broken("TensorRT does not take its own profile", todo="remove the plans and build them again")
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._output = next(name for name in names if name not in self._inputs)
        for name in self._inputs:
            self._context.set_input_shape(name, engine.get_tensor_profile_shape(name, profile)[1])
        self._host = {name: self._pinned(engine, name) for name in names}
        self._device = {name: cuda.mem_alloc(values.nbytes) for name, values in self._host.items()}
        for name, memory in self._device.items():
            self._context.set_tensor_address(name, int(memory))
        self._copied, self._done = cuda.Event(), cuda.Event()
        self._execute(stream)  # lazy allocations must happen before the capture
        stream.synchronize()
        self._graph: Graph = capture(stream.handle, lambda: self._execute(stream))

    def start(self, inputs: Sequence[NDArray[Any]], copying: cuda.Stream, computing: cuda.Stream) -> None:
        """Enqueue one piece on the streams. The previous answer must have been taken."""
        for name, values in zip(self._inputs, inputs, strict=False):
            self._host[name][: len(values)] = values
            cuda.memcpy_htod_async(self._device[name], self._host[name], copying)
        self._copied.record(copying)
        computing.wait_for_event(self._copied)
        self._graph.launch(computing.handle)
        cuda.memcpy_dtoh_async(self._host[self._output], self._device[self._output], computing)
        self._done.record(computing)

    def answer(self, count: int) -> Vectors:
        """Wait for the piece and return its vectors, without those of unused places."""
        self._done.synchronize()
        return self._host[self._output][:count].astype(np.float32)

    def close(self) -> None:
        self._graph.close()
        for memory in self._device.values():
            memory.free()

    def _execute(self, stream: cuda.Stream) -> None:
        if not self._context.execute_async_v3(stream.handle):
            raise Transient("TensorRT could not run", todo=_AGAIN)

    def _pinned(self, engine: trt.ICudaEngine, name: str) -> NDArray[Any]:
        values: NDArray[Any] = cuda.pagelocked_empty(
            tuple(self._context.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name))
        )
        values[...] = 0
        return values


def _engine(key: PlanKey, read: Callable[[], bytes], cache: Path, say: Say) -> trt.ICudaEngine:
    """The tower built for this GPU, from the cache or built now."""
    log = _TrtLog()
    runtime = trt.Runtime(log)
    plan = cache / key.file
    if plan.exists():
        engine = runtime.deserialize_cuda_engine(plan.read_bytes())
        if engine is not None:
            return engine
        say(f"the plan {plan.name} cannot be opened and is built again")
    say(f"building the {key.tower} tower for {key.gpu} in {key.precision} (once, some minutes)")
    built = _built(key, read(), cache, log, say)
    _keep(plan, built)
    engine = runtime.deserialize_cuda_engine(built)
    if engine is None:
        raise Broken("TensorRT cannot open what it built", todo="see the log")
    return engine


def _built(key: PlanKey, model: bytes, cache: Path, log: trt.ILogger, say: Say) -> bytes:
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        reasons = "; ".join(parser.get_error(number).desc() for number in range(parser.num_errors))
        raise Broken(
            f"TensorRT cannot read the {key.tower} tower: {reasons}",
            todo="use encoder.engine=onnxruntime; of int8 bundles TensorRT reads those with fixed, symmetric scales",
        )
    flags = (*_FLAGS[key.precision], *_int8_of(network, key))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.progress_monitor = _Progress(key.tower, say)
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    for bucket in key.buckets:
        profile = builder.create_optimization_profile()
        for number in range(network.num_inputs):
            tensor = network.get_input(number)
            shape = (bucket, *(key.window if size < 0 else size for size in tuple(tensor.shape)[1:]))
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)
    timings = cache / key.timings
    config.set_timing_cache(config.create_timing_cache(timings.read_bytes() if timings.exists() else b""), False)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise Broken(
            f"TensorRT cannot build the {key.tower} tower in {key.precision}", todo="see the log; try fp16 or fp32"
        )
    _keep(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(built)


def _int8_of(network: trt.INetworkDefinition, key: PlanKey) -> tuple[str, ...]:
    """The flag that TensorRT needs to build a network with quantised layers. The scales come from the layers."""
    kinds = {network.get_layer(number).type for number in range(network.num_layers)}
    if trt.LayerType.QUANTIZE in kinds:
        return ("INT8",)
    if key.precision == "int8" and key.tower == "visual":  # texts are short, and their tower may stay as it is
        raise Broken(
            "the visual tower holds no int8 layers (QuantizeLinear, DequantizeLinear)",
            todo="use a bundle with a statically quantised visual tower, or fp16",
        )
    return ()


def _keep(path: Path, content: bytes) -> None:
    """Write the file atomically: another process may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)


class _TrtLog(trt.ILogger):  # type: ignore[misc]
    """Forwards TensorRT's messages to our log."""

    _LEVELS = (logging.ERROR, logging.ERROR, logging.WARNING, logging.DEBUG, logging.DEBUG)

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: Any, words: str) -> None:
        _log.log(self._LEVELS[int(severity)], "tensorrt: %s", words)


class _Progress(trt.IProgressMonitor):  # type: ignore[misc]
    """Reports the progress of a build's outermost phase in steps of a tenth."""

    def __init__(self, tower: str, say: Say) -> None:
        trt.IProgressMonitor.__init__(self)
        self._tower, self._say = tower, say
        self._steps: dict[str, int] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        if not parent_phase:
            self._steps[phase_name] = num_steps

    def step_complete(self, phase_name: str, step: int) -> bool:
        steps = self._steps.get(phase_name, 0)
        if steps and (step + 1) * 10 // steps > step * 10 // steps:
            self._say(f"building the {self._tower} tower: {phase_name} {(step + 1) * 100 // steps} %")
        return True

    def phase_finish(self, phase_name: str) -> None:
        self._steps.pop(phase_name, None)


@contextmanager
def _translated(kind: type[WatchwordError], what: str, todo: str) -> Iterator[None]:
    try:
        yield
    except cuda.MemoryError as error:
        raise Broken(
            f"the GPU's memory is too small ({error})", todo="use fewer or smaller batch buckets, or fp16"
        ) from error
    except cuda.Error as error:
        raise kind(f"the GPU {what} ({error})", todo=todo) from error
