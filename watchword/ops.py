"""The small HTTP endpoint of each process: /ready for orchestrators, /metrics for Prometheus.

What must stay bounded at thousands of cameras is no metric: /cameras/worst of a camera process tells the worst few.
"""

from __future__ import annotations

import hmac
import http.client
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from proto.access import is_loopback
from proto.errors import Broken, Invalid, Transient, Unknown
from watchword.settings import OpsSettings

Ready = Callable[[], str | None]
"""Returns None when the process can work, else a sentence about what it waits for."""


Worst = Callable[[Mapping[str, str]], Mapping[str, Any]]
"""The worst cameras, by the query of the request. Invalid when that is wrong, Unknown where none are watched."""


_REFUSED = "a token is needed here: send the header `authorization: Bearer TOKEN` with ops.token, or set ops.open_to"
_HOW = {"www-authenticate": "Bearer"}


@asynccontextmanager
async def ops_endpoint(settings: OpsSettings, ready: Ready, worst_cameras: Worst) -> AsyncIterator[str]:
    """Serve inside the block; yields HOST:PORT."""

    async def answer_ready(_: web.Request) -> web.Response:
        waiting = ready()
        return web.Response(text=waiting or "ready", status=503 if waiting else 200)

    def refusal(request: web.Request) -> web.Response | None:
        return None if _may_see(settings, request) else web.Response(text=_REFUSED, status=401, headers=_HOW)

    async def answer_metrics(request: web.Request) -> web.Response:
        return refusal(request) or web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def answer_worst(request: web.Request) -> web.Response:
        if refused := refusal(request):
            return refused
        try:
            return web.json_response(worst_cameras(request.query))
        except (Invalid, Unknown) as error:
            return web.Response(text=str(error), status=404 if isinstance(error, Unknown) else 400)

    app = web.Application()
    app.add_routes(
        [
            web.get("/ready", answer_ready),
            web.get("/metrics", answer_metrics),
            web.get("/cameras/worst", answer_worst),
        ]
    )
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


def _may_see(settings: OpsSettings, request: web.Request) -> bool:
    if settings.open_to == "anyone who reaches it":
        return True
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    token = settings.token.get_secret_value()
    if token and kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return True
    return settings.open_to == "this machine" and is_loopback(f"{request.remote or ''}:0")


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
