"""Real pictures of the console for the README: `python -m tests.tools.console_pictures [FOLDER]`, docs by default.

Starts a whole stack in a scratch folder, has a real Chromium do what a newcomer does (a camera by its address with a
test picture, a mask on it), and takes pictures on the way. The answers in them are the stack's own. A step that does
not come about is named, with a picture of the page and the stack's log. Takes four minutes at most, once the footage
is composed.
"""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from tests.tools.chromium import chromium
from tests.tools.console_footage import footage
from watchword.stack.ports import Port

MOST_S = 230.0
MOST_BYTES = 150_000
QUALITIES = (85, 78, 70, 60)
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
LOW: ViewportSize = {"width": 1280, "height": 640}
PHONE: ViewportSize = {"width": 390, "height": 844}
WORDS = "a person"
LEAST_SURE = 10
"""Confident answers before pictures of them are taken."""
LEAST_CAMERAS = 4
MASK = ((0.002, 0.004), (0.42, 0.004), (0.3, 0.996), (0.002, 0.996))
STILL = "[...document.querySelectorAll('.picture')].every(one => one.getBoundingClientRect().top > innerHeight \
|| one.querySelector('.no-picture') || [...one.querySelectorAll('img')].some(img => img.complete && img.naturalWidth))"


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


class Walk:
    """A person before the console."""

    def __init__(self, page: Page, clock: Clock, folder: Path, scratch: Path, clips: Mapping[str, Path]) -> None:
        self._page, self._clock, self._folder, self._scratch, self._clips = page, clock, folder, scratch, clips

    def go(self) -> None:
        """From an empty house to all pictures."""
        with self._step("the first camera, by its address"):
            self._add_yard()
        with self._step("the other cameras"):
            for name in set(self._clips) - {"yard"}:
                group = "inside" if name in ("hall", "lobby") else "outside"
                camera = {"url": str(self._clips[name]), "loop": True, "groups": [group]}
                self._clock.until(lambda: self._added(name, camera), f"the camera {name}")  # noqa: B023
        with self._step("a mask is drawn"):
            self._clock.until(lambda: self._has_moment("yard"), "a moment of the yard")
            self._mask_yard()
        with self._step("enough answers"):
            self._clock.until(self._enough, f"{LEAST_SURE} confident answers of {LEAST_CAMERAS} cameras")
        with self._step("pictures of ask"):
            self._page.goto(f"/?q={WORDS}")
            expect(self._page.locator(".card img").first).to_be_visible()
            self._take("ask")
            self._take("phone", PHONE)
        with self._step("pictures of when"):
            began = datetime.fromtimestamp(min(hit["start_ms"] for hit in self._found()) / 1000 - 20, UTC)
            asked = {"page": "when", "q": WORDS, "from": began.isoformat(timespec="seconds")}
            self._page.set_viewport_size(LOW)
            self._page.goto(f"/?{urlencode(asked)}")
            self._page.locator("svg .hit.sure").nth(3).hover()
            expect(self._page.locator(".preview img")).to_be_visible()
            self._take("when", LOW)
        with self._step("a picture in the dark"):
            self._page.emulate_media(color_scheme="dark")
            self._page.goto(f"/?{urlencode({'q': WORDS, 'order': 'time'})}")
            expect(self._page.locator(".card img").first).to_be_visible()
            self._take("dark")
            self._page.emulate_media(color_scheme="light")
        with self._step("pictures of live"):
            self._page.goto("/?page=live")
            self._clock.until(self._masked, "the mask in the yard's picture")
            expect(self._page.locator(".cameras .card img")).to_have_count(len(self._clips))
            self._take("live", LOW)

    def _add_yard(self) -> None:
        page = self._page
        page.goto("/?page=cameras")
        page.get_by_role("button", name="Add a camera").click()
        page.get_by_label("Name").fill("yard")
        page.get_by_label("Address").fill(str(self._clips["yard"]))
        page.get_by_role("button", name="Take a test picture").click()
        expect(page.locator(".drawer-stage img")).to_be_visible()
        page.get_by_label("Start the file again").check()
        page.get_by_label("Groups").fill("outside")
        page.get_by_role("button", name="Add", exact=True).click()
        self._clock.until(self._done, "the yard added")
        expect(page.locator(".row", has_text="yard")).to_be_visible()

    def _added(self, name: str, camera: dict[str, Any]) -> bool:
        return self._page.request.put(f"/api/v1/cameras/{name}", data=camera).status in (200, 201, 409, 412)

    def _done(self) -> bool:
        """Whether the dialog is done; what failed for a moment on a busy machine is tried again."""
        retry = self._page.get_by_role("alert").get_by_role("button", name="Try again")
        if retry.count():
            retry.click()
        return not self._page.get_by_role("dialog").count()

    def _mask_yard(self) -> None:
        page = self._page
        page.goto("/?page=cameras&edit=yard")
        expect(page.locator(".drawer-stage img")).to_be_visible()
        page.get_by_role("button", name="Draw a mask").click()
        box = page.locator(".drawer-stage svg").bounding_box()
        assert box is not None
        for across, down in MASK:
            page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])
        page.get_by_role("button", name="Close the area").click()
        self._take("cameras")
        page.get_by_role("button", name="Save").click()
        self._clock.until(self._done, "the mask saved")

    def _masked(self) -> bool:
        """Whether the left of the yard's picture is black, and the right is not."""
        picture = self._page.locator(".cameras .card", has_text="yard").locator("img")
        if not picture.count():
            return False
        shown = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("L"))
        width = shown.shape[1]
        left, right = shown[10:-10, 10 : width // 4], shown[10:-10, width // 2 : -10]
        return float(left.mean()) < 12 and float(right.mean()) > 40

    def _found(self) -> list[dict[str, Any]]:
        answer = self._page.request.get(f"/api/v1/search?{urlencode({'q': WORDS, 'limit': 50})}")
        if answer.status != 200:
            return []
        told = answer.json()
        return [hit for hit in told["hits"] if hit["confidence"] >= told["threshold"]]

    def _has_moment(self, camera: str) -> bool:
        answer = self._page.request.get(f"/api/v1/search?{urlencode({'q': WORDS, 'camera': camera, 'limit': 1})}")
        return answer.status == 200 and bool(answer.json()["hits"])

    def _enough(self) -> bool:
        found = self._found()
        return len(found) >= LEAST_SURE and len({hit["camera"] for hit in found}) >= LEAST_CAMERAS

    def _take(self, name: str, size: ViewportSize = DESKTOP) -> None:
        """A picture of what is shown, once its own pictures are there."""
        path = self._folder / f"console-{name}.jpg"
        self._page.set_viewport_size(size)
        self._page.wait_for_timeout(700)  # for what glides to its place
        self._clock.until(lambda: bool(self._page.evaluate(STILL)), f"all pictures of {name}")
        for quality in QUALITIES:
            self._page.screenshot(path=path, type="jpeg", quality=quality)
            if path.stat().st_size < MOST_BYTES:
                break
        self._page.set_viewport_size(DESKTOP)
        print(f"    {path}: {path.stat().st_size} bytes", flush=True)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        print(f"  {MOST_S - self._clock.left_s:.0f} s: {name}", flush=True)
        self._page.set_default_timeout(max(1.0, 1000 * self._clock.left_s))
        expect.set_options(timeout=max(1.0, 1000 * self._clock.left_s))
        try:
            yield
        except Exception:
            print(f"this step failed: {name}", flush=True)
            self._page.set_default_timeout(10_000)
            with suppress(Exception):
                self._page.screenshot(path=self._scratch / "failed.png")
                print(f"  the page then: {self._scratch / 'failed.png'}, {self._page.url}", flush=True)
            raise


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


def ready(scratch: Path) -> bool:
    """Whether every part of the stack is ready."""
    return b"everything is ready" in (scratch / "up.log").read_bytes()


@contextmanager
def stack_in(scratch: Path, clock: Clock) -> Iterator[str]:
    """HOST:PORT of the gateway of a whole stack."""
    data = scratch / "data"
    print(f"the stack's log: {scratch / 'up.log'}", flush=True)
    with (scratch / "up.log").open("wb") as log:
        # An index in a folder starts sooner than a Milvus, and what the console shows is the same.
        front = [sys.executable, "-m", "watchword", "--data-dir", str(data), "--set", "camera.fps=1"]
        # A port of its own: at the usual one another stack of this machine may answer.
        own = ["--set", f"gateway.listen=127.0.0.1:{Port().settle()}"]
        command = [*front, *own, "up", "--milvus", f"faiss:{data / 'index'}"]
        up = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        # Not sooner: a part that starts anew, since its port was taken meanwhile, has another address then.
        clock.until(lambda: up.poll() is not None or (ready(scratch) and answers(data)), "a stack that answers")
        if up.poll() is not None:
            raise Late(f"the stack ended: {(scratch / 'up.log').read_text()[-300:]}")
        yield gateway_of(data)
    finally:
        up.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            up.wait(20)
        if up.poll() is None:
            up.kill()


def main() -> int:
    """Run it all. What failed leaves the scratch folder behind."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    folder.mkdir(parents=True, exist_ok=True)
    composed = footage()
    clock = Clock()
    scratch = Path(tempfile.mkdtemp(prefix="console-"))
    # Their addresses are in the pictures, and nobody's home folder is to be.
    clips = {name: Path(shutil.copy(clip, scratch / f"{name}.mp4")) for name, clip in composed.items()}
    with stack_in(scratch, clock) as address, sync_playwright() as playwright:
        arguments = ["--disable-background-networking", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        context = browser.new_context(base_url=f"http://{address}", viewport=DESKTOP, locale="en-GB")
        Walk(context.new_page(), clock, folder, scratch, clips).go()
        browser.close()
    shutil.rmtree(scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
