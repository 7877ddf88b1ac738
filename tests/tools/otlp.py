"""A receiver of traces: OTLP over gRPC, as a collector speaks it, with what came kept in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

CLIENT, SERVER = 3, 2


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it came."""

    process: str
    """The resource's service.name."""
    name: str
    trace: str
    id: str
    parent: str
    """Empty for a root."""
    kind: int
    begin_ns: int
    end_ns: int
    attributes: dict[str, Any] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()
    """Trace and span of each."""
    failed: bool = False
    status: str = ""

    @property
    def ms(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e6


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans from any number of processes."""

    def __init__(self) -> None:
        self.address = ""
        """http://HOST:PORT."""
        self._spans: list[Span] = []
        self._came = threading.Condition()

    @property
    def spans(self) -> list[Span]:
        with self._came:
            return list(self._spans)

    def of(self, trace: str) -> list[Span]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace == trace]

    def wait_for(self, name: str, count: int = 1, within_s: float = 10.0) -> list[Span]:
        """The spans of this name, once so many have come."""
        with self._came:
            self._came.wait_for(lambda: len(self._named(name)) >= count, within_s)
            return self._named(name)

    def _named(self, name: str) -> list[Span]:
        return [span for span in self._spans if span.name == name]

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name that gRPC gives
        came = [
            _span(dict(_values(group.resource.attributes)).get("service.name", ""), span)
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._came:
            self._spans += came
            self._came.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver that serves inside the block."""
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    receiver.address = f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(0).wait()


def _span(process: str, span: Any) -> Span:
    return Span(
        process=process,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        begin_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=dict(_values(span.attributes)),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        failed=span.status.code == 2,
        status=span.status.message,
    )


def _values(attributes: Any) -> Iterator[tuple[str, Any]]:
    for one in attributes:
        yield one.key, getattr(one.value, one.value.WhichOneof("value"))
