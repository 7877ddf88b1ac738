"""The small HTTP endpoint of each process: /ready for orchestrators, /metrics for Prometheus."""

from __future__ import annotations

import http.client
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from proto.errors import Broken, Invalid, Transient
from watchword.settings import OpsSettings

Ready = Callable[[], str | None]
"""Returns None when the process can work, else a sentence about what it waits for."""


@asynccontextmanager
async def ops_endpoint(settings: OpsSettings, ready: Ready) -> AsyncIterator[str]:
    """Serve inside the block; yields HOST:PORT."""

    async def answer_ready(_: web.Request) -> web.Response:
        waiting = ready()
        return web.Response(text=waiting or "ready", status=503 if waiting else 200)

    async def answer_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/ready", answer_ready), web.get("/metrics", answer_metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            raise Broken(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror})", todo="set another ops.port"
            ) from error
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


_PROBE_S = 3.0


def probe(settings: OpsSettings) -> None:
    """Return when the process on this machine's `ops.port` is ready. Raises Transient with what it waits for."""
    if not settings.port:
        raise Invalid("ops.port is not set, so nobody knows where to ask", todo="set it as the process has it")
    connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=_PROBE_S)
    try:
        connection.request("GET", "/ready")
        reply = connection.getresponse()
        said = reply.read(1000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Transient(f"no process answers on port {settings.port} ({error})", todo="is it running?") from error
    finally:
        connection.close()
    if reply.status != http.client.OK:
        raise Transient(f"not ready: {said}", todo="wait, and look at its log")
