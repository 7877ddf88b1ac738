"""A double of the TensorRT, pycuda and CUDA driver calls that models/engines/trt.py makes.

It records every call, keeps device memory as bytes by address, runs a built tower with ONNX Runtime, and insists on
what the real libraries insist on: shapes inside a profile, addresses before work, no host memory that is not pinned.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.models import gpu_tensorrt

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
    """Put the double in the place of the libraries, and load models.engines.trt anew on top of it."""
    gpu = Gpu()
    driver, package = _driver(gpu), ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setitem(sys.modules, "tensorrt", gpu_tensorrt.library(gpu))
    # What is loaded on top of the double must not outlive the test: what was there before, or nothing, comes back.
    monkeypatch.setitem(sys.modules, "models.engines.trt", ModuleType("models.engines.trt"))
    del sys.modules["models.engines.trt"]
    monkeypatch.setattr(importlib.import_module("models.engines.trt"), "capture", _capture(gpu))
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
