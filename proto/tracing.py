"""Traces: where the time of a question or of a frame went, across all processes. Off unless `trace.endpoint` is set.

Rooms say what they do by the functions here. While tracing is off these do nothing, and OpenTelemetry, which only
`proto/otel.py` knows, is not imported. A question is followed by `span`: whatever runs inside the block, tasks too, is
part of it. A frame is followed by a `Trail`, which it carries from step to step, through queues and threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from pydantic import Field

from proto.errors import Broken
from proto.section import Section

Attribute = str | int | float | bool
Carried = tuple[tuple[str, str], ...]
"""A trace as it travels: `traceparent` and perhaps `tracestate`, as W3C Trace Context has them."""

TRACE_KEY = "watchword-trace"
"""Trailing metadata of a reply: the id of its trace."""

_NOTHING = nullcontext()


class TraceSettings(Section):
    """Traces by OpenTelemetry. They need the extra `otel`."""

    endpoint: str = ""
    """The collector that traces are sent to, by OTLP over gRPC: http://HOST:4317, or https://HOST:4317. Empty: there
    are no traces, and they cost nothing."""
    questions: float = Field(1.0, ge=0, le=1)
    """The share of questions that are traced. When the caller sends a `traceparent`, its own decision counts."""
    frames: float = Field(0.01, ge=0, le=1)
    """The share of frames that are traced, from the camera until they can be found. Each makes about 15 spans."""


class Trail(Protocol):
    """One traced thing on its way. Each step begins where the one before ended, so the steps add up to the whole.

    It is passed on, also between threads, but two of them never use it at once.
    """

    def step(self, name: str, **attributes: Attribute) -> None:
        """A step ended now."""

    def along(self) -> AbstractContextManager[None]:
        """Inside the block its trace is the one that is going on."""

    def end(self) -> None:
        """The part of the way that this process began is over."""


class Tracer(Protocol):
    """What makes spans, while tracing is on: the functions below say of what."""

    def span(self, name: str, attributes: dict[str, Attribute]) -> AbstractContextManager[None]: ...
    def calling(self, method: str, *, begins: bool) -> AbstractContextManager[None]: ...
    def serving(self, method: str, came: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[None]: ...
    def together(self, name: str, trails: Sequence[Trail]) -> AbstractContextManager[None]: ...
    def trace_id(self) -> str: ...
    def carried(self) -> Carried: ...
    def here(self) -> Trail | None: ...
    def frame(self, camera: str, since_ms: int) -> Trail | None: ...
    def goes_on(self, came: Carried, since_ms: int) -> Trail | None: ...
    def close(self) -> None: ...


_tracer: Tracer | None = None


@contextmanager
def traced(settings: TraceSettings, process: str) -> Iterator[None]:
    """Trace inside the block, if the settings say so. Broken when the extra `otel` is not installed."""
    global _tracer  # noqa: PLW0603 - as with metrics, nobody is handed what only watches
    if not settings.endpoint:
        yield
        return
    try:
        from proto.otel import OtelTracer
    except ImportError as error:
        todo = "install the extra: pip install 'watchword[otel]'; or leave trace.endpoint empty"
        raise Broken(f"trace.endpoint is set, but OpenTelemetry is missing ({error.name})", todo=todo) from None
    _tracer = tracer = OtelTracer(settings, process)
    try:
        yield
    finally:
        _tracer = None
        tracer.close()


def on() -> bool:
    """Whether anything is traced."""
    return _tracer is not None


def span(name: str, **attributes: Attribute) -> AbstractContextManager[None]:
    """A part of the trace that is going on here; nothing when there is none."""
    return _NOTHING if _tracer is None else _tracer.span(name, attributes)


def calling(method: str, *, begins: bool) -> AbstractContextManager[None]:
    """A call to another process. With `begins`, it begins a trace when none is going on."""
    return _NOTHING if _tracer is None else _tracer.calling(method, begins=begins)


def serving(method: str, came: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[None]:
    """A call from another process that came with this metadata. The query service begins a trace when the caller has
    none."""
    return _NOTHING if _tracer is None else _tracer.serving(method, came)


def together(name: str, trails: Sequence[Trail]) -> AbstractContextManager[None]:
    """A step that is done for all of these at once. What it calls is seen in the trace of the first; the others have a
    step that is linked to it."""
    return _NOTHING if _tracer is None or not trails else _tracer.together(name, trails)


def trace_id() -> str:
    """The id of the trace that is going on here, as 32 hex digits; empty when there is none."""
    return "" if _tracer is None else _tracer.trace_id()


def carried() -> Carried:
    """What another process needs to go on with the trace that is going on here; empty when there is none."""
    return () if _tracer is None else _tracer.carried()


def trailer() -> Carried:
    """The trailing metadata of a reply."""
    found = trace_id()
    return ((TRACE_KEY, found),) if found else ()


def here() -> Trail | None:
    """A trail inside the trace that is going on here, from now on."""
    return None if _tracer is None else _tracer.here()


def frame(camera: str, since_ms: int) -> Trail | None:
    """A new trail for a frame of this camera; None for those that are not in the sample."""
    return None if _tracer is None else _tracer.frame(camera, since_ms)


def goes_on(came: Carried, since_ms: int) -> Trail | None:
    """The trail of something that another process sent at this time; None when it is not traced."""
    return None if _tracer is None or not came else _tracer.goes_on(came, since_ms)


def step(trail: Trail | None, name: str, **attributes: Attribute) -> None:
    """A step of the trail ended now, if there is a trail."""
    if trail is not None:
        trail.step(name, **attributes)


def ended(trail: Trail | None, name: str) -> None:
    """The last step in this process ended now, if there is a trail."""
    if trail is not None:
        trail.step(name)
        trail.end()


def along(trail: Trail | None) -> AbstractContextManager[None]:
    """Inside the block the trail's trace is the one that is going on, if there is a trail."""
    return _NOTHING if trail is None else trail.along()
