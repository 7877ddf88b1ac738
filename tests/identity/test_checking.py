"""The issuer's keys: read when somebody asks, remembered, rotated, and known for a time while the issuer is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from identity.checking import Checker
from proto.errors import Broken, Denied, Transient, Unauthenticated, WatchwordError
from tests.identity.tokens import SETTINGS, claims, jwks, signed

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Issuing:
    """An issuer on loopback. Its answers can be changed."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.keys: Any = jwks("one")
        self.document: dict[str, Any] = {}
        self.keys_answer: Answer | None = None
        self.here = True

    async def _discovery(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("discovery")
        if not self.here:
            raise web.HTTPBadGateway
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **self.document})

    async def _jwks(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("jwks")
        return await self.keys_answer(request) if self.keys_answer else web.json_response(self.keys)

    def token(self, kid: str = "one", **changed: Any) -> str:
        return signed(claims(iss=self.url, **changed), kid)


@asynccontextmanager
async def issuing(**changed: Any) -> AsyncIterator[tuple[Issuing, Checker, Clock]]:
    issuer = Issuing()
    app = web.Application()
    app.add_routes([web.get("/.well-known/openid-configuration", issuer._discovery), web.get("/jwks", issuer._jwks)])
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    clock, now_s = Clock(), time.time()
    settings = SETTINGS.model_copy(update={"issuer": issuer.url, **changed})
    checker = Checker(settings, clock=clock, now=lambda: round(1000 * (now_s + clock.now_s)))
    try:
        yield issuer, checker, clock
    finally:
        await checker.close()
        await runner.cleanup()


async def test_nothing_is_fetched_before_somebody_asks_and_then_once() -> None:
    async with issuing() as (issuer, checker, _):
        assert issuer.asked == []
        token = issuer.token()
        people = await asyncio.gather(*(checker.person(token) for _ in range(20)))
        assert {person.subject for person in people} == {"u1"}
        assert issuer.asked == ["discovery", "jwks"]


async def test_a_new_key_is_looked_for_at_once_but_not_more_often_than_the_setting_says() -> None:
    async with issuing() as (issuer, checker, clock):
        await checker.person(issuer.token())
        issuer.keys = jwks("one", "two")
        with pytest.raises(Unauthenticated):  # too early for another look
            await checker.person(issuer.token("two"))
        clock.now_s = SETTINGS.keys_least_s
        forged = [issuer.token(f"k{n}") for n in range(30)]
        found = await asyncio.gather(
            checker.person(issuer.token("two")), *(checker.person(one) for one in forged), return_exceptions=True
        )
        assert not isinstance(found[0], BaseException)
        assert all(isinstance(one, Unauthenticated) for one in found[1:])
        assert issuer.asked.count("jwks") == 2


async def test_a_key_that_the_issuer_withdraws_counts_no_more_also_for_tokens_that_were_seen() -> None:
    async with issuing() as (issuer, checker, clock):
        token = issuer.token(exp=time.time() + 10**6)
        await checker.person(token)
        issuer.keys = jwks("two")
        clock.now_s = SETTINGS.keys_every_s + 1
        await checker.person(token)  # the keys are read beside this
        await checker._book._reading  # type: ignore[misc]
        with pytest.raises(Unauthenticated):
            await checker.person(token)
        await checker.person(issuer.token("two"))


async def test_while_the_issuer_is_away_known_keys_count_for_the_stated_time() -> None:
    async with issuing(keys_known_for_s=3600.0) as (issuer, checker, clock):
        token = issuer.token(exp=time.time() + 10**6)
        await checker.person(token)
        issuer.here = False
        clock.now_s = 3600.0
        assert (await checker.person(token)).subject == "u1"
        with pytest.raises(Transient, match="cannot be checked now"):
            await checker.person(issuer.token("two"))
        clock.now_s = 3601.0
        with pytest.raises(Transient, match="keys cannot be had") as refused:
            await checker.person(token)
        assert "token create" in refused.value.todo
        issuer.here = True
        clock.now_s = 3620.0
        for _ in range(2):  # the first begins to read
            found = await asyncio.gather(checker.person(token), return_exceptions=True)
            await checker._book._reading  # type: ignore[misc]
        assert not isinstance(found[0], BaseException)


async def test_an_issuer_that_was_never_reached_is_told_and_asked_again_later() -> None:
    async with issuing() as (issuer, checker, clock):
        issuer.here = False
        for _ in range(5):
            with pytest.raises(Transient, match="status 502"):
                await checker.person(issuer.token())
        assert issuer.asked == ["discovery"]
        issuer.here = True
        clock.now_s = SETTINGS.keys_least_s
        await checker.person(issuer.token())


async def test_a_token_that_was_seen_ends_when_it_expires() -> None:
    async with issuing(keys_every_s=10**5) as (issuer, checker, clock):
        token = issuer.token(exp=int(time.time()) + 100)
        await checker.person(token)
        clock.now_s = 99 + SETTINGS.leeway_s
        await checker.person(token)
        clock.now_s = 102 + SETTINGS.leeway_s
        with pytest.raises(Unauthenticated, match="expired"):
            await checker.person(token)


async def test_whoever_is_granted_nothing_is_refused_each_time() -> None:
    async with issuing() as (issuer, checker, _):
        for _ in range(2):
            with pytest.raises(Denied):
                await checker.person(issuer.token(groups=["visitors"]))


async def huge(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"[" * 2_000_000)


async def nested(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b'{"keys":' * 100_000)


async def elsewhere(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("http://127.0.0.1:1/jwks")


async def a_list(_: web.Request) -> web.StreamResponse:
    return web.json_response([1])


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(5)
    raise AssertionError


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"document": {"issuer": "https://evil.example"}}, Broken),
        ({"document": {"jwks_uri": "http://inner.example/jwks"}}, Broken),
        ({"document": {"jwks_uri": "file:///etc/passwd"}}, Broken),
        ({"keys_answer": huge}, Broken),
        ({"keys_answer": nested}, Broken),
        ({"keys_answer": a_list}, Broken),
        ({"keys_answer": elsewhere}, Transient),
        ({"keys_answer": silent}, Transient),
    ],
)
async def test_an_issuer_that_says_what_cannot_be_is_refused(
    change: dict[str, Any], kind: type[WatchwordError]
) -> None:
    async with issuing(timeout_s=0.3) as (issuer, checker, _):
        for name, value in change.items():
            setattr(issuer, name, value)
        with pytest.raises(Transient, match="keys cannot be had"):
            await checker.person(issuer.token())
        assert type(checker._book._why) is kind
