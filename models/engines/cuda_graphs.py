"""CUDA graphs through the driver API: pycuda has streams but no graphs.

Not run on hardware: written against the documented driver API (CUDA 12), tested with a double of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from proto.errors import Broken, Transient

_LIBRARY = "libcuda.so.1"
_THREAD_LOCAL = 1
"""Capture mode: calls in other threads do not break the capture."""


class Graph:
    """Work recorded once on a stream, and launched again as a unit."""

    def __init__(self, driver: Any, graph: Any, ready: Any) -> None:
        self._driver, self._graph, self._ready = driver, graph, ready

    def launch(self, stream: int) -> None:
        """Launch the work on the stream with this handle."""
        _check(self._driver.cuGraphLaunch(self._ready, ctypes.c_void_p(stream)), "cuGraphLaunch")

    def close(self) -> None:
        self._driver.cuGraphExecDestroy(self._ready)
        self._driver.cuGraphDestroy(self._graph)


def capture(stream: int, work: Callable[[], None]) -> Graph:
    """Record what `work` enqueues on the stream with this handle, instead of running it."""
    driver = _driver()
    handle = ctypes.c_void_p(stream)
    graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
    _check(driver.cuStreamBeginCapture_v2(handle, _THREAD_LOCAL), "cuStreamBeginCapture")
    try:
        work()
    finally:
        ended = driver.cuStreamEndCapture(handle, ctypes.byref(graph))
    _check(ended, "cuStreamEndCapture")
    _check(driver.cuGraphInstantiateWithFlags(ctypes.byref(ready), graph, ctypes.c_ulonglong(0)), "cuGraphInstantiate")
    return Graph(driver, graph, ready)


def _driver() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Broken("there is no NVIDIA driver here", todo="install it, or use encoder.engine=onnxruntime") from error


def _check(status: int, call: str) -> None:
    if status:
        raise Transient(f"{call} failed with CUDA error {status}", todo="the worker opens its engine again; try again")
