"""The way through the console on a telephone: ask, play the moment, more like it, keep the question, open it again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.clips import CLIPS
from tests.console.house import PICTURES, House
from tests.console.test_page import ask, sure_cards, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_a_question_is_asked_played_followed_kept_and_opened_again(page: Page, house: House) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.route("**/api/v1/clip?*", lambda route: route.fulfill(path=CLIPS["bikes"], content_type="video/mp4"))
    page.goto("/")
    ask(page, "a person")
    assert sure_cards(page) == ["car"] * PICTURES
    assert fits(page)
    page.locator("a.open").nth(1).click()
    dialog = page.get_by_role("dialog", name="car")
    dialog.get_by_role("button", name="Play").click()
    until(page, "document.querySelector('video')?.readyState > 0")
    assert fits(page)
    dialog.get_by_role("button", name="More like this").click()
    assert sure_cards(page) == ["car"] * (PICTURES - 1)
    like = re.compile(r"\?like=0{29}20[0-9a-f]$")
    expect(page).to_have_url(like)
    page.get_by_role("button", name="Save this question").click()
    page.goto("/")
    kept = page.get_by_role("button", name="Like this moment").first
    expect(kept).to_be_visible()
    assert fits(page)
    kept.click()
    assert sure_cards(page) == ["car"] * (PICTURES - 1)
    expect(page).to_have_url(like)
    assert house.last["moment_id"] is not None
