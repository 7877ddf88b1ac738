"""The console where the gateway has a login."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.console.house import House

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def test_who_is_logged_in_is_named_and_logs_out(page: Page, house: House) -> None:
    who = {"name": "Ada", "login": "/login", "logout": "/logout"}
    page.route("**/login/who", lambda route: route.fulfill(json=who))
    page.route("**/logout", lambda route: route.fulfill(json={"at_issuer": ""}))
    page.route("**/login/out", lambda route: route.fulfill(body="over", content_type="text/plain"))
    page.goto("/?page=live")
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_text("Logged in as Ada")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login/out")


def test_who_has_no_token_is_led_to_the_login_and_back(page: Page, house: House) -> None:
    who = {"name": "", "login": "/login", "logout": "/logout"}
    page.route("**/login/who", lambda route: route.fulfill(json=who))
    page.route("**/api/v1/cameras", lambda route: route.fulfill(status=401, json={"title": "x"}))
    page.goto("/?page=cameras")
    link = page.get_by_role("dialog").get_by_role("link", name="Log in")
    expect(link).to_have_attribute("href", "/login?then=%2F%3Fpage%3Dcameras")
