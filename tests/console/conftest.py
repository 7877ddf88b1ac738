"""A real Chromium before a real gateway."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.console.house import House, gateway_of, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 60_000
"""For a busy machine. Nothing waits so long where all is well."""
ARGUMENTS = ("--disable-background-networking", "--no-sandbox", "--disable-gpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="a folder for pictures of every page of the console")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium of this machine. None is downloaded.

    It ends with its file: as long as it is there, nothing else in this thread can run an event loop.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS), timeout=2 * PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str]]:
    house = House(tmp_path_factory.mktemp("house"))
    with served(gateway_of(house)) as address:
        yield house, address
    house.catalog.close()


@pytest.fixture
def house(serving: tuple[House, str]) -> House:
    serving[0].reset()
    return serving[0]


@pytest.fixture
def page(browser: Browser, serving: tuple[House, str], house: House) -> Iterator[Page]:
    """A page of a browser that has never been here. Fails when the page met an error that nobody caught."""
    with opened(browser, serving[1]) as page:
        yield page


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """The same for the gateway at this address."""
    with_errors: list[str] = []
    context = browser.new_context(
        base_url=address,
        viewport={"width": 1280, "height": 860},
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.on("pageerror", lambda error: with_errors.append(str(error)))
    page.on("console", lambda said: with_errors.append(said.text) if "Content Security" in said.text else None)
    yield page
    context.close()
    assert with_errors == []
