"""The TensorRT of the double in tests/models/gpu.py: it builds nothing, and runs a tower with ONNX Runtime."""

from __future__ import annotations

import json
import struct
from enum import Enum, IntEnum
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime

if TYPE_CHECKING:
    from tests.models.gpu import Gpu


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


def library(gpu: Gpu) -> ModuleType:
    made = ModuleType("tensorrt")

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
            model: bytes = network.model.SerializeToString()
            return struct.pack("<I", len(head)) + head + model

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
            name: str = self.names[number]
            return name

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
                name: np.frombuffer(gpu.memory[self.addresses[name]], made.nptype(value.type)).reshape(
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
        setattr(made, name, value)
    return made
