"""The application: the API's routes, its description, the console's files, behind the guard."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api import AT_HEADER, Api
from gateway.assistant import PATH, Assistant
from gateway.calls import Endpoint
from gateway.describing import description
from gateway.desk import Desk
from gateway.guard import App, Guard
from gateway.live import Live
from gateway.managing import SEEN_HEADER, Managing
from gateway.problems import Refused
from gateway.queries import Manage, Queries
from gateway.settings import GatewaySettings
from gateway.shapes import API, WHO
from gateway.watching import Watches

CONSOLE = Path(__file__).with_name("console")
"""The console's files, where they were built."""

_PLAIN_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Watchword</title>
<h1>Watchword</h1>
<p>This is the REST gateway. The console was not built into it. Ask it so:</p>
<pre>
curl -G 'http://HOST:PORT/api/v1/search' --data-urlencode 'q=a person riding a bicycle'
curl 'http://HOST:PORT/api/v1/cameras'
</pre>
<p>Everything it can do: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a>.</p>
</html>
"""


def application(
    queries: Queries,
    settings: GatewaySettings,
    version: str,
    *,
    assistant: Assistant | None = None,
    console: Path = CONSOLE,
    needs_token: bool = False,
    manage: Manage | None = None,
    watches: Watches | None = None,
    around: Callable[[App], App] | None = None,
) -> Guard:
    """The whole application over a query service. `assistant`, which must be running, is served too, and with `manage`
    the calls that change the house. `around` is put between the guard and everything else: `gateway.login.Login`."""
    api = Api(queries, version, needs_token=needs_token)
    watches = watches or Watches()
    live = Live(queries, watches, needs_token=needs_token)
    endpoints: tuple[Endpoint, ...] = (*api.endpoints, *live.endpoints)
    if manage is not None:
        managing = Managing(manage, needs_token=needs_token)
        endpoints += (*managing.endpoints, *Desk(managing).endpoints)
    described = json.dumps(description(endpoints, version)).encode()

    async def openapi(_: Request) -> Response:
        return Response(described, media_type="application/json")

    routes: list[Any] = [_route(one) for one in _merged(endpoints)]
    routes.append(Route(f"{API}/openapi.json", _named("openapi", openapi)))
    routes.append(Route(WHO, _named("login", _no_login)))
    if assistant is not None:
        # GET would open a stream on which nothing is ever said, and keep one of the places of requests.
        routes.append(Route(PATH, _Named("mcp", assistant), methods=["POST"]))
    files: ASGIApp = _nowhere
    if (console / "index.html").is_file():
        files = _Console(directory=console, html=True)
    else:
        routes.append(Route("/", _named("page", _plain_page)))
    app: ASGIApp = _Routed(routes, files)
    if settings.origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("authorization", "content-type", "if-match", "if-none-match", "last-event-id"),
            expose_headers=("etag", "retry-after", AT_HEADER, SEEN_HEADER),
        )
    return Guard(around(app) if around else app, settings, ending=watches.stop)


class _Routed:
    """The routes, then the files. What neither has is Refused.

    The files are no route: one that matches every path would hide that a path of the API has other methods.
    """

    def __init__(self, routes: list[Any], files: ASGIApp) -> None:
        async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
            await (_nowhere if scope["path"].startswith("/api/") else files)(scope, receive, send)

        self._router = Router(routes, redirect_slashes=False, default=elsewhere)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # Otherwise Starlette answers a wrong method itself, in plain text.
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            allow = (error.headers or {}).get("Allow", "")
            raise _refused(scope, error.status_code, allow) from None


def _refused(scope: Scope, status: int, allow: str) -> Refused:
    path = scope["path"][:120]
    if status == 405:
        method = scope["method"][:20]
        todo = f"use {allow}" if allow else ""
        return Refused(405, "method_not_allowed", f"{path!r} has no {method}", todo=todo, allow=allow)
    return Refused(404, "no_such_path", f"there is nothing at {path!r}", todo=f"{API}/openapi.json names all that is")


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    del receive, send
    raise _refused(scope, 404, "")


async def _no_login(_: Request) -> Response:
    return JSONResponse({"name": "", "login": "", "logout": ""})


async def _plain_page(_: Request) -> Response:
    return HTMLResponse(_PLAIN_PAGE)


def _named(name: str, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The answer, which also notes under what name the request is counted."""

    async def noted(request: Request) -> Response:
        request.scope["watchword.route"] = name
        return await answer(request)

    return noted


def _merged(endpoints: tuple[Endpoint, ...]) -> list[list[Endpoint]]:
    """The endpoints by path, so that a wrong method can be told which ones there are."""
    found: dict[str, list[Endpoint]] = {}
    for one in endpoints:
        found.setdefault(one.path, []).append(one)
    return list(found.values())


def _route(endpoints: list[Endpoint]) -> Route:
    """One route for all methods of a path."""
    answers = {one.method: _named(one.name, one.answer) for one in endpoints}

    async def answer(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return Route(endpoints[0].path, answer, methods=list(answers))


class _Named:
    """An application, which also notes under what name its requests are counted."""

    def __init__(self, name: str, app: ASGIApp) -> None:
        self._name = name
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["watchword.route"] = self._name
        await self._app(scope, receive, send)


class _Console(StaticFiles):
    """The console's files. Those with a hash in their name never change; the others are asked for each time."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        scope["watchword.route"] = "console"
        response = await super().get_response(path, scope)
        lasting = path.startswith("assets/") and response.status_code in (200, 304)
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return response
