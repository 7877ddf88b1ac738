"""Tokens checked: who they are of, remembered for as long as they and the issuer's keys count."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from identity.issuer import Issuer, KeyBook, Known
from identity.jwts import UnknownKey, verified
from identity.people import Person, person_of
from identity.settings import OidcSettings
from proto.errors import Transient, Unauthenticated
from proto.types import now_ms

_MOST_KNOWN = 4096
_MOST_WAITING = 256


Result = TypeVar("Result")


class Checker:
    """Says who a token is of. For one event loop."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = now_ms,
    ) -> None:
        self._issuer = Issuer(settings)
        self._book = KeyBook(self._issuer, settings, clock)
        self._settings = settings
        self._now = now
        self._people: dict[bytes, Person] = {}
        self._known: Known | None = None
        self._waiting = 0

    async def close(self) -> None:
        """Close the connections to the issuer."""
        await self._book.close()
        await self._issuer.close()

    async def known(self) -> Known:
        """The issuer as it was read last. Transient while it is away for too long."""
        return await self._at_most_some(self._book.known)

    async def tokens(self, endpoint: str, form: Mapping[str, str]) -> dict[str, Any]:
        """What the issuer's token endpoint gives for this form. Unauthenticated when it refuses."""
        return await self._at_most_some(lambda: self._issuer.tokens(endpoint, form))

    async def person(self, token: str) -> Person:
        """Who it is of. Unauthenticated when it does not count, Denied when nothing is granted to them, Transient while
        that cannot be said."""
        known = await self.known()
        if known is not self._known:
            # What was signed by a key that is gone counts no more.
            self._known, self._people = known, {}
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        person = self._people.get(digest)
        if person is None:
            person = person_of(await self.claims(token, self._settings.audiences), self._settings)
            if self._known is known:  # else they were dropped meanwhile
                self._remember(digest, person)
        elif person.until_ms + 1000 * self._settings.leeway_s <= self._now():
            del self._people[digest]
            raise Unauthenticated("the token has expired", todo="log in again, or get a new token from the issuer")
        return person

    async def claims(self, token: str, audiences: tuple[str, ...]) -> dict[str, Any]:
        """The claims of a token for one of these audiences. Raises as `person` does, but not Denied."""
        known = await self.known()
        try:
            return verified(token, known.keys, self._settings, audiences)
        except UnknownKey:
            newer = await self._at_most_some(lambda: self._book.newer(known))
            if newer is None:
                raise
        return verified(token, newer.keys, self._settings, audiences)

    def _remember(self, digest: bytes, person: Person) -> None:
        while len(self._people) >= _MOST_KNOWN:
            del self._people[next(iter(self._people))]
        self._people[digest] = person

    async def _at_most_some(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """What is asked for. Transient when many wait for the issuer already."""
        if self._waiting >= _MOST_WAITING:
            raise Transient("this token cannot be checked now: many wait for the issuer", todo="try again in a moment")
        self._waiting += 1
        try:
            return await ask()
        finally:
            self._waiting -= 1
