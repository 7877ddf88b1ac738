"""The issuer over HTTP: its discovery document, its keys, and tokens for a login."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import aiohttp

from identity.jwts import Keys
from identity.settings import OidcSettings, safe_address
from proto.errors import Broken, Transient, Unauthenticated, WatchwordError

log = logging.getLogger("watchword.identity")

_MOST_BYTES = 1024 * 1024
_TODO = "is oidc.issuer right, and can this machine reach it?"


@dataclass(frozen=True, slots=True)
class Known:
    """What was read of the issuer."""

    keys: Keys
    places: Mapping[str, str]
    """Its endpoints by the names of the discovery document."""


class Issuer:
    """Asks the issuer. For one event loop. Raises Transient while it is away, Broken when what it says is wrong."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def read(self) -> Known:
        """Its discovery document and its keys, as they are now."""
        issuer = self._settings.issuer
        document = await self._json("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            todo = f"set oidc.issuer to {str(document.get('issuer'))[:200]!r} if that is who is trusted"
            raise Broken(f"{issuer} says that it is another issuer", todo=todo)
        places = {key: value for key, value in document.items() if isinstance(value, str)}
        if not safe_address(places.get("jwks_uri", "")):
            raise Broken(f"{issuer} names no https address of its keys", todo=_TODO)
        return Known(Keys(await self._json("GET", places["jwks_uri"])), places)

    async def tokens(self, endpoint: str, form: Mapping[str, str]) -> dict[str, Any]:
        """What its token endpoint gives for this form. Unauthenticated when it refuses."""
        name, secret = self._settings.client_id, self._settings.client_secret.get_secret_value()
        if not secret:
            return await self._json("POST", endpoint, data={**form, "client_id": name})
        # RFC 6749 wants both encoded as in a form before they are joined.
        pair = f"{quote_plus(name)}:{quote_plus(secret)}".encode()
        headers = {"authorization": f"Basic {b64encode(pair).decode()}"}
        return await self._json("POST", endpoint, data=form, headers=headers)

    async def _json(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        if not safe_address(url):
            raise Broken("the issuer names an address that is not https", todo=_TODO)
        try:
            async with self._opened().request(method, url, allow_redirects=False, **more) as answer:
                body = await answer.content.read(_MOST_BYTES + 1)
                while len(body) <= _MOST_BYTES and (part := await answer.content.read(_MOST_BYTES)):
                    body += part
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Transient(f"the issuer does not answer ({type(error).__name__})", todo=_TODO) from None
        if answer.status in (400, 401) and method == "POST":
            raise Unauthenticated("the issuer refuses the login", todo="log in again")
        if answer.status != 200:
            raise Transient(f"the issuer answers with status {answer.status}", todo=_TODO)
        try:
            found = json.loads(body) if len(body) <= _MOST_BYTES else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Broken("the issuer's answer is no JSON object that can be read", todo=_TODO)
        return found

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context: ssl.SSLContext | bool = True
            if self._settings.ca:
                try:
                    context = ssl.create_default_context(cafile=self._settings.ca)
                except (OSError, ValueError) as error:
                    raise Broken(f"oidc.ca cannot be used ({error})", todo="name a PEM file") from None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=8),
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class KeyBook:
    """The issuer as it was read last. It is read when somebody asks, so without tokens nothing is fetched.

    What is known is used at once and read again beside that when it is older than `keys_every_s`. A key that is not
    known is waited for, but at most one reading begins in `keys_least_s`, whatever the number of callers.
    """

    def __init__(self, issuer: Issuer, settings: OidcSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._settings = settings
        self._clock = clock
        self._known: Known | None = None
        self._read_s = 0.0
        """When the latest reading that succeeded began."""
        self._begun_s: float | None = None
        """When the latest reading began."""
        self._why: WatchwordError | None = None
        self._reading: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def known(self) -> Known:
        """What is known, read first where nothing is. Transient when nothing is, or it is too old."""
        if self._known is None:
            await self._again()
        elif self._clock() - self._read_s > self._settings.keys_every_s:
            self._begin()
        if self._known is None or self._clock() - self._read_s > self._settings.keys_known_for_s:
            why = self._why.message if self._why else "they were not read yet"
            todo = "try again when the issuer answers; a token made by `watchword token create` counts meanwhile"
            raise Transient(f"the issuer's keys cannot be had ({why})", todo=todo)
        return self._known

    async def newer(self, than: Known) -> Known | None:
        """What is known after one more reading, if one may begin, or is under way; None when it is the same as before.

        Transient when the issuer is away: the key may be a new one.
        """
        if self._known is than:
            await self._again()
        if self._known is than and self._why is not None:
            raise Transient(f"this token cannot be checked now: {self._why.message}", todo=_TODO)
        return self._known if self._known is not than else None

    async def _again(self) -> None:
        if reading := self._begin():
            await asyncio.wait({reading})

    def _begin(self) -> asyncio.Task[None] | None:
        """The reading that is under way, or a new one; None when it is too early for one."""
        if self._reading is not None and not self._reading.done():
            return self._reading
        if self._begun_s is not None and self._clock() - self._begun_s < self._settings.keys_least_s:
            return None
        self._begun_s = self._clock()
        self._reading = asyncio.create_task(self._read(self._begun_s))
        return self._reading

    async def _read(self, begun_s: float) -> None:
        try:
            found = await self._issuer.read()
        except WatchwordError as error:
            if self._why is None:
                log.warning("the issuer cannot be read; its known keys are used for now: %s", error)
            self._why = error
            return
        except Exception as error:
            log.exception("the issuer cannot be read")
            self._why = Transient(f"reading it failed ({type(error).__name__})")
            return
        if self._why is not None:
            log.info("the issuer can be read again")
        self._why, self._read_s = None, begun_s
        if self._known is None or self._known.keys != found.keys or self._known.places != found.places:
            self._known = found
