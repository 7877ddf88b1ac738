"""Traces by OpenTelemetry: the only module that knows it. Imported when tracing begins (`proto/tracing.py`)."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from grpc.aio import AbortError
from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proto.errors import WatchwordError
from proto.metrics import SPANS_LOST
from proto.scrub import scrubbed
from proto.tracing import Attribute, Carried, TraceSettings, Trail

log = logging.getLogger("watchword.tracing")

_SEND_EVERY_MS = 1_000
_SEND_WITHIN_S = 5
"""Bounds also how long the end of a process waits for a collector that is away."""
_SECURE = "https://"

_W3C = TraceContextTextMapPropagator()


class OtelTracer:
    """Makes spans and sends them, in the background, to a collector. One that is away costs spans, and nothing else."""

    def __init__(self, settings: TraceSettings, process: str) -> None:
        # Its sender logs each try. What matters is told once, below.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        endpoint = settings.endpoint if "://" in settings.endpoint else f"http://{settings.endpoint}"
        told = {"service.name": f"watchword-{process}", "service.version": importlib.metadata.version("watchword")}
        resource = Resource.create(told)
        exporter = OTLPSpanExporter(endpoint, insecure=not endpoint.startswith(_SECURE), timeout=_SEND_WITHIN_S)
        self._exporter = _Told(exporter, endpoint)
        self._sending = BatchSpanProcessor(self._exporter, schedule_delay_millis=_SEND_EVERY_MS)
        # A frame's trail begins only when it is in the sample, so whatever of it comes along is to be kept.
        self._frames = TracerProvider(ParentBased(ALWAYS_ON), resource, shutdown_on_exit=False)
        self._questions = TracerProvider(
            ParentBased(TraceIdRatioBased(settings.questions)), resource, shutdown_on_exit=False
        )
        for provider in (self._frames, self._questions):
            provider.add_span_processor(self._sending)
        self._of_frames = self._frames.get_tracer("watchword")
        self._of_questions = self._questions.get_tracer("watchword")
        self._share = settings.frames
        self._begins = process == "query"
        """Calls to an encoder worker that belong to no trace begin none: most are frames that are not in the sample."""

    def close(self) -> None:
        """Send what is left, within seconds."""
        self._exporter.closing = True
        self._sending.shutdown()  # type: ignore[no-untyped-call] # the vendor gave it no type

    def span(self, name: str, attributes: dict[str, Attribute]) -> AbstractContextManager[None]:
        if not api.get_current_span().get_span_context().trace_flags.sampled:
            return nullcontext()
        return _current(self._of_frames.start_span(name, attributes=_clean(attributes)))

    def calling(self, method: str, *, begins: bool) -> AbstractContextManager[None]:
        if not begins and not api.get_current_span().get_span_context().is_valid:
            return nullcontext()
        return _current(self._of_questions.start_span(method, kind=SpanKind.CLIENT))

    def serving(self, method: str, came: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[None]:
        context = _extracted((key, value) for key, value in came if isinstance(value, str))
        if not self._begins and not _told(context).is_valid:
            return nullcontext()
        return _current(self._of_questions.start_span(method, context, SpanKind.SERVER))

    @contextmanager
    def together(self, name: str, trails: Sequence[Trail]) -> Iterator[None]:
        first, *others = (trail for trail in trails if isinstance(trail, _Trail))
        links = [Link(_told(trail.context)) for trail in others]
        span = self._of_frames.start_span(name, first.context, links=links, start_time=first.since_ns)
        try:
            with _current(span):
                yield
        finally:
            first.since_ns = (isinstance(span, ReadableSpan) and span.end_time) or time.time_ns()
            for trail in others:
                trail.linked(name, [Link(span.get_span_context())], {})

    def trace_id(self) -> str:
        found = api.get_current_span().get_span_context()
        return api.format_trace_id(found.trace_id) if found.is_valid else ""

    def carried(self) -> Carried:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return tuple(carrier.items())

    def here(self) -> Trail | None:
        context = contexts.get_current()
        if not _told(context).trace_flags.sampled:
            return None
        return _Trail(self._of_frames, context, time.time_ns())

    def frame(self, camera: str, since_ms: int) -> Trail | None:
        if random.random() >= self._share:  # noqa: S311 - a sample, not a secret
            return None
        since_ns = since_ms * 1_000_000
        root = self._of_frames.start_span("frame", Context(), start_time=since_ns, attributes={"camera": camera})
        return _Trail(self._of_frames, api.set_span_in_context(root, Context()), since_ns, root)

    def goes_on(self, came: Carried, since_ms: int) -> Trail | None:
        context = _extracted(came)
        if not _told(context).trace_flags.sampled:
            return None
        return _Trail(self._of_frames, context, since_ms * 1_000_000)


class _Trail:
    """See proto/tracing.py."""

    __slots__ = ("_root", "_tracer", "context", "since_ns")

    def __init__(self, tracer: Tracer, context: Context, since_ns: int, root: Span | None = None) -> None:
        self.context = context
        self.since_ns = since_ns
        self._tracer = tracer
        self._root = root

    def step(self, name: str, **attributes: Attribute) -> None:
        self.linked(name, (), attributes)

    def linked(self, name: str, links: Sequence[Link], attributes: dict[str, Attribute]) -> None:
        """A step that was also a part of what is linked to."""
        now_ns = time.time_ns()
        # The clock may have been set back, and a time that came from another host may lie ahead.
        began_ns = min(self.since_ns, now_ns)
        self._tracer.start_span(
            name, self.context, links=links, start_time=began_ns, attributes=_clean(attributes)
        ).end(now_ns)
        self.since_ns = now_ns

    def end(self) -> None:
        if self._root is not None:
            self._root.end()

    @contextmanager
    def along(self) -> Iterator[None]:
        token = contexts.attach(self.context)
        try:
            yield
        finally:
            contexts.detach(token)


class _Told(SpanExporter):
    """Sends spans; says once that they cannot be sent, and once that they can again."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = scrubbed(endpoint)
        self._fails = False
        self.closing = False
        """What cannot be sent now is given up: the process ends."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        give_up = self.closing and self._fails
        result = SpanExportResult.FAILURE if give_up else self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed:
            SPANS_LOST.inc(len(spans))
        if failed and not self._fails:
            log.warning("traces are lost: the collector at %s does not take them; is it running?", self._endpoint)
        if self._fails and not failed:
            log.info("the collector at %s takes traces again", self._endpoint)
        self._fails = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


@contextmanager
def _current(span: Span) -> Iterator[None]:
    """Inside the block this is the span that others become parts of. It ends with the block."""
    token = contexts.attach(api.set_span_in_context(span))
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        span.set_attribute("cancelled", True)
        raise
    except BaseException as error:
        _failed(span, error)
        raise
    finally:
        contexts.detach(token)
        span.end()


def _failed(span: Span, error: BaseException) -> None:
    while isinstance(error, AbortError) and error.__context__ is not None:
        error = error.__context__  # gRPC's sign that the call was ended with a status; the error is behind it
    span.set_attribute("error.type", type(error).__name__)
    message = error.message if isinstance(error, WatchwordError) else str(error)
    span.set_status(Status(StatusCode.ERROR, scrubbed(message)))
    if isinstance(error, WatchwordError) and error.todo:
        span.set_attribute("error.todo", scrubbed(error.todo))


def _clean(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {key: scrubbed(value) if isinstance(value, str) else value for key, value in attributes.items()}


def _told(context: Context) -> SpanContext:
    return api.get_current_span(context).get_span_context()


def _extracted(came: Iterable[tuple[str, str]]) -> Context:
    return _W3C.extract(dict(came), Context())
