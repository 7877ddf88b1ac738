"""The HTTP server: uvicorn, with clients that are slow or too many cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.guard import App
from gateway.problems import MEDIA_TYPE, Refused, problem_of
from gateway.settings import GatewaySettings
from proto.errors import Broken, Invalid
from proto.tls import server_context

log = logging.getLogger("watchword.gateway")

KEEP_ALIVE_S = 75
"""How long an idle connection is kept: longer than proxies keep theirs, so that none sends into a closing one."""
_BACKLOG = 512


class _Protocol(H11Protocol):
    """One connection. uvicorn has no bound for a request that never becomes whole, nor for an answer nobody reads."""

    settings: GatewaySettings

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._head: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        # So `pause_writing` tells of every byte that the client does not take.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self.settings.max_connections:
            transport.abort()
            return
        self._watch_head(idle=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch_head()
        self._unwatch_stalled()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head(idle=not self.conn.trailing_data[0] and self.conn.their_state is h11.IDLE)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head(idle=not self.conn.trailing_data[0] and self.conn.their_state is h11.IDLE)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self.settings.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unwatch_stalled()

    def send_400_response(self, msg: str) -> None:
        error = sys.exc_info()[1]
        status = getattr(error, "error_status_hint", 400)
        reason = "head_too_large" if status == 431 else "not_http"
        told = f"this is no HTTP request that can be read ({error or msg})"
        problem = problem_of(Refused(status, reason, told, todo="send HTTP/1.1"))
        body = json.dumps(problem.body).encode()
        headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
        with contextlib.suppress(h11.LocalProtocolError):
            # After an answer that has begun nothing can be said.
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch_head(self, *, idle: bool) -> None:
        """Bound the time in which a request's head, or a body that was refused, arrives."""
        served = self.cycle is not None and not self.cycle.response_complete
        if served or idle or self.transport.is_closing():
            self._unwatch_head()
        elif self._head is None:
            self._head = self.loop.call_later(self.settings.head_s, self.transport.abort)

    def _unwatch_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _unwatch_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's own matter."""
        yield


class GatewayServer:
    """A running gateway."""

    def __init__(
        self, server: _Server, work: asyncio.Task[None], address: str, ending: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._server = server
        self._ending = ending
        self._work = work
        self.address = address
        """HOST:PORT that it listens on."""

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._server.server_state.connections)

    @property
    def listens(self) -> bool:
        """Whether it takes new connections."""
        return any(server.is_serving() for server in self._server.servers)

    async def stop(self) -> None:
        """Take no new connections, let requests in progress finish within the grace, then cancel them."""
        self._server.should_exit = True
        if self._ending is not None:
            await self._ending()
        await asyncio.wait([self._work])


async def serve_gateway(
    app: App, settings: GatewaySettings, *, grace_s: int, ending: Callable[[], Awaitable[None]] | None = None
) -> GatewayServer:
    """Serve `app` at `settings.listen`; port 0 takes a free one. Broken when that fails. `ending` is called first when
    it stops: without it the stop waits the whole grace for answers that have no end."""
    context = server_context(settings) if settings.certificate else None
    listening = _listening(settings.listen)
    protocol: type[Any] = type("_Bounded", (_Protocol,), {"settings": settings})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
        h11_max_incomplete_event_size=settings.max_header_bytes,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
    server = _Server(config)
    host, port = listening.getsockname()[:2]
    work = asyncio.create_task(server.serve([listening]))
    while not server.started:
        await asyncio.sleep(0.01)
        if work.done():
            await work
            raise Broken("the gateway did not start", todo="its log says why")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    log.info("the gateway answers on %s://%s", "https" if context else "http", address)
    return GatewayServer(server, work, address, ending)


def _listening(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        return socket.create_server(
            (host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except ValueError:
        raise Invalid(f"gateway.listen = {listen!r} is not HOST:PORT", todo="write 127.0.0.1:8701") from None
    except OSError as error:
        todo = "is the port taken? choose another gateway.listen"
        raise Broken(f"the gateway cannot listen on {listen} ({error.strerror})", todo=todo) from error
