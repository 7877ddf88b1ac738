"""The one place where the error tree meets gRPC, and where both ends agree on channel options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Self, TypeVar

import grpc
from grpc.aio import AioRpcError, ServicerContext

from proto.errors import (
    Broken,
    Denied,
    Invalid,
    Late,
    Mismatch,
    Overloaded,
    Transient,
    Unknown,
    WatchwordError,
)

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A full batch of frames fits; anything larger is refused by gRPC before it is read."""

CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # The server tolerates pings this often (below): a client that pings faster is cut off after two strikes.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

SERVER_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Two servers on one port would share its callers by chance; the second must fail instead.
    ("grpc.so_reuseport", 0),
]


class Client(ABC):
    """A service's client: for an `async with` block, at whose end it is closed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection."""


_CODES: list[tuple[type[WatchwordError], grpc.StatusCode]] = [
    (Transient, grpc.StatusCode.UNAVAILABLE),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Late, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Invalid, grpc.StatusCode.INVALID_ARGUMENT),
    (Unknown, grpc.StatusCode.NOT_FOUND),
    (Denied, grpc.StatusCode.PERMISSION_DENIED),
    (Mismatch, grpc.StatusCode.FAILED_PRECONDITION),
    (Broken, grpc.StatusCode.INTERNAL),
]


def status_of(error: WatchwordError) -> grpc.StatusCode:
    """The status that a client of any language sees for `error`."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.UNKNOWN)


def error_of(error: AioRpcError, part: str) -> WatchwordError:
    """What `error`, as a client of `part` met it, means in our tree."""
    code, details = error.code(), error.details() or "no details"
    if code is grpc.StatusCode.UNAVAILABLE:
        return Transient(f"{part} does not answer ({details})", todo="is it running? `watchword doctor` checks")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Late(f"{part} did not answer in time", todo="try again, or raise the deadline")
    kind = next((kind for kind, known in _CODES if known is code), Broken)
    return kind(details)


Reply = TypeVar("Reply")
Call = Callable[[Any, Any, "ServicerContext[Any, Any]"], Awaitable[Reply]]


def answers(call: Call[Reply]) -> Call[Reply]:
    """Decorate a servicer's method: an error of our tree becomes its gRPC status, with its sentence."""

    @wraps(call)
    async def guarded(servicer: Any, request: Any, context: ServicerContext[Any, Any]) -> Reply:
        try:
            return await call(servicer, request, context)
        except WatchwordError as error:
            await context.abort(status_of(error), str(error))

    return guarded
