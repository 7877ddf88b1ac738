"""Who calls the query service: by the token that a call brings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from catalog.known_tokens import KnownTokens
from catalog.tokens import token_id
from identity.jwts import is_jwt
from identity.people import Person
from proto.access import NOBODY_ASKED, Caller
from proto.errors import Overloaded, Transient, Unauthenticated
from proto.rates import Rates
from proto.types import now_ms
from query.aside import Aside

log = logging.getLogger("watchword.query")

_EVERY_S = 1.0
_LEAST_S = 0.2
"""Between two readings, however many tokens come that are not known: they cost the catalog no more."""
_ANEW_S = 2.0
_MOST_WAITING = 256


class Everyone:
    """Callers where no token is needed and none is known."""

    async def of(self, authorization: Sequence[str]) -> Caller:  # noqa: ARG002
        """Everybody may do everything."""
        return NOBODY_ASKED


class People(Protocol):
    """Says who a token of an issuer is of: `identity.checking.Checker`."""

    async def person(self, token: str) -> Person: ...


class TokenCallers:
    """Callers by their tokens, which are followed in the background: a call asks the catalog nothing."""

    def __init__(
        self,
        known: KnownTokens,
        *,
        needed: bool,
        nobody: Caller = NOBODY_ASKED,
        people: People | None = None,
        rates: Rates | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`needed`: whether calls without a token are refused. `nobody` is who they come from where they are not.
        Without `people` no issuer's token counts. `rates` says how often each token may call."""
        self._nobody = nobody
        self._known = known
        self._rates = rates
        self._clock = clock
        self._needed = needed
        self._people = people
        self._aside = Aside(1, "tokens")
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the tokens, and follow their changes from now on."""
        self._following = asyncio.create_task(self._follow())
        await self._read_anew()

    async def stop(self) -> None:
        """Follow them no longer."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    async def of(self, authorization: Sequence[str]) -> Caller:
        """Who calls with these `authorization` headers. Unauthenticated, or Transient when that cannot be checked.

        Denied for somebody whom the issuer knows, and to whom nothing is granted. Overloaded for a token that calls
        too often.
        """
        if not authorization and not self._needed:
            return self._nobody
        who = await self._who(_bearer(authorization))
        if self._rates is not None:
            now_s = self._clock()
            wait_s = self._rates.wait_s(who.token, now_s)
            if wait_s > 0:
                raise _too_often(self._rates, wait_s)
            self._rates.spend(who.token, now_s)
        return who

    async def _who(self, secret: str) -> Caller:
        if self._people is not None and is_jwt(secret):
            person = await self._people.person(secret)
            return self._known.caller_with(person.grants, person.name, f"oidc:{person.subject}")
        # Only what has the form of a token is worth a look at the catalog: it may have been made just now.
        if token_id(secret) is not None and not self._known.knows(secret) and not await self._read_anew():
            todo = "try again; does the catalog answer?"
            raise Transient("this token cannot be checked now: the catalog does not answer", todo=todo)
        return self._known.caller(secret, now_ms())

    async def _read_anew(self) -> bool:
        """Wait for a reading that begins from now on. False when it does not end soon."""
        if len(self._waiting) >= _MOST_WAITING:
            # Not Overloaded: clients repeat what was refused for that, and here it is mostly forged.
            raise Transient("this token cannot be checked now: many unknown ones are", todo="try again in a moment")
        read = asyncio.get_running_loop().create_future()
        self._waiting.append(read)
        self._wanted.set()
        try:
            async with asyncio.timeout(_ANEW_S):
                await read
        except TimeoutError:
            return False
        finally:
            if read in self._waiting:
                self._waiting.remove(read)
        return True

    async def _follow(self) -> None:
        while True:
            self._wanted.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self._aside.run(self._known.read)
            except Exception:
                # Were it to end, a token that is revoked would go on.
                log.exception("the tokens could not be read; it is tried again")
            for one in waiting:
                if not one.done():
                    one.set_result(None)
            await asyncio.sleep(_LEAST_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S - _LEAST_S):
                    await self._wanted.wait()


def _too_often(rates: Rates, wait_s: float) -> Overloaded:
    message = f"this token makes more than {rates.per_s:g} calls a second"
    todo = f"wait {max(0.1, wait_s):.1f} s, ask less often, or have access.rate raised"
    return Overloaded(message, todo=todo, wait_s=wait_s)


def _bearer(authorization: Sequence[str]) -> str:
    todo = "send the metadata `authorization: Bearer TOKEN`; `watchword token create NAME` makes one"
    if not authorization:
        raise Unauthenticated("a token is needed here", todo=todo)
    kind, _, secret = authorization[0].partition(" ")
    if len(authorization) > 1 or kind.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("the authorization is no bearer token", todo=todo)
    return secret.strip()
