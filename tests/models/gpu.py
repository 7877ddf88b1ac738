"""A double of the TensorRT, pycuda and CUDA driver calls that models/trt.py makes.

It records every call, keeps device memory as bytes by address, runs a built tower with ONNX Runtime, and insists on
what the real libraries insist on: shapes inside a profile, addresses before work, no host memory that is not pinned.
"""

from __future__ import annotations

import importlib
import itertools
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest

GPU_NAME = "Doubled GPU 24GB"


@dataclass
class Gpu:
    """The state of the doubled machine, with its faults."""

    calls: list[str] = field(default_factory=list)
    memory: dict[int, bytearray] = field(default_factory=dict)
    pinned: list[Any] = field(default_factory=list)
    capturing: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    fail: str = ""
    """Name of the call that fails next."""
    name: str = GPU_NAME
    version: str = "10.13.0.35"
    most_bytes: int = 1 << 40

    def call(self, name: str, *words: object) -> None:
        self.calls.append(" ".join(map(str, (name, *words))))

    def named(self, start: str) -> list[str]:
        return [call for call in self.calls if call.split(" ")[0] == start]


def install(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Put the double in the place of the libraries, and load models.trt anew on top of it."""
    gpu = Gpu()
    driver, package = _driver(gpu), ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setitem(sys.modules, "tensorrt", _tensorrt(gpu))
    # What is loaded on top of the double must not outlive the test: what was there before, or nothing, comes back.
    monkeypatch.setitem(sys.modules, "models.trt", ModuleType("models.trt"))
    del sys.modules["models.trt"]
    monkeypatch.setattr(importlib.import_module("models.trt"), "capture", _capture(gpu))
    return gpu


def _driver(gpu: Gpu) -> ModuleType:
    addresses, handles = itertools.count(4096, 1 << 24), itertools.count(1)
    driver = ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class OutOfMemory(Error):
        pass

    class Allocation:
        def __init__(self, size: int) -> None:
            if gpu.fail == "mem_alloc" or sum(map(len, gpu.memory.values())) + size > gpu.most_bytes:
                raise OutOfMemory("cuMemAlloc failed: out of memory")
            self.address = next(addresses)
            gpu.memory[self.address] = bytearray(size)
            gpu.call("mem_alloc", size)

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            del gpu.memory[self.address]

    class Stream:
        def __init__(self) -> None:
            self.handle = next(handles)

        def synchronize(self) -> None:
            gpu.call("synchronize", self.handle)

        def wait_for_event(self, event: Any) -> None:
            gpu.call("wait_for_event", self.handle, event.recorded_on)

    class Event:
        recorded_on = 0

        def record(self, stream: Stream) -> None:
            self.recorded_on = stream.handle
            gpu.call("record", stream.handle)

        def synchronize(self) -> None:
            assert self.recorded_on, "waited for what was never recorded"
            gpu.call("event_synchronize", self.recorded_on)

    class Device:
        def __init__(self, number: int) -> None:
            if gpu.fail == "device":
                raise Error("cuDeviceGet failed: invalid device ordinal")

        def name(self) -> str:
            return gpu.name

        def compute_capability(self) -> tuple[int, int]:
            return 9, 0

        def retain_primary_context(self) -> Any:
            return SimpleNamespace(push=lambda: gpu.call("push"), pop=lambda: gpu.call("pop"))

    def pagelocked_empty(shape: tuple[int, ...], kind: Any) -> Any:
        values = np.empty(shape, kind)
        gpu.pinned.append(values)
        return values

    def copy_in(target: Allocation, values: Any, stream: Stream) -> None:
        assert any(values is known for known in gpu.pinned), "an asynchronous copy needs pinned memory"
        gpu.call("htod", stream.handle, values.nbytes)
        if gpu.fail == "htod":
            raise Error("cuMemcpyHtoDAsync failed: an illegal memory access was encountered")
        gpu.memory[int(target)][:] = values.tobytes()

    def copy_out(values: Any, source: Allocation, stream: Stream) -> None:
        assert any(values is known for known in gpu.pinned), "an asynchronous copy needs pinned memory"
        gpu.call("dtoh", stream.handle, values.nbytes)
        values[...] = np.frombuffer(gpu.memory[int(source)], values.dtype).reshape(values.shape)

    for name, value in {
        "Error": Error, "MemoryError": OutOfMemory, "Stream": Stream, "Event": Event, "Device": Device,
        "mem_alloc": Allocation, "pagelocked_empty": pagelocked_empty, "memcpy_htod_async": copy_in,
        "memcpy_dtoh_async": copy_out, "init": lambda: gpu.call("init"),
    }.items():  # fmt: skip
        setattr(driver, name, value)
    return driver


def _capture(gpu: Gpu) -> Callable[[int, Callable[[], None]], Any]:
    def capture(stream: int, work: Callable[[], None]) -> Any:
        recorded: list[Callable[[], None]] = []
        gpu.capturing[stream] = recorded
        try:
            work()
        finally:
            del gpu.capturing[stream]
        gpu.call("capture", stream, len(recorded))

        def launch(on: int) -> None:
            gpu.call("launch", on)
            for step in recorded:
                step()

        return SimpleNamespace(launch=launch, close=lambda: gpu.call("graph_close"))

    return capture


class Mode(Enum):
    INPUT = 1
    OUTPUT = 2


class Layer(Enum):
    """A network's layers, as far as anybody asks."""

    OTHER = 0
    QUANTIZE = 32
    DEQUANTIZE = 33


class Flag(IntEnum):
    FP16 = 0
    INT8 = 1
    BF16 = 17


def _unreadable(model: onnx.ModelProto) -> list[str]:
    """What the real parser refuses of int8: scales measured at each call, and any zero that is not 0."""
    weights = {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}
    dynamic = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}
    errors = [f"no importer for operator {node.op_type}" for node in model.graph.node if node.op_type in dynamic]
    for node in model.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and len(node.input) > 2:
            zero = weights[node.input[2]]
            if zero.dtype == np.uint8 or zero.any():
                errors.append("shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported")
    return errors


