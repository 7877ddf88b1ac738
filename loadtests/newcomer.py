"""A newcomer's first minutes: the demo, its page in a real Chromium, five tasks, the clicks and seconds of each.

    python -m loadtests.newcomer [--keep FOLDER]

Starts what `make demo` starts, in a folder of its own, and opens the page as soon as the demo says that it is ready, in
a browser that has never been here. Prints how long the start took; first paint, largest paint, layout shift, blocked
time and transferred bytes of the page, by the browser's own clocks; and for each task clicks, keys (a text that is
typed counts its letters) and seconds until what was wanted is on the screen. A task ends when the page shows it, so a
person's own reading and aiming come on top. Needs a Chromium.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Locator, Page, expect, sync_playwright

from loadtests.rig import parser, say
from tests.tools.chromium import chromium
from watchword.demo_clips import demo_clips
from watchword.stack.ports import Port

_PATIENCE_S = 120.0
_VITALS = """() => {
    const paints = Object.fromEntries(performance.getEntriesByType('paint').map(one => [one.name, one.startTime]))
    const loaded = performance.getEntriesByType('resource').filter(one => /[.](js|css|json|svg|woff2?)$/.test(one.name))
    const [page] = performance.getEntriesByType('navigation')
    return {
        first: paints['first-contentful-paint'], largest: window.seen.largest, shift: window.seen.shift,
        blocked: window.seen.blocked, bytes: [page, ...loaded].reduce((sum, one) => sum + one.transferSize, 0),
    }
}"""
_WATCH = """
    window.seen = {largest: 0, shift: 0, blocked: 0}
    const watch = (type, take) =>
        new PerformanceObserver(list => list.getEntries().forEach(take)).observe({type, buffered: true})
    watch('largest-contentful-paint', one => { window.seen.largest = one.startTime })
    watch('layout-shift', one => { window.seen.shift += one.hadRecentInput ? 0 : one.value })
    watch('longtask', one => { window.seen.blocked += Math.max(0, one.duration - 50) })
"""


class Newcomer:
    """Hands on the mouse and on the keys, counted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = self.keys = 0

    def click(self, what: Locator) -> None:
        what.click()
        self.clicks += 1

    def types(self, what: Locator, text: str) -> None:
        """Click into the field and type."""
        self.click(what)
        what.press_sequentially(text, delay=0)
        self.keys += len(text)

    def enter(self) -> None:
        self.page.keyboard.press("Enter")
        self.keys += 1


def finds(person: Newcomer) -> None:
    """Find a person."""
    person.types(person.page.get_by_role("searchbox", name="What to look for"), "a person")
    person.enter()
    _shown(person.page.locator(".wall:not(.weak) .card img").first)


def plays(person: Newcomer) -> None:
    """Watch the best answer."""
    person.click(person.page.locator("a.open").first)
    person.click(person.page.get_by_role("dialog").get_by_role("button", name="Play"))
    _until(lambda: bool(person.page.evaluate("document.querySelector('video')?.currentTime > 0")))


def likes(person: Newcomer) -> None:
    """See more that look like it."""
    person.click(person.page.get_by_role("dialog").get_by_role("button", name="More like this"))
    expect(person.page.locator(".answer[aria-busy=false]")).to_be_visible()
    _shown(person.page.locator(".card img").first)


def sees_when(person: Newcomer) -> None:
    """See when it was, over all cameras, with a picture of one instant."""
    person.click(person.page.get_by_role("link", name="When"))
    person.page.locator("svg .hit").last.hover()
    person.clicks += 1
    _shown(person.page.locator(".preview img"))


def adds_a_camera(person: Newcomer) -> None:
    """Add a camera, look at a picture of it first, and see it live."""
    page = person.page
    person.click(page.get_by_role("link", name="Cameras"))
    person.click(page.get_by_role("button", name="Add a camera"))
    person.types(page.get_by_label("Name"), "gate")
    person.types(page.get_by_label("Address"), str(demo_clips()["car"]))
    person.click(page.get_by_role("button", name="Take a test picture"))
    _shown(page.locator(".drawer-stage img"))
    person.click(page.get_by_role("button", name="Add", exact=True))
    expect(page.get_by_role("dialog")).to_have_count(0)
    person.click(page.get_by_role("link", name="Live"))
    _shown(page.locator(".cameras .card", has_text="gate").locator("img"))


TASKS = (finds, plays, likes, sees_when, adds_a_camera)


def _shown(picture: Locator) -> None:
    """Wait until the picture is there, not only its frame."""
    expect(picture).to_be_visible()
    _until(lambda: bool(picture.evaluate("one => one.complete && one.naturalWidth > 0")))


def _until(true: Callable[[], bool]) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not true():
        if time.monotonic() > until_s:
            raise TimeoutError("the page never showed it")
        time.sleep(0.02)


@contextmanager
def _demo(folder: Path) -> Iterator[str]:
    """The gateway's HOST:PORT, once the demo has said its answers."""
    data, log = folder / "data", folder / "demo.log"
    own = ["--set", f"gateway.listen=127.0.0.1:{Port().settle()}"]  # at the usual port another stack may answer
    command = [sys.executable, "-m", "watchword", "--data-dir", str(data), *own, "demo"]
    with log.open("wb") as out:
        demo = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        _until(lambda: demo.poll() is not None or b"Ctrl-C stops the demo" in log.read_bytes())
        if demo.poll() is not None:
            raise RuntimeError(f"the demo ended: {log.read_text()[-500:]}")
        yield str(json.loads((data / "stack.json").read_text())["addresses"]["gateway"])
    finally:
        demo.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            demo.wait(30)
        if demo.poll() is None:
            demo.kill()


def newcomer(folder: Path) -> int:
    """The protocol."""
    begun_s = time.monotonic()
    expect.set_options(timeout=1000 * _PATIENCE_S)
    with _demo(folder) as address, sync_playwright() as playwright:
        say(f"the demo answers after {time.monotonic() - begun_s:.0f} s")
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(base_url=f"http://{address}", locale="en-GB")
        context.set_default_timeout(1000 * _PATIENCE_S)
        page = context.new_page()
        page.add_init_script(_WATCH)
        page.goto("/", wait_until="networkidle")
        told = page.evaluate(_VITALS)
        print(
            f"the page: first paint {told['first']:.0f} ms, largest {told['largest']:.0f} ms, layout shift "
            f"{told['shift']:.3f}, blocked {told['blocked']:.0f} ms, {told['bytes']:,} bytes transferred\n"
        )
        print(f"{'task':<68}{'clicks':>7}{'keys':>6}{'seconds':>9}")
        for task in TASKS:
            person, task_s = Newcomer(page), time.monotonic()
            task(person)
            took_s = time.monotonic() - task_s
            print(f"{(task.__doc__ or '').rstrip('.'):<68}{person.clicks:>7}{person.keys:>6}{took_s:>9.1f}")
        browser.close()
    return 0


def main() -> int:
    asked = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return newcomer(folder)


if __name__ == "__main__":
    sys.exit(main())
