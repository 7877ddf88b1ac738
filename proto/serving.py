"""What both gRPC services share: the server with its health service, the bound on calls, and errors as statuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
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
"""gRPC's own bound on calls is so much higher than the door's, since it refuses health probes too. It bounds memory
when callers open calls and send nothing. Calls that the door refuses end at once and do not add up to it."""


class Door:
    """Bounds how many calls of one service are under way. Health probes do not pass through it."""

    def __init__(self, part: str, most: int) -> None:
        self.part = part
        """The service's name in a sentence."""
        self.refusal = Overloaded(
            f"{part} has {most} calls under way and takes no more",
            todo="wait a moment and try again, or start more of them",
        )
        """What a call meets when the door is full."""
        self._most = most
        self._inside = 0

    @property
    def full(self) -> bool:
        return self._inside >= self._most

    def __enter__(self) -> None:
        """A call comes in. Overloaded when the door is full."""
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


def answers(call: Call[Servicer, Request, Reply]) -> Call[Servicer, Request, Reply]:
    """Decorate a servicer's method: calls beyond its door are refused, and every error reaches the caller typed.

    An error of our tree becomes its status with todo and reason. Any other exception is a fault of ours: the caller
    gets Broken, the log the traceback.
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
            part = servicer.door.part
            log.exception("%s met a fault of its own in %s", part, call.__name__)
            todo = "its log says why; report this if it fails again"
            await _refuse(context, Broken(f"{part} failed ({type(error).__name__})", todo=todo))

    return guarded


async def _refuse(context: ServicerContext[Any, Any], error: WatchwordError) -> NoReturn:
    code, message, metadata = on_the_wire(error)
    await context.abort(code, message, metadata)


class _AtTheDoor(grpc.GenericRpcHandler):
    """Finds the methods of a service. While its door is full, every one of them is a method that refuses.

    The refusing method is a streaming one: gRPC reads and parses the message of a unary call before it hands the call
    over, and what is refused should cost neither memory nor time.
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
    """Stands in for the server where generated code adds a service, so that every call passes the door."""

    def __init__(self, server: grpc.aio.Server, door: Door) -> None:
        self._server = server
        self._door = door

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers([_AtTheDoor(methods, self._door) for methods in handlers])

    def add_registered_method_handlers(self, service: str, methods: object) -> None:
        """The same methods once more, found by a short cut that would miss the door."""


class GrpcServer:
    """A gRPC server of one service of ours, with the standard health service beside it.

    Health says NOT_SERVING for "" and for the service until `set_ready(True)`.
    """

    def __init__(self, part: str, service: str, *, most_calls: int) -> None:
        """`part` names it in sentences, `service` on the wire. `most_calls` may be under way at once."""
        self.door = Door(part, most_calls)
        self.address = ""
        """HOST:PORT that it listens on, once started."""
        self._service = service
        self._health = health.aio.HealthServicer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=most_calls + _SPARE_CALLS)
        self.methods: Any = _Registrar(self._server, self.door)
        """Where generated code adds the service, before the start."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self, address: str) -> None:
        """Listen at `address` (HOST:PORT; port 0 takes a free one). Broken when that cannot be."""
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
        """Let health say SERVING or NOT_SERVING from now on."""
        task = asyncio.get_running_loop().create_task(self._set_health(ready))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, grace_s: float | None) -> None:
        """Say NOT_SERVING, refuse new calls, finish those inside for at most `grace_s`, then give up the rest."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _set_health(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", self._service):
            await self._health.set(name, status)
