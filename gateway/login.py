"""Logins of browsers at an OpenID Connect issuer: authorization code with PKCE, and a session in a cookie.

Around the API: a request with a session goes on with the token of whoever logged in, as if it had brought that. So all
that follows knows tokens alone, and the query service decides what they may see.
"""

from __future__ import annotations

import hmac
import html
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from gateway.guard import App, Receive, Scope, Send
from gateway.problems import Refused
from gateway.sessions import BEGUN_FOR_S, Sealed, Session, Sessions, begun
from gateway.shapes import WHO
from identity.issuer import Known
from identity.jwts import MOST_BYTES
from identity.people import Person
from identity.settings import OidcSettings
from proto.errors import Denied, Transient, Unauthenticated, WatchwordError
from proto.types import now_ms

log = logging.getLogger("watchword.gateway")

LOGIN, CALLBACK, LOGOUT, OUT = "/login", "/login/callback", "/logout", "/login/out"
_TODO = "begin again at /login"

_OUT_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Watchword</title>
<h1>Watchword</h1>
<p>{told}</p>
<p><a href="/login">Log in</a></p>
</html>
"""
_ON_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={then}"><title>Watchword</title>
<p><a href="{then}">Go on</a></p>
</html>
"""


class Issuers(Protocol):
    """What a login asks the issuer, and of its tokens."""

    async def known(self) -> Known: ...

    async def tokens(self, endpoint: str, form: Mapping[str, str]) -> dict[str, Any]: ...

    async def claims(self, token: str, audiences: tuple[str, ...]) -> dict[str, Any]: ...

    async def person(self, token: str) -> Person: ...


