"""Real pictures of the console for the README: `python -m tests.tools.console_pictures [FOLDER]`, docs by default.

Starts a whole stack in a scratch folder, has a real Chromium do what a newcomer does (the demo's clips by one click, a
camera by its address with a test picture, a mask on it), and takes pictures on the way. Fails when a step does not come
about, such as the mask in the camera's next picture. Takes about two minutes on an idle machine, and at most four.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from tests.clips import CLIPS
from tests.tools.chromium import chromium

MOST_S = 235.0
QUALITY = 82
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}


class Late(Exception):
    """A step did not come about in time."""


class Clock:
    """What is left of the time."""

    def __init__(self) -> None:
        self._until = time.monotonic() + MOST_S

    @property
    def left_s(self) -> float:
        return self._until - time.monotonic()

    def until(self, true: Callable[[], bool], what: str) -> None:
        while self.left_s > 0:
            if true():
                return
            time.sleep(0.5)
        raise Late(f"not within {MOST_S:.0f} s: {what}")


def take(page: Page, folder: Path, name: str) -> None:
    """A picture of what is shown."""
    page.wait_for_timeout(700)
    page.screenshot(path=folder / f"console-{name}.jpg", type="jpeg", quality=QUALITY)
    print(f"  {folder / f'console-{name}.jpg'}", flush=True)


def masked(page: Page) -> bool:
    """Whether the left half of the yard's picture is black, and the right one is not."""
    picture = page.locator(".cameras .card", has_text="yard").locator("img")
    if not picture.count():
        return False
    shown = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("L"))
    middle = shown.shape[1] // 2
    return float(shown[10:-10, 10 : middle - 10].mean()) < 12 and float(shown[10:-10, middle + 10 : -10].mean()) > 40


def walk(page: Page, clock: Clock, folder: Path) -> None:
    """From an empty house to a masked camera."""
    page.goto("/")
    page.get_by_role("button", name="Watch the demo clips").click()
    page.goto("/?page=cameras&edit=%2B")
    page.get_by_label("Name").fill("yard")
    page.get_by_label("Address").fill(str(CLIPS["bikes"]))
    page.get_by_role("button", name="Take a test picture").click()
    expect(page.locator(".drawer-stage img")).to_be_visible()
    page.get_by_label("Start the file again").check()
    page.get_by_label("Groups").fill("outside")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".row", has_text="yard")).to_be_visible()
    page.goto("/?page=live")
    yard = page.locator(".cameras .card", has_text="yard").locator("img")
    expect(yard).to_be_visible()
    page.goto("/?page=cameras&edit=yard")
    expect(page.locator(".drawer-stage img")).to_be_visible()
    page.get_by_role("button", name="Draw a mask").click()
    box = page.locator(".drawer-stage svg").bounding_box()
    assert box is not None
    for across, down in ((0.002, 0.004), (0.5, 0.004), (0.5, 0.996), (0.002, 0.996)):
        page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])
    page.get_by_role("button", name="Close the area").click()
    take(page, folder, "cameras")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.goto("/?page=live")
    clock.until(lambda: masked(page), "the mask in the yard's picture")
    print("  the mask is in the picture", flush=True)
    take(page, folder, "live")


def pictures(page: Page, folder: Path) -> None:
    """The other pages."""
    page.goto("/?q=a+person+riding+a+bicycle")
    expect(page.locator(".card img").first).to_be_visible()
    take(page, folder, "ask")
    page.set_viewport_size(PHONE)
    take(page, folder, "phone")
    page.set_viewport_size(DESKTOP)
    page.goto("/?page=when&q=a+person&since=15m")
    expect(page.locator("svg .hit").first).to_be_visible()
    take(page, folder, "when")
    page.emulate_media(color_scheme="dark")
    page.goto("/?page=live")
    expect(page.locator(".cameras .card img").first).to_be_visible()
    take(page, folder, "dark")


def gateway_of(data: Path) -> str:
    """HOST:PORT of the gateway of the stack on this folder."""
    address = json.loads((data / "stack.json").read_text())["addresses"]["gateway"]
    assert isinstance(address, str)
    return address


def answers(data: Path) -> bool:
    """Whether the query service answers by way of the gateway."""
    try:
        with urllib.request.urlopen(f"http://{gateway_of(data)}/api/v1/me", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, KeyError):
        return False


def main() -> int:
    """Run it all."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        with (Path(scratch) / "up.log").open("wb") as log:
            command = [sys.executable, "-m", "watchword", "--data-dir", str(data), "up"]
            up = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            clock.until(lambda: answers(data), "a gateway that answers")
            address = gateway_of(data)
            with sync_playwright() as playwright:
                arguments = ["--disable-background-networking", "--no-sandbox", "--disable-gpu"]
                browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
                context = browser.new_context(base_url=f"http://{address}", viewport=DESKTOP, locale="en-GB")
                context.set_default_timeout(1000 * clock.left_s)
                expect.set_options(timeout=1000 * clock.left_s)
                page = context.new_page()
                walk(page, clock, folder)
                pictures(page, folder)
                browser.close()
        finally:
            up.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                up.wait(20)
            if up.poll() is None:
                up.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
