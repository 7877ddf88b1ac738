"""A real issuer: logins, tokens of programs, keys that rotate, and an issuer that is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from catalog.cameras import CameraRegistry
from identity.settings import OidcSettings
from proto.errors import Denied, Transient, Unauthenticated, WatchwordError
from query.client import QueryClient
from tests.gateway.test_access import House, running
from tests.identity.provider import Provider, log_in, provided
from tests.query.fakes import catalog_in

GRANTS = [
    {"people": "guards", "groups": ["yard"]},
    {"people": "heads", "role": "admin"},
    {"people": "programs", "cameras": ["dock"]},
]
GROUPS = {"kim": ["guards", "others"], "lee": ["heads"], "max": ["others"], "program": ["programs"]}


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Provider]:
    (tmp_path / "issuer").mkdir()
    with provided(tmp_path / "issuer") as provider:
        provider.groups = GROUPS
        provider.start("first")
        yield provider


@asynccontextmanager
async def house_of(issuer: Provider, folder: Path, **changed: Any) -> Any:
    settings = OidcSettings.model_validate({**issuer.settings, "grants": GRANTS, "keys_least_s": 0, **changed})
    cameras = CameraRegistry(catalog_in(folder))
    async with running(folder, oidc=settings, listen=issuer.home.removeprefix("http://")) as house:
        cameras.change("gate", lambda camera: replace(camera, groups=("yard",)))
        await house.callers._read_anew()  # else within a second
        yield house, cameras


def browser() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


async def seen(session: aiohttp.ClientSession, house: House) -> Any:
    """The names of the cameras that the browser's page sees; the status when that is refused."""
    async with session.get(f"{house.http_at}/api/v1/cameras") as answer:
        return {one["name"] for one in (await answer.json())["cameras"]} if answer.status == 200 else answer.status


async def refused(house: House, token: str) -> WatchwordError:
    with pytest.raises(WatchwordError) as caught:
        async with QueryClient(house.grpc_at, 10.0, token=token) as asking:
            await asking.cameras()
    return caught.value


async def test_people_see_what_their_groups_may_until_they_log_out(issuer: Provider, tmp_path: Path) -> None:
    async with house_of(issuer, tmp_path) as (house, cameras), browser() as kim, browser() as lee, browser() as max_:
        status, body = await log_in(kim, house.http_at, "kim")
        assert (status, 'content="0;url=/?q=dog"' in body) == (200, True), body
        assert await seen(kim, house) == {"gate"}
        assert (await log_in(lee, house.http_at, "lee"))[0] == 200
        assert await seen(lee, house) == {"gate", "gate-2", "dock"}
        status, body = await log_in(max_, house.http_at, "max")
        assert (status, "max may see nothing here" in body) == (403, True), body
        assert await seen(max_, house) == 401
        # Who is in the group is decided here, while people are logged in.
        cameras.change("dock", lambda camera: replace(camera, groups=("yard",)))
        cameras.change("gate", lambda camera: replace(camera, groups=()))
        await house.callers._read_anew()  # else within a second
        assert await seen(kim, house) == {"dock"}
        async with kim.get(f"{house.http_at}/api/v1/search?q=dog&camera=gate") as answer:
            assert answer.status == 404
        async with kim.post(f"{house.http_at}/logout") as answer:
            at_issuer = (await answer.json())["at_issuer"]
        async with kim.get(at_issuer) as answer:
            assert answer.status == 200
        assert await seen(kim, house) == 401
        noted = [one for one in house.noted if one.get("who") == "kim"]
        assert {(one["token"], one["role"]) for one in noted} == {("oidc:kim", "viewer")}


async def test_a_login_goes_on_while_the_issuer_wants_it(issuer: Provider, tmp_path: Path) -> None:
    issuer.stop()
    issuer.id_token_s = 20  # so short that each request renews it
    issuer.start("first")
    async with house_of(issuer, tmp_path) as (house, _), browser() as kim:
        assert (await log_in(kim, house.http_at, "kim"))[0] == 200
        assert [await seen(kim, house) for _ in range(3)] == [{"gate"}] * 3
        issuer.stop()
        issuer.start("first")  # it forgot everybody
        assert await seen(kim, house) == 401


async def test_a_program_brings_its_token_over_grpc_and_keys_may_rotate(issuer: Provider, tmp_path: Path) -> None:
    async with house_of(issuer, tmp_path) as (house, _):
        first = await issuer.program_token()
        async with QueryClient(house.grpc_at, 10.0, token=first) as asking:
            assert [camera.name for camera in await asking.cameras()] == ["dock"]
        issuer.stop()
        issuer.start("second", "third")
        second = await issuer.program_token()
        async with QueryClient(house.grpc_at, 10.0, token=second) as asking:
            assert [camera.name for camera in await asking.cameras()] == ["dock"]
        # Its key is withdrawn.
        assert isinstance(await refused(house, first), Unauthenticated)
        head, _, mark = second.rpartition(".")
        assert isinstance(await refused(house, f"{head}.{mark[:-4]}AAAA"), Unauthenticated)
        issuer.stop()
        async with QueryClient(house.grpc_at, 10.0, token=second) as asking:
            assert len(await asking.cameras()) == 1
        issuer.start("fourth")
        fourth = await issuer.program_token()
        issuer.stop()
        assert isinstance(await refused(house, fourth), Transient)
        assert (await refused(house, "ww_x")).todo


async def test_a_token_for_another_service_or_of_nobody_here_is_refused(issuer: Provider, tmp_path: Path) -> None:
    async with house_of(issuer, tmp_path, audience=["watchword"]) as (house, _):
        assert isinstance(await refused(house, await issuer.program_token()), Unauthenticated)
    issuer.groups = {}
    issuer.stop()
    issuer.start("first")
    async with house_of(issuer, tmp_path) as (house, _):
        assert isinstance(await refused(house, await issuer.program_token()), Denied)
