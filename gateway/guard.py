"""What every request passes: whose page asks, how much at once, how large, how long; errors become answers.

Plain ASGI, around the whole application.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any

from gateway.entries import Entries
from gateway.problems import MEDIA_TYPE, Refused, problem_of
from gateway.settings import GatewaySettings
from proto.access import is_loopback
from proto.admission import Admission
from proto.errors import Broken, Denied, Overloaded, Unauthenticated, WatchwordError
from proto.metrics import GATEWAY_REQUESTS, GATEWAY_SECONDS
from proto.serving import Door

log = logging.getLogger("watchword.gateway")
access_log = logging.getLogger("watchword.gateway.access")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY_BYTES = 8 * 1024 * 1024
"""As much as the largest picture that a question may hold."""

_OWN_NAMES = {"localhost", "127.0.0.1", "[::1]"}
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""On every answer that does not say otherwise itself."""


_PROVING = {
    *("search", "searchByBody", "picture", "clip", "cameras", "whoAmI", "liveEvents", "storage", "tokens", "audit"),
    *("camera", "addCamera", "changeCamera", "removeCamera", "testPicture", "createToken", "revokeToken", "addDemo"),
    *("erasures", "erase", "receipt"),
}
"""Calls that are answered only with a token that counts, where one is brought."""


class Guard:
    """Admits requests to `app`, and makes an answer of every error that it raises."""

    def __init__(
        self,
        app: App,
        settings: GatewaySettings,
        clock: Callable[[], float] = time.monotonic,
        ending: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`ending` ends the answers that `app` gives without an end."""
        self._app = app
        self._ending = ending
        self._entries = Entries()
        self._clock = clock
        self._settings = settings
        self._door = Door("the gateway", Admission("gateway", most=settings.max_concurrent))
        own = settings.listen.rpartition(":")[0].lower()
        self._hosts = {host.lower() for host in settings.hosts} | _OWN_NAMES | {own}
        self._any_host = not is_loopback(settings.listen) and not settings.hosts
        sharing = "cross-origin" if settings.origins else "same-origin"
        self._headers = {**_HEADERS, "cross-origin-resource-policy": sharing}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = time.perf_counter()
        answer = _Answer(send, self._headers)
        try:
            await self._admitted(scope, receive, answer)
        except WatchwordError as error:
            await answer.tell(error)
        except Exception as error:
            log.exception("the gateway met a fault of its own")
            todo = "its log says why; report this if it fails again"
            await answer.tell(Broken(f"the gateway failed ({type(error).__name__})", todo=todo))
        finally:
            took_s = time.perf_counter() - begun
            route = scope.get("watchword.route", "other")
            GATEWAY_REQUESTS.labels(part=route, outcome=str(answer.status or "gone")).inc()
            GATEWAY_SECONDS.labels(part=route).observe(took_s)
            _note(scope, answer, took_s)

    async def end(self) -> None:
        """End the answers that have no end of their own."""
        if self._ending is not None:
            await self._ending()

    async def _admitted(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        self._check_host(headers)
        self._check_site(scope, headers)
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 12 or int(length) > MOST_BODY_BYTES):
            raise _too_large()
        with self._door.admitted("request"), self._entering(scope, headers, answer):
            await self._app(scope, _Body(receive, self._settings.body_s).receive, answer.send)

    @contextmanager
    def _entering(self, scope: Scope, headers: Mapping[str, str], answer: _Answer) -> Iterator[None]:
        """The block serves the request. An address whose tokens do not count is not heard for a while, before they
        cost the query service anything."""
        token, address = headers.get("authorization", ""), (scope.get("client") or ("", 0))[0]
        if not token:
            yield
            return
        if wait_s := self._entries.wait_s(address, token, self._clock()):
            todo = "wait, and bring a token that counts: `watchword token create NAME` makes one"
            raise Overloaded("too many tokens from this address did not count", todo=todo, wait_s=wait_s)
        trying = ExitStack()
        trying.enter_context(self._entries.trying(address, token, self._clock()))

        def begun() -> None:
            # Whether the token counts is known by now, and a stream may last for hours.
            trying.close()
            if 200 <= answer.status < 300 and scope.get("watchword.route") in _PROVING:
                self._entries.passed(token, self._clock())

        answer.begun = begun
        status = 0
        try:
            with trying:
                yield
            status = answer.status
        except WatchwordError as error:
            status = 401 if isinstance(error, Unauthenticated) else 0
            raise
        finally:
            if status == 401:
                self._entries.failed(address, self._clock())

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """On loopback only this machine's own names are served: a web page could point a name of its own here."""
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if not self._any_host and name not in self._hosts:
            todo = "ask it as 127.0.0.1 or localhost, or add the name to gateway.hosts"
            raise Refused(421, "wrong_host", f"the gateway does not serve {name[:80]!r}", todo=todo)

    def _check_site(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """A page of another site may link here, but not load from here. Browsers say whose page asks."""
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
        if headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET":
            return
        if headers.get("origin", "") not in self._settings.origins:
            raise Denied("a web page of another site asked", todo="name its origin in gateway.origins if it may")


class _Body:
    """The body of a request: bounded in size and time."""

    def __init__(self, receive: Receive, within_s: float) -> None:
        self._receive = receive
        self._until = asyncio.get_running_loop().time() + within_s
        self._within_s = within_s
        self._size = 0
        self._more = True

    async def receive(self) -> Message:
        if not self._more:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            todo = "send it faster, or raise gateway.body_s"
            raise Refused(408, "slow_body", f"the body did not arrive within {self._within_s:g} s", todo=todo) from None
        self._size += len(message.get("body", b""))
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        if self._size > MOST_BODY_BYTES:
            raise _too_large()
        return message


def _too_large() -> Refused:
    todo = f"send at most {MOST_BODY_BYTES // 1024**2} MiB"
    return Refused(413, "too_large", f"the body has more than {MOST_BODY_BYTES} bytes", todo=todo)


class _Answer:
    """The answer to one request, with the headers that every answer has."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0
        """0 until it has begun."""
        self.size = 0
        self.begun: Callable[[], None] = lambda: None
        """Called when it has begun."""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.begun()
            given = list(message.get("headers", ()))
            names = {key.lower() for key, _ in given}
            more = [(key.encode(), value.encode()) for key, value in self._headers.items()]
            message = {**message, "headers": given + [pair for pair in more if pair[0] not in names]}
        self.size += len(message.get("body", b""))
        await self._send(message)

    async def tell(self, error: WatchwordError) -> None:
        """Answer with the problem; an answer that has begun can only be broken off."""
        if self.status:
            raise error
        problem = problem_of(error)
        body = json.dumps(problem.body, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **problem.headers}
        pairs = [(key.encode(), value.encode("latin-1", "replace")) for key, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})


def _note(scope: Scope, answer: _Answer, took_s: float) -> None:
    """One line for each request. Without the query string: it holds what people look for."""
    path = scope.get("raw_path", b"").decode("ascii", "replace")[:200]
    client = scope.get("client") or ("-", 0)
    access_log.info(
        "%s %s %d %d bytes %.1f ms from %s", scope["method"], path, answer.status, answer.size, 1000 * took_s, client[0]
    )
