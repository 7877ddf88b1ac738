"""Shared by both gRPC services: the server with its health service, the door, and errors as statuses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import grpc.aio
from grpc.aio import ServicerContext
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from proto import tracing
from proto.access import Caller
from proto.admission import UNDER_WAY, Admission
from proto.errors import Broken, Overloaded, WatchwordError
from proto.metrics import CALLS_EXPECTED, CALLS_INSIDE, CALLS_PROMISED, CALLS_REFUSED
from proto.rpc import SERVER_OPTIONS, on_the_wire
from proto.tls import ServerTls, server_credentials

log = logging.getLogger("watchword.rpc")

_SPARE_CALLS = 4096
"""How much gRPC's own limit on calls exceeds the door's. gRPC's limit also refuses health probes, so it must be higher;
it bounds memory when callers open calls and send nothing. Calls refused by the door end at once and do not add up."""


class Door:
    """Admits the calls of one service, each by the admission of its method. Health probes do not pass it."""

    def __init__(
        self,
        part: str,
        others: Admission,
        admissions: Mapping[str, Admission] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`part` is the service's name in a sentence. Methods that `admissions` does not name share `others`."""
        self.part = part
        self._others = others
        self._admissions = dict(admissions or {})
        self._clock = clock
        for one in {others, *self._admissions.values()}:
            CALLS_INSIDE.labels(one.kind).set_function(partial(getattr, one, "inside"))
            CALLS_REFUSED.labels(one.kind)
            if one.promised_s is not None:
                CALLS_EXPECTED.labels(one.kind).set_function(partial(getattr, one, "expected_s"))
                CALLS_PROMISED.labels(one.kind).set(one.promised_s)

    def refusal(self, method: str, left_s: float | None = None) -> Overloaded | None:
        """Why a call of this method is refused now, which is counted; None when it may be admitted.

        `left_s` is the time until the call's own deadline, where it is known.
        """
        admission = self._admission(method)
        why = admission.refusal(left_s)
        if why is None:
            return None
        CALLS_REFUSED.labels(admission.kind).inc()
        return Overloaded(f"{self.part} {why}", todo="wait a moment and try again, or start more of them")

    @contextmanager
    def admitted(self, method: str, left_s: float | None = None) -> Iterator[None]:
        """The block is a call of this method. Overloaded when it is refused."""
        if refusal := self.refusal(method, left_s):
            raise refusal
        admission, answered = self._admission(method), False
        stay = admission.enter(self._clock())
        UNDER_WAY.set(stay)  # each call is a task of its own
        try:
            yield
            answered = True
        finally:
            admission.leave(stay, self._clock(), answered=answered)

    def _admission(self, method: str) -> Admission:
        return self._admissions.get(method, self._others)


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
    """Decorate a servicer's method: what its door does not admit is refused, and every error arrives typed.

    A WatchwordError becomes its status with todo and reason. Any other exception is a bug: the caller gets Broken, and
    the traceback is logged.
    """

    @wraps(call)
    async def guarded(servicer: Servicer, request: Request, context: ServicerContext[Any, Any]) -> Reply:
        try:
            with servicer.door.admitted(call.__name__, context.time_remaining()):
                return await call(servicer, request, context)
        except WatchwordError as error:
            await _refuse(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _refuse(context, _fault(servicer.door.part, call.__name__, error))

    @wraps(call)
    async def traced(servicer: Servicer, request: Request, context: ServicerContext[Any, Any]) -> Reply:
        with _traced(call.__name__, context):
            return await guarded(servicer, request, context)

    return traced


@contextmanager
def _traced(method: str, context: ServicerContext[Any, Any]) -> Iterator[None]:
    """The call as a part of its caller's trace, whose id goes into the trailing metadata of the reply."""
    if not tracing.on():
        yield
        return
    with tracing.serving(method, context.invocation_metadata() or ()):
        context.set_trailing_metadata(tracing.trailer())
        yield


Refused = Callable[[str, str, WatchwordError], None]
"""Told of a call that was refused since it is not known who calls: its method, its peer, and why."""


def _refusing(
    refusal: WatchwordError, refused: Refused | None = None, method: str = ""
) -> Callable[[object, ServicerContext[Any, Any]], Awaitable[None]]:
    async def refuse(_: object, context: ServicerContext[Any, Any]) -> None:
        if refused is not None:
            refused(method, context.peer(), refusal)
        await _refuse(context, refusal)

    return refuse


def streams(call: StreamCall[Servicer, Request, Reply]) -> StreamCall[Servicer, Request, Reply]:
    """Like `answers`, for a method that gives its reply in parts."""

    @wraps(call)
    async def guarded(
        servicer: Servicer, request: Request, context: ServicerContext[Any, Any]
    ) -> AsyncGenerator[Reply, None]:
        try:
            with servicer.door.admitted(call.__name__):
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
    await context.abort(code, message, (*metadata, *(context.trailing_metadata() or ())))


class Callers(Protocol):
    """Tells who calls."""

    async def of(self, authorization: Sequence[str]) -> Caller:
        """Who calls with these `authorization` headers. Raises Unauthenticated and others: the call is refused."""


_CALLER: ContextVar[Caller] = ContextVar("watchword.caller")


def caller() -> Caller:
    """Who makes the call that is being answered. LookupError where nobody looked: nothing may be given then."""
    return _CALLER.get()


class _Authenticating(grpc.aio.ServerInterceptor):
    """Finds out who calls before anything else is done for a call. Health probes need not say."""

    def __init__(self, callers: Callers, refused: Refused | None) -> None:
        self._callers = callers
        self._refused = refused

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        if not handler_call_details.method.startswith("/grpc.health.v1."):
            try:
                told = handler_call_details.invocation_metadata or ()
                given = [str(value) for key, value in told if key == "authorization"]
                _CALLER.set(await self._callers.of(given))
            except WatchwordError as error:
                method = handler_call_details.method.rpartition("/")[2]
                return grpc.stream_stream_rpc_method_handler(_refusing(error, self._refused, method))
        return await continuation(handler_call_details)


class _AtTheDoor(grpc.GenericRpcHandler):
    """Looks up the methods of a service. While a method's door is shut, it returns a method that refuses.

    The refusing method is a streaming one: for a unary call gRPC would first read and parse the message, and a refusal
    should cost neither memory nor time.
    """

    def __init__(self, methods: grpc.GenericRpcHandler, door: Door) -> None:
        self._methods = methods
        self._door = door

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = self._methods.service(handler_call_details)
        if method is None:
            return None
        refusal = self._door.refusal(handler_call_details.method.rpartition("/")[2])
        return method if refusal is None else grpc.stream_stream_rpc_method_handler(_refusing(refusal))


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

    def __init__(
        self,
        part: str,
        service: str,
        *,
        most_calls: int,
        admissions: Mapping[str, Admission] | None = None,
        callers: Callers | None = None,
        refused: Refused | None = None,
    ) -> None:
        """`part` names it in messages, `service` on the wire. `admissions` are those of single methods, by name; all
        other methods together have `most_calls` at once. Without `callers` nobody finds out who calls.
        `refused` is told of those whom they refuse."""
        self.door = Door(part, Admission("other", most=most_calls), admissions)
        self.address = ""
        """HOST:PORT that it listens on, once started."""
        self._service = service
        self._health = health.aio.HealthServicer()
        self._tasks: set[asyncio.Task[None]] = set()
        most = most_calls + sum(one.most for one in set((admissions or {}).values()))
        self._server = grpc.aio.server(
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=most + _SPARE_CALLS,
            interceptors=[_Authenticating(callers, refused)] if callers is not None else None,
        )
        self.methods: Any = _Registrar(self._server, self.door)
        """Pass this to the generated code that adds the service, before `start`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self, address: str, tls: ServerTls | None = None) -> None:
        """Listen at `address` (HOST:PORT; port 0 takes a free one), with TLS if there is a certificate. Broken when
        that fails."""
        await self._set_health(ready=False)
        try:
            if tls is not None and tls.certificate:
                port = self._server.add_secure_port(address, server_credentials(tls))
            else:
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