class Login:
    """Serves the login's paths, and `app` for whoever is logged in."""

    def __init__(
        self,
        app: App,
        issuers: Issuers,
        settings: OidcSettings,
        *,
        needs_token: bool = False,
        now: Callable[[], int] = now_ms,
    ) -> None:
        self._app = app
        self._issuers = issuers
        self._settings = settings
        self._first = settings.login_first and needs_token
        self._now = now
        self._sessions = Sessions()
        self._sealed = Sealed()
        self._home = settings.public_url.rstrip("/")
        self._secure = self._home.startswith("https://")
        # A name with this prefix is taken from this host alone, and over TLS.
        self._cookie = "__Host-watchword" if self._secure else "watchword"
        self._begun_cookie = "__Secure-watchword-login" if self._secure else "watchword-login"
        self._paths: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
            ("GET", LOGIN): self._login,
            ("GET", CALLBACK): self._callback,
            ("POST", LOGOUT): self._logout,
            ("GET", WHO): self._who,
            ("GET", OUT): self._out,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if answer := self._paths.get((scope["method"], scope["path"])):
            scope["watchword.route"] = "login"
            await (await self._told(answer, Request(scope, receive)))(scope, receive, send)
            return
        request = Request(scope, receive)
        if self._first and self._opens_console(request) and self._session_of(request) is None:
            await self._to_login(request)(scope, receive, send)
            return
        of_api = scope["path"].startswith("/api/") and "authorization" not in request.headers
        if of_api and (token := await self._token(request)):
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {token}".encode())]}
        await self._app(scope, receive, send)

    async def _login(self, request: Request) -> Response:
        """Send the browser to the issuer."""
        known = await self._issuers.known()
        made = begun(request.query_params.get("then", "/"), self._now())
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._home + CALLBACK,
            "scope": " ".join(self._settings.scopes),
            "state": made.state,
            "nonce": made.nonce,
            "code_challenge": made.challenge,
            "code_challenge_method": "S256",
        }
        place = _place(known, "authorization_endpoint")
        answer = RedirectResponse(f"{place}{'&' if '?' in place else '?'}{urlencode(asked)}", 303)
        # Lax, since the issuer's page leads back here; the session's own cookie is not sent for other pages.
        answer.set_cookie(
            self._begun_cookie,
            self._sealed.written(made),
            max_age=round(BEGUN_FOR_S),
            path=LOGIN,
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def _callback(self, request: Request) -> Response:
        """The browser returns from the issuer with a code, for which the issuer gives tokens."""
        given = request.query_params
        made = self._sealed.read(request.cookies.get(self._begun_cookie, ""), self._now())
        if made is None or not hmac.compare_digest(made.state.encode(), given.get("state", "").encode()):
            raise Unauthenticated("this login did not begin in this browser, or took too long", todo=_TODO)
        if (issuer := given.get("iss")) is not None and issuer != self._settings.issuer:
            raise Unauthenticated("another issuer answered", todo=_TODO)
        if not (code := given.get("code")):
            told = given.get("error", "no code came")[:80]
            raise Unauthenticated(f"the issuer did not log you in ({told})", todo=_TODO)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._home + CALLBACK,
            "code_verifier": made.verifier,
        }
        session = await self._logged_in(form, made.nonce)
        self._sessions.end(request.cookies.get(self._cookie, ""))
        key = self._sessions.begin(session)
        log.info("%s logged in", session.name)
        answer = _on(made.then)
        # It ends with the browser, too.
        answer.set_cookie(self._cookie, key, secure=self._secure, httponly=True, samesite="strict")
        self._forget_begun(answer)
        return answer

    async def _logged_in(self, form: Mapping[str, str], nonce: str) -> Session:
        known = await self._issuers.known()
        found = await self._issuers.tokens(_place(known, "token_endpoint"), form)
        token = found.get("id_token")
        if not isinstance(token, str) or len(token) > MOST_BYTES:
            raise Unauthenticated(f"the issuer gave no ID token of at most {MOST_BYTES} bytes", todo=_TODO)
        claims = await self._issuers.claims(token, (self._settings.client_id,))
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise Unauthenticated("the issuer's token is of another login", todo=_TODO)
        if claims.get("azp", self._settings.client_id) != self._settings.client_id:
            raise Unauthenticated("the issuer's token was made for another client", todo=_TODO)
        person = await self._issuers.person(token)
        until_ms = self._now() + round(1000 * self._settings.session_s)
        return Session(token, person.until_ms, until_ms, person.name, person.subject, _refresh_of(found))

    async def _logout(self, request: Request) -> Response:
        """Forget the session here, and say where the issuer forgets it."""
        key = request.cookies.get(self._cookie, "")
        ended = self._sessions.end(key) if key else None
        place = ""
        if ended is not None:
            log.info("%s logged out", ended.name)
            with suppress(WatchwordError):  # it is over here, also while the issuer is away
                place = (await self._issuers.known()).places.get("end_session_endpoint", "")
        if place:
            asked = {"client_id": self._settings.client_id, "post_logout_redirect_uri": self._home + OUT}
            place = f"{place}{'&' if '?' in place else '?'}{urlencode(asked)}"
        answer = JSONResponse({"at_issuer": place})
        answer.delete_cookie(self._cookie, secure=self._secure, httponly=True, samesite="strict")
        return answer

    async def _who(self, request: Request) -> Response:
        """Who is logged in; an empty name when nobody is."""
        found = self._session_of(request)
        return JSONResponse({"name": found.name if found else "", "login": LOGIN, "logout": LOGOUT})

    async def _out(self, request: Request) -> Response:  # noqa: ARG002
        return HTMLResponse(_OUT_PAGE.format(told="You are logged out."))

    def _to_login(self, request: Request) -> Response:
        query = request.url.query
        then = request.url.path + (f"?{query}" if query else "")
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            # The session's cookie does not come with a link from another site. Our own page may have it.
            return _on(then)
        return RedirectResponse(f"{LOGIN}?{urlencode({'then': then})}", 303)

    async def _token(self, request: Request) -> str:
        """The token of whoever is logged in; empty when nobody is. Transient while it ended and cannot be renewed."""
        session = self._session_of(request)
        if session is None:
            return ""
        if session.needs_renewal(self._now()):
            async with session.renewing:  # one renews it for all requests of the page
                if session.needs_renewal(self._now()):
                    await self._renew(session)
        if session.token_until_ms <= self._now() or not session.token:
            self._sessions.end(request.cookies.get(self._cookie, ""))
            return ""
        return session.token

    async def _renew(self, session: Session) -> None:
        """A new token for the session; none when the issuer wants no more of it."""
        if not session.refresh:
            return
        try:
            known = await self._issuers.known()
            form = {"grant_type": "refresh_token", "refresh_token": session.refresh}
            found = await self._issuers.tokens(_place(known, "token_endpoint"), form)
            token = found.get("id_token")
            if not isinstance(token, str) or len(token) > MOST_BYTES:
                raise Unauthenticated("the issuer gave no new ID token", todo=_TODO)
            person = await self._issuers.person(token)
            if person.subject != session.subject:
                raise Unauthenticated("the issuer's new token is of somebody else", todo=_TODO)
        except Transient:
            if self._now() >= session.token_until_ms:
                raise
        except (Unauthenticated, Denied) as error:
            log.info("the login of %s is not renewed: %s", session.name, error.message)
            session.token = ""
        else:
            session.token, session.token_until_ms = token, person.until_ms
            session.refresh = _refresh_of(found) or session.refresh

    def _session_of(self, request: Request) -> Session | None:
        key = self._key(request)
        return self._sessions.find(key, self._now()) if key else None

    def _key(self, request: Request) -> str | None:
        """The key of the session. Another site's page has no part in it, whatever the browser makes of SameSite."""
        origin = request.headers.get("origin", "")
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") or (
            origin and _origin(origin) != _origin(self._home)
        ):
            return None
        return request.cookies.get(self._cookie) or None

    def _opens_console(self, request: Request) -> bool:
        """Whether a person opens a page of the console in the browser."""
        return (
            request.method == "GET"
            and request.url.path == "/"
            and request.headers.get("sec-fetch-mode", "navigate") == "navigate"
            and "text/html" in request.headers.get("accept", "")
            and "authorization" not in request.headers
        )

    def _forget_begun(self, answer: Response) -> None:
        answer.delete_cookie(self._begun_cookie, path=LOGIN, secure=self._secure, httponly=True, samesite="lax")

    async def _told(self, answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        """The answer; what goes wrong on the way to the issuer and back is told as a page, for a person reads it."""
        try:
            return await answer(request)
        except WatchwordError as error:
            if request.url.path not in (LOGIN, CALLBACK):
                raise
            log.info("a login failed: %s", error)
            status = 403 if isinstance(error, Denied) else 401 if isinstance(error, Unauthenticated) else 503
            page = HTMLResponse(_OUT_PAGE.format(told=html.escape(str(error))), status_code=status)
            self._forget_begun(page)
            return page


def _on(then: str) -> Response:
    """A page that leads on at once. A redirect would be a part of the way from the issuer's page, without cookies."""
    return HTMLResponse(_ON_PAGE.format(then=html.escape(then)))


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of an address; None when it has none."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


def _place(known: Known, name: str) -> str:
    place = known.places.get(name, "")
    if not place:
        raise Refused(503, "issuer_incomplete", f"the issuer names no {name}", todo="is oidc.issuer right?")
    return place


def _refresh_of(found: Mapping[str, Any]) -> str:
    refresh = found.get("refresh_token")
    return refresh if isinstance(refresh, str) else ""