def _tensorrt(gpu: Gpu) -> ModuleType:
    library = ModuleType("tensorrt")

    class ILogger:
        def __init__(self) -> None:
            pass

    class IProgressMonitor:
        def __init__(self) -> None:
            pass

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, tuple[int, ...]] = {}

        def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
            assert tuple(low) == tuple(best) == tuple(high)
            self.shapes[name] = tuple(best)

    class Network:
        model: Any = None

        @property
        def num_inputs(self) -> int:
            return len(self.model.graph.input)

        @property
        def num_layers(self) -> int:
            return len(self.model.graph.node)

        def get_layer(self, number: int) -> Any:
            kinds = {"QuantizeLinear": Layer.QUANTIZE, "DequantizeLinear": Layer.DEQUANTIZE}
            return SimpleNamespace(type=kinds.get(self.model.graph.node[number].op_type, Layer.OTHER))

        def get_input(self, number: int) -> Any:
            value = self.model.graph.input[number]
            sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in value.type.tensor_type.shape.dim]
            return SimpleNamespace(name=value.name, shape=sizes)

    class Parser:
        def __init__(self, network: Network, log: ILogger) -> None:
            self.network = network
            self.errors = ["no importer for operator Strange"] if gpu.fail == "parse" else []

        def parse(self, content: bytes) -> bool:
            self.network.model = onnx.load_from_string(content)
            self.errors += _unreadable(self.network.model)
            return not self.errors

        @property
        def num_errors(self) -> int:
            return len(self.errors)

        def get_error(self, number: int) -> Any:
            return SimpleNamespace(desc=lambda: self.errors[number])

    class TimingCache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> bytes:
            return self.content + b"t"

    class Config:
        progress_monitor: Any = None

        def __init__(self) -> None:
            self.flags: list[Flag] = []
            self.profiles: list[Profile] = []

        def set_flag(self, flag: Flag) -> None:
            self.flags.append(flag)

        def set_memory_pool_limit(self, pool: object, size: int) -> None:
            gpu.call("workspace", size)

        def add_optimization_profile(self, profile: Profile) -> int:
            self.profiles.append(profile)
            return len(self.profiles) - 1

        def create_timing_cache(self, content: bytes) -> TimingCache:
            gpu.call("timings", len(content))
            return TimingCache(content)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            self.cache = cache
            return True

        def get_timing_cache(self) -> TimingCache:
            return self.cache

    class Builder:
        def __init__(self, log: ILogger) -> None:
            pass

        def create_network(self, flags: int) -> Network:
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            layers = [network.get_layer(number).type for number in range(network.num_layers)]
            assert Layer.QUANTIZE not in layers or Flag.INT8 in config.flags, "quantised layers need the flag"
            gpu.call("build", *(flag.name for flag in config.flags))
            monitor = config.progress_monitor
            monitor.phase_start("Building Engine", None, 20)
            monitor.phase_start("Tactics", "Building Engine", 3)
            assert all(monitor.step_complete("Building Engine", step) for step in range(20))
            assert monitor.step_complete("Tactics", 0)
            monitor.phase_finish("Building Engine")
            if gpu.fail == "build":
                return None
            head = json.dumps([profile.shapes for profile in config.profiles]).encode()
            return struct.pack("<I", len(head)) + head + network.model.SerializeToString()

    class Runtime:
        def __init__(self, log: ILogger) -> None:
            pass

        def deserialize_cuda_engine(self, content: bytes) -> Any:
            gpu.call("deserialize")
            try:
                (length,) = struct.unpack("<I", content[:4])
                return Engine(json.loads(content[4 : 4 + length]), content[4 + length :])
            except (ValueError, struct.error):
                return None

    class Engine:
        def __init__(self, profiles: list[dict[str, list[int]]], model: bytes) -> None:
            self.profiles = profiles
            self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            self.inputs = {value.name: value for value in self.session.get_inputs()}
            self.names = [*self.inputs, self.session.get_outputs()[0].name]
            self.num_io_tensors = len(self.names)

        def get_tensor_name(self, number: int) -> str:
            return self.names[number]

        def get_tensor_mode(self, name: str) -> Mode:
            return Mode.INPUT if name in self.inputs else Mode.OUTPUT

        def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
            return [self.profiles[profile][name]] * 3

        def get_tensor_dtype(self, name: str) -> str:
            return str(self.inputs[name].type) if name in self.inputs else "tensor(float)"

        def create_execution_context(self) -> Any:
            return Context(self)

    class Context:
        def __init__(self, engine: Engine) -> None:
            self.engine = engine
            self.profile = -1
            self.shapes: dict[str, tuple[int, ...]] = {}
            self.addresses: dict[str, int] = {}

        def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
            self.profile = profile
            return True

        def set_input_shape(self, name: str, shape: Any) -> bool:
            assert tuple(shape) == tuple(self.engine.profiles[self.profile][name]), "outside the profile"
            self.shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if name in self.shapes:
                return self.shapes[name]
            assert len(self.shapes) == len(self.engine.inputs), "the output has no shape before the inputs"
            return next(iter(self.shapes.values()))[0], self.engine.session.get_outputs()[0].shape[1]

        def set_tensor_address(self, name: str, address: int) -> bool:
            assert address in gpu.memory
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            assert set(self.addresses) == set(self.engine.names), "a tensor has no address"
            if gpu.fail == "execute":
                return False
            gpu.capturing[stream].append(self._run) if stream in gpu.capturing else self._run()
            return True

        def _run(self) -> None:
            feeds = {
                name: np.frombuffer(gpu.memory[self.addresses[name]], library.nptype(value.type)).reshape(
                    self.shapes[name]
                )
                for name, value in self.engine.inputs.items()
            }
            (vectors,) = self.engine.session.run(None, feeds)
            gpu.memory[self.addresses[self.engine.names[-1]]][:] = vectors.tobytes()

    kinds = {
        "tensor(uint8)": np.uint8,
        "tensor(float)": np.float32,
        "tensor(int32)": np.int32,
        "tensor(int64)": np.int64,
    }
    for name, value in {
        "ILogger": ILogger, "IProgressMonitor": IProgressMonitor, "OnnxParser": Parser, "Builder": Builder,
        "Runtime": Runtime, "TensorIOMode": Mode, "BuilderFlag": Flag, "LayerType": Layer, "nptype": kinds.__getitem__,
        "MemoryPoolType": SimpleNamespace(WORKSPACE=0), "__version__": gpu.version,
    }.items():  # fmt: skip
        setattr(library, name, value)
    return library
