"""Shared by both gRPC services: the server with its health service, the limit on calls, and errors as statuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import wraps
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import grpc.aio
from grpc.aio import ServicerContext
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from proto.errors import Broken, Overloaded, WatchwordError
from proto.rpc import SERVER_OPTIONS, on_the_wire

log = logging.getLogger("watchword.rpc")

_SPARE_CALLS = 4096
"""How much gRPC's own limit on calls exceeds the door's. gRPC's limit also refuses health probes, so it must be higher;
it bounds memory when callers open calls and send nothing. Calls refused by the door end at once and do not add up."""


class Door:
    """Limits the concurrent calls of one service. Health probes do not count."""

    def __init__(self, part: str, most: int) -> None:
        self.part = part
        """The service's name in a sentence."""
        self.refusal = Overloaded(
            f"{part} has {most} calls under way and takes no more",
            todo="wait a moment and try again, or start more of them",
        )
        """The error when the door is full."""
        self._most = most
        self._inside = 0

    @property
    def full(self) -> bool:
        return self._inside >= self._most

    def __enter__(self) -> None:
        """Admit a call. Overloaded when the door is full."""
        if self.full:
            raise Overloaded(self.refusal.message, todo=self.refusal.todo)
        self._inside += 1

    def __exit__(self, *error: object) -> None:
        self._inside -= 1


class Guarded(Protocol):
    """A servicer whose methods are decorated with `answers`."""

    @property
    def door(self) -> Door: ...


Servicer = TypeVar("Servicer", bound=Guarded)
Request = TypeVar("Request")
Reply = TypeVar("Reply")
Call = Callable[[Servicer, Request, "ServicerContext[Any, Any]"], Awaitable[Reply]]
StreamCall = Callable[[Servicer, Request, "ServicerContext[Any, Any]"], AsyncGenerator[Reply, None]]


def answers(call: Call[Servicer, Request, Reply]) -> Call[Servicer, Request, Reply]:
    """Decorate a servicer's method: calls beyond its door are refused, and every error reaches the caller typed.

    A WatchwordError becomes its status with todo and reason. Any other exception is a bug: the caller gets Broken, and
    the traceback is logged.
    """

    @wraps(call)
    async def guarded(servicer: Servicer, request: Request, context: ServicerContext[Any, Any]) -> Reply:
        try:
            with servicer.door:
                return await call(servicer, request, context)
        except WatchwordError as error:
            await _refuse(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _refuse(context, _fault(servicer.door.part, call.__name__, error))

    return guarded


def streams(call: StreamCall[Servicer, Request, Reply]) -> StreamCall[Servicer, Request, Reply]:
    """Like `answers`, for a method that gives its reply in parts."""

    @wraps(call)
    async def guarded(
        servicer: Servicer, request: Request, context: ServicerContext[Any, Any]
    ) -> AsyncGenerator[Reply, None]:
        try:
            with servicer.door:
                async with aclosing(call(servicer, request, context)) as parts:
                    async for part in parts:
                        yield part
        except WatchwordError as error:
            await _refuse(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _refuse(context, _fault(servicer.door.part, call.__name__, error))

    return guarded


def _fault(part: str, method: str, error: Exception) -> Broken:
    """A bug: the traceback goes to the log, a sentence to the caller."""
    log.exception("%s met a fault of its own in %s", part, method)
    todo = "its log says why; report this if it fails again"
    return Broken(f"{part} failed ({type(error).__name__})", todo=todo)


async def _refuse(context: ServicerContext[Any, Any], error: WatchwordError) -> NoReturn:
    code, message, metadata = on_the_wire(error)
    await context.abort(code, message, metadata)


class _AtTheDoor(grpc.GenericRpcHandler):
    """Looks up the methods of a service. While its door is full, it returns a method that refuses.

    The refusing method is a streaming one: for a unary call gRPC would first read and parse the message, and a refusal
    should cost neither memory nor time.
    """

    def __init__(self, methods: grpc.GenericRpcHandler, door: Door) -> None:
        self._methods = methods
        self._door = door
        self._refusal = on_the_wire(door.refusal)
        self._refusing: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(self._refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = self._methods.service(handler_call_details)
        return self._refusing if method is not None and self._door.full else method

    async def _refuse(self, _: object, context: ServicerContext[Any, Any]) -> None:
        await context.abort(*self._refusal)


class _Registrar:
    """Passed to generated code in place of the server, so that every call passes the door."""

    def __init__(self, server: grpc.aio.Server, door: Door) -> None:
        self._server = server
        self._door = door

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers([_AtTheDoor(methods, self._door) for methods in handlers])

    def add_registered_method_handlers(self, service: str, methods: object) -> None:
        """Ignored: gRPC would find these methods on a fast path that bypasses the door."""


class GrpcServer:
    """A gRPC server for one of our services, plus the standard health service.

    Health reports NOT_SERVING for "" and for the service until `set_ready(True)`.
    """

    def __init__(self, part: str, service: str, *, most_calls: int) -> None:
        """`part` names it in messages, `service` on the wire. `most_calls` limits concurrent calls."""
        self.door = Door(part, most_calls)
        self.address = ""
        """HOST:PORT that it listens on, once started."""
        self._service = service
        self._health = health.aio.HealthServicer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=most_calls + _SPARE_CALLS)
        self.methods: Any = _Registrar(self._server, self.door)
        """Pass this to the generated code that adds the service, before `start`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self, address: str) -> None:
        """Listen at `address` (HOST:PORT; port 0 takes a free one). Broken when that fails."""
        await self._set_health(ready=False)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise Broken(
                f"{self.door.part} cannot listen on {address}", todo="is the port taken? choose another"
            ) from error
        self.address = f"{address.rpartition(':')[0]}:{port}"
        await self._server.start()

    def set_ready(self, ready: bool) -> None:
        """Set health to SERVING or NOT_SERVING."""
        task = asyncio.get_running_loop().create_task(self._set_health(ready))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, grace_s: float | None) -> None:
        """Report NOT_SERVING, refuse new calls, wait at most `grace_s` for running ones, then cancel the rest."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _set_health(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", self._service):
            await self._health.set(name, status)
