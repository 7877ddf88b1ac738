"""Logins of browsers, in memory. Plain values and policy: no I/O."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

MOST = 10_000
"""Most logins at once. The oldest gives way."""
BEGUN_FOR_S = 600.0
"""How long a person may take to log in at the issuer."""
AHEAD_MS = 30_000
"""A token is renewed so long before it ends."""


@dataclass(slots=True)
class Session:
    """A browser that is logged in."""

    token: str
    """The ID token: what the query service is given."""
    token_until_ms: int
    until_ms: int
    name: str
    subject: str
    """What the issuer knows them by."""
    refresh: str = ""
    """The refresh token; empty when the issuer gave none."""
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def needs_renewal(self, now_ms: int) -> bool:
        """Whether its token ends soon."""
        return now_ms >= self.token_until_ms - AHEAD_MS


class Sessions:
    """Who is logged in, by a random key that only the browser has. What is kept here is its hash."""

    def __init__(self) -> None:
        self._by_hash: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_hash)

    def begin(self, session: Session) -> str:
        """Keep it; gives the key."""
        key = secrets.token_urlsafe(32)
        while len(self._by_hash) >= MOST:
            del self._by_hash[next(iter(self._by_hash))]
        self._by_hash[_hash(key)] = session
        return key

    def find(self, key: str, now_ms: int) -> Session | None:
        """The login with this key, if it has not ended."""
        found = self._by_hash.get(_hash(key))
        if found is not None and now_ms >= found.until_ms:
            self.end(key)
            return None
        return found

    def end(self, key: str) -> Session | None:
        """Forget it; gives what it was."""
        return self._by_hash.pop(_hash(key), None)


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that was sent to the issuer, as the browser keeps it in a cookie until it returns."""

    state: str
    nonce: str
    verifier: str
    """Of PKCE: whoever has only the code cannot use it."""
    then: str
    """Where to go afterwards: a path here."""
    until_ms: int

    @property
    def challenge(self) -> str:
        """What the issuer is told of the verifier."""
        return urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


def begun(then: str, now_ms: int) -> Begun:
    """A new login. `then` counts only as a path on this server."""
    inside = then.startswith("/") and not then.startswith(("//", "/\\", "/login")) and then.isprintable()
    return Begun(
        state=secrets.token_urlsafe(24),
        nonce=secrets.token_urlsafe(24),
        verifier=secrets.token_urlsafe(48),
        then=then[:2000] if inside else "/",
        until_ms=now_ms + round(1000 * BEGUN_FOR_S),
    )


class Sealed:
    """Writes what a browser keeps so that it cannot change it."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def written(self, begun: Begun) -> str:
        """As the value of a cookie."""
        told = [begun.state, begun.nonce, begun.verifier, begun.then, begun.until_ms]
        body = urlsafe_b64encode(json.dumps(told).encode())
        return f"{body.decode()}.{self._mark(body)}"

    def read(self, cookie: str, now_ms: int) -> Begun | None:
        """What was written; None when somebody else wrote it, or it is too old."""
        body, _, mark = cookie.rpartition(".")
        if not hmac.compare_digest(self._mark(body.encode()).encode(), mark.encode("utf-8", "replace")):
            return None
        told: list[Any] = json.loads(urlsafe_b64decode(body))
        found = Begun(*told)
        return found if now_ms < found.until_ms else None

    def _mark(self, body: bytes) -> str:
        return hmac.new(self._key, body, hashlib.sha256).hexdigest()


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
