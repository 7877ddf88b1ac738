"""Shared by our gRPC clients: opening a channel and translating errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

import grpc.aio

from proto import tracing
from proto.rpc import CHANNEL_OPTIONS, error_of, service_config
from proto.tls import ClientTls, channel_credentials

Reply = TypeVar("Reply")

CLIENT_KEY = "watchword-client"
"""For whom a gateway calls: an address, for the audit. Nothing depends on it."""
WATCH_KEY = "watchword-watch"
"""Of which live watch a gateway's call is a part, and how many events it told so far: `ID/EVENTS`, for the audit."""


class Client(ABC):
    """A service's client. Use it in an `async with` block, which closes it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""


class _Traced(grpc.aio.UnaryUnaryClientInterceptor):
    """Makes each call a part of the trace that is going on, and tells the server of it."""

    def __init__(self, *, begins: bool) -> None:
        self._begins = begins

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        method = client_call_details.method
        name = (method.decode() if isinstance(method, bytes) else method).rpartition("/")[2]
        with tracing.calling(name, begins=self._begins):
            asked = client_call_details
            told = grpc.aio.ClientCallDetails(
                asked.method,
                asked.timeout,
                grpc.aio.Metadata(*(asked.metadata or ()), *tracing.carried()),
                asked.credentials,
                asked.wait_for_ready,
            )
            call = await continuation(told, request)
            await call.code()  # the call is over then; its error is raised to whoever awaits it
            return call


_CONNECT_WITHIN_S = 2.0


def open_channel(
    address: str,
    *,
    connect_within_s: float = _CONNECT_WITHIN_S,
    repeats_refused: bool = False,
    spread: bool = False,
    begins_traces: bool = False,
    tls: ClientTls | None = None,
    server_name: str = "",
) -> grpc.aio.Channel:
    """A channel, with TLS if `tls` names a root. The server must then have the name that `tls` says, else
    `server_name`, else that of the address. `connect_within_s` bounds one attempt to connect, which calls wait for: a
    host that is gone does not refuse connections.

    With `repeats_refused` a call that was refused for overload is made again, within its deadline, a few times at most.
    With `spread`, calls go in turn to every address that the name resolves to; otherwise to one of them.
    While tracing is on its calls are traced: those made inside a trace, and with `begins_traces` all.
    """
    options = [
        *CHANNEL_OPTIONS,
        ("grpc.min_reconnect_backoff_ms", round(connect_within_s * 1000)),
        service_config(repeats_refused=repeats_refused, spread=spread),
    ]
    interceptors = [_Traced(begins=begins_traces)] if tracing.on() else None
    if tls is None or not tls.ca:
        return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
    if name := tls.server_name or server_name:
        options.append(("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(address, channel_credentials(tls), options=options, interceptors=interceptors)


async def answer_of(call: Awaitable[Reply], part: str) -> Reply:
    """The call's reply. Errors are raised as the WatchwordErrors that `part` sent."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise error_of(error, part) from error
