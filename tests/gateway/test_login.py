"""Logins of browsers, with an issuer that does as the test says. `tests/identity/test_provider.py` has a real one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from gateway.guard import App
from gateway.login import Login
from gateway.sessions import Begun, Sealed, begun
from identity.issuer import Known
from identity.people import Person
from identity.settings import OidcSettings
from proto.access import Grant, Role
from proto.errors import Denied, Transient, Unauthenticated, WatchwordError
from tests.gateway.fakes import FakeQueries, client_of

NOW = 1_700_000_000_000
HOME = "http://127.0.0.1:8701"
SETTINGS = OidcSettings.model_validate(
    {
        "issuer": "https://login.example",
        "client_id": "watchword",
        "public_url": HOME,
        "grants": [{"people": "*"}],
        "session_s": 3600,
    }
)
PLACES = {
    "authorization_endpoint": "https://login.example/auth?tenant=1",
    "token_endpoint": "https://login.example/token",
    "end_session_endpoint": "https://login.example/end",
}
PAGE = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-site": "none"}
FROM_ISSUER = {**PAGE, "sec-fetch-site": "cross-site"}


class FakeIssuer:
    """Takes every code. A token is `NAME.NONCE.COUNT`."""

    def __init__(self) -> None:
        self.places: Mapping[str, str] = PLACES
        self.error: WatchwordError | None = None
        self.forms: list[dict[str, str]] = []
        self.claims_changed: dict[str, Any] = {}
        self.refreshes = True
        self.token_s = 300
        self.nonce = ""
        self.now_ms = NOW
        self.subject = "u1"

    async def known(self) -> Known:
        return Known(None, self.places)  # type: ignore[arg-type]

    async def tokens(self, endpoint: str, form: Mapping[str, str]) -> dict[str, Any]:
        self.forms.append(dict(form))
        if self.error:
            raise self.error
        more = {"refresh_token": f"r{len(self.forms)}"} if self.refreshes else {}
        return {"id_token": f"kim.{len(self.forms)}", "access_token": "opaque", **more}

    async def claims(self, token: str, audiences: tuple[str, ...]) -> dict[str, Any]:
        assert audiences == ("watchword",)
        return {"nonce": self.nonce, **self.claims_changed}

    async def person(self, token: str) -> Person:
        if self.error:
            raise self.error
        return Person("kim", self.subject, (Grant(Role.VIEWER),), self.now_ms + 1000 * self.token_s)


class House:
    """A gateway with a login, and a browser at it."""

    def __init__(self, **changed: Any) -> None:
        self.issuer = FakeIssuer()
        self.queries = FakeQueries()
        settings = SETTINGS.model_copy(update=changed)

        def around(app: App) -> App:
            return Login(app, self.issuer, settings, needs_token=True, now=lambda: self.issuer.now_ms)

        self.browser = client_of(self.queries, around=around, needs_token=True)

    async def begin(self, path: str = "/login") -> dict[str, str]:
        answer = await self.browser.get(path, headers=PAGE)
        assert answer.status_code == 303
        asked = {key: value[0] for key, value in parse_qs(urlsplit(answer.headers["location"]).query).items()}
        self.issuer.nonce = asked["nonce"]
        return asked

    async def returns(self, **given: str) -> httpx.Response:
        return await self.browser.get("/login/callback", params=given, headers=FROM_ISSUER)

    async def log_in(self) -> httpx.Response:
        asked = await self.begin()
        return await self.returns(code="c1", state=asked["state"])

    async def cameras(self, **headers: str) -> int:
        return (await self.browser.get("/api/v1/cameras", headers=headers)).status_code


async def test_a_login_is_code_and_pkce_and_ends_in_a_cookie_that_no_script_reads() -> None:
    house = House()
    asked = await house.begin("/login?then=%2F%3Fq%3Ddog")
    assert (asked["tenant"], asked["response_type"], asked["code_challenge_method"]) == ("1", "code", "S256")
    assert asked["redirect_uri"] == f"{HOME}/login/callback"
    answer = await house.returns(code="c1", state=asked["state"], iss=SETTINGS.issuer)
    assert answer.status_code == 200
    assert 'content="0;url=/?q=dog"' in answer.text
    cookies = answer.headers.get_list("set-cookie")
    assert re.fullmatch(r"watchword=[\w-]{43}; HttpOnly; Path=/; SameSite=strict", cookies[0])
    assert "Max-Age=0" in cookies[1]
    (form,) = house.issuer.forms
    verifier = form["code_verifier"]
    assert Begun("", "", verifier, "", 0).challenge == asked["code_challenge"]
    assert (await house.cameras(), house.queries.callers) == (200, ["kim.1"])
    assert (await house.browser.get("/login/who")).json()["name"] == "kim"


async def test_over_tls_the_cookies_are_of_this_host_and_of_tls_alone() -> None:
    house = House(public_url="https://watch.example")
    answer = await house.browser.get("/login")
    assert re.match(
        r"__Secure-watchword-login=.*; HttpOnly; .*Path=/login; SameSite=lax; Secure", answer.headers["set-cookie"]
    )


@pytest.mark.parametrize(
    ("given", "changed", "says"),
    [
        ({"state": "other"}, {}, "did not begin in this browser"),
        ({"state": ""}, {}, "did not begin in this browser"),
        ({"code": ""}, {}, "no code came"),
        ({"code": "", "error": "access_denied<script>"}, {}, "access_denied&lt;script&gt;"),
        ({"iss": "https://evil.example"}, {}, "another issuer"),
        ({}, {"claims_changed": {"nonce": "x"}}, "another login"),
        ({}, {"claims_changed": {"azp": "other"}}, "another client"),
        ({}, {"error": Unauthenticated("the issuer refuses the login")}, "refuses"),
        ({}, {"error": Denied("kim may see nothing here", todo="ask")}, "may see nothing"),
        ({}, {"error": Transient("the issuer does not answer")}, "does not answer"),
        ({}, {"now_ms": NOW + 700_000}, "took too long"),
        ({}, {"places": {}}, "names no token_endpoint"),
    ],
)
async def test_a_login_that_is_not_whole_is_none(given: dict[str, str], changed: dict[str, Any], says: str) -> None:
    house = House()
    asked = await house.begin()
    for name, value in changed.items():
        setattr(house.issuer, name, value)
    answer = await house.returns(**{"code": "c1", "state": asked["state"], **given})
    assert answer.status_code in (401, 403, 503)
    assert says in answer.text
    assert "<script>" not in answer.text
    house.issuer.error = None
    assert await house.cameras() == 401


async def test_what_began_in_one_browser_does_not_end_in_another() -> None:
    house = House()
    asked = await house.begin()
    kept = house.browser.cookies.get("watchword-login")
    house.browser.cookies.clear()
    assert (await house.returns(code="c1", state=asked["state"])).status_code == 401
    assert kept
    body, _, mark = kept.rpartition(".")
    for forged in (f"{body}x.{mark}", f"{body}.{'0' * 64}", "x", ".", "é.x", f".{mark}"):
        assert Sealed().read(forged, NOW) is None
        house.browser.cookies.set("watchword-login", forged.encode("ascii", "replace").decode())
        assert (await house.returns(code="c1", state=asked["state"])).status_code == 401


@pytest.mark.parametrize(
    ("then", "goes_to"),
    [
        ("/?q=a%20b&camera=x", "/?q=a%20b&camera=x"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/login", "/"),
        ("/x\r\nset-cookie: a=b", "/"),
    ],
)
def test_a_login_leads_back_into_this_house_alone(then: str, goes_to: str) -> None:
    assert begun(then, NOW).then == goes_to


async def test_a_browser_without_a_login_is_sent_to_it_and_programs_are_not() -> None:
    house = House()
    answer = await house.browser.get("/?q=dog", headers=PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?then=%2F%3Fq%3Ddog")
    # A link on another page: the session's cookie does not come with it, so our own page asks again.
    assert 'content="0;url=/?q=dog"' in (await house.browser.get("/?q=dog", headers=FROM_ISSUER)).text
    assert await house.cameras() == 401
    assert (await house.browser.get("/", headers={"accept": "*/*"})).status_code == 200
    await house.log_in()
    assert (await house.browser.get("/", headers=PAGE)).status_code == 200
    assert (await House(login_first=False).browser.get("/", headers=PAGE)).status_code == 200


async def test_another_site_has_no_part_in_a_login() -> None:
    house = House()
    await house.log_in()
    assert await house.cameras(**{"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}) == 401
    assert await house.cameras(**{"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}) == 403
    assert await house.cameras(origin="https://evil.example") == 401
    assert await house.cameras(origin=HOME.upper()) == 200
    answer = await house.browser.post("/logout", headers={"sec-fetch-site": "cross-site"})
    assert (answer.status_code, await house.cameras()) == (403, 200)


async def test_a_token_that_a_request_brings_goes_before_the_login() -> None:
    house = House()
    await house.log_in()
    await house.cameras(authorization="Bearer ww_other")
    assert house.queries.callers[-1] == "ww_other"
    answer = await house.browser.post("/mcp", json={})
    assert answer.status_code in (401, 404)


async def test_a_login_is_renewed_while_the_issuer_wants_it_and_ends_at_its_time() -> None:
    house = House()
    await house.log_in()
    house.issuer.now_ms += 280_000
    assert await house.cameras() == 200
    assert house.issuer.forms[-1] == {"grant_type": "refresh_token", "refresh_token": "r1"}
    assert house.queries.callers[-1] == "kim.2"
    house.issuer.error = Transient("the issuer does not answer")
    house.issuer.now_ms += 280_000
    assert await house.cameras() == 200  # its token still counts
    house.issuer.now_ms += 30_000
    assert await house.cameras() == 503
    house.issuer.error = None
    assert await house.cameras() == 200
    house.issuer.now_ms = NOW + 3_600_000
    assert await house.cameras() == 401


@pytest.mark.parametrize("why", ["refused", "somebody else", "no refresh token"])
async def test_a_login_that_is_not_renewed_is_over(why: str) -> None:
    house = House()
    house.issuer.refreshes = why != "no refresh token"
    await house.log_in()
    house.issuer.error = Unauthenticated("the issuer refuses the login") if why == "refused" else None
    house.issuer.subject = "u2" if why == "somebody else" else "u1"
    house.issuer.now_ms += 280_000
    assert await house.cameras() == (200 if why == "no refresh token" else 401)
    house.issuer.error = None
    house.issuer.now_ms += 30_000
    assert await house.cameras() == 401


async def test_whoever_logs_out_is_out_here_and_is_told_where_the_issuer_ends_it() -> None:
    house = House()
    await house.log_in()
    stolen = house.browser.cookies.get("watchword")
    answer = await house.browser.post("/logout")
    assert answer.json()["at_issuer"].startswith("https://login.example/end?client_id=watchword&post_logout")
    assert stolen
    house.browser.cookies.set("watchword", stolen)
    assert await house.cameras() == 401
    assert (await house.browser.post("/logout")).json() == {"at_issuer": ""}
    assert (await house.browser.get("/login/who")).json()["name"] == ""
    assert (await house.browser.get("/login/out")).status_code == 200
