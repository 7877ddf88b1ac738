"""Logging in and out in a real Chromium, at a real issuer, before a real gateway and query service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from identity.settings import OidcSettings
from tests.console.conftest import opened
from tests.console.house import served
from tests.gateway.test_access import running
from tests.identity.provider import Provider, provided

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

HERE = re.compile(r"^https?://(127\.0\.0\.1|localhost)[:/]")


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Provider]:
    (tmp_path / "issuer").mkdir()
    with provided(tmp_path / "issuer") as provider:
        provider.groups = {"kim": ["guards"]}
        provider.start("first")
        yield provider


def at_the_issuer(page: Page, name: str) -> None:
    """What a person does on the issuer's pages: gives a name, and agrees."""
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("x")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def test_a_person_logs_in_asks_and_logs_out(browser: Browser, issuer: Provider, tmp_path: Path) -> None:
    given = {**issuer.settings, "grants": [{"people": "guards"}], "login_first": False}
    oidc = OidcSettings.model_validate(given)
    with (
        served(running(tmp_path, oidc=oidc, listen=issuer.home.removeprefix("http://"))),
        opened(browser, issuer.home) as page,
    ):
        # The issuer's pages name fonts of another host.
        page.route(lambda url: not HERE.match(url), lambda route: route.abort())
        page.goto("/?q=dog")
        page.get_by_role("dialog").get_by_role("link", name="Log in").click()
        at_the_issuer(page, "kim")
        page.wait_for_url(f"{issuer.home}/?q=dog")
        expect(page.locator(".top .who")).to_have_text("kim")
        expect(page.locator(".wall a.open").first).to_be_visible()
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_text("Logged in as kim")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Yes, sign me out").click()
        page.wait_for_url("**/login/out")
        page.goto("/?page=system")
        page.keyboard.press("Escape")
        expect(page.get_by_role("banner").get_by_role("link", name="Log in")).to_be_visible()
        expect(page.locator(".top .who")).to_have_count(0)
        assert page.request.get("/api/v1/cameras").status == 401
