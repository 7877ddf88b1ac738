"""The whole stack as a user starts it: `watchword up` in a terminal, everything else in another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import pytest

from tests.clips import CLIPS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Value = TypeVar("Value")

READY_S = 240.0
HEALED_S = 180.0
pytestmark = [pytest.mark.stack, pytest.mark.timeout(500)]


@dataclass
class Up:
    """A running `watchword up` and its data folder."""

    process: subprocess.Popen[bytes]
    folder: Path

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "watchword", "--data-dir", str(self.folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def search(self, *arguments: str) -> dict[str, Any]:
        ended = self.cli("search", *arguments, "--json")
        assert ended.returncode == 0, ended.stderr
        answer = json.loads(ended.stdout)
        assert isinstance(answer, dict)
        return answer

    def moments(self) -> dict[str, dict[str, Any]]:
        """Every moment that a search finds now, by id, not joined.

        It is asked again and again, so over HTTP: a process for each would keep the stack waiting for a processor.
        """
        with contextlib.closing(HTTPConnection(self.state()["addresses"]["gateway"], timeout=20)) as gateway:
            gateway.request("GET", "/api/v1/search?q=a+bicycle&all_moments=true&limit=1000")
            return {hit["moment_id"]: hit for hit in json.load(gateway.getresponse())["hits"]}

    def pids(self) -> dict[str, int]:
        return {str(name): int(pid) for name, pid in self.state()["pids"].items()}

    def state(self) -> dict[str, Any]:
        state = json.loads((self.folder / "stack.json").read_text())
        assert isinstance(state, dict)
        return state


def until(ask: Callable[[], Value], *, within_s: float, what: str) -> Value:
    """The first true answer; a failure that says what was waited for otherwise."""
    deadline = time.monotonic() + within_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            value = ask()
        except (AssertionError, OSError, HTTPException, KeyError, ValueError) as problem:
            last = problem
        else:
            if value:
                return value
        time.sleep(0.2)
    pytest.fail(f"not within {within_s:.0f} s: {what} ({last})")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("a folder with spaces") / "data"
    command = [sys.executable, "-m", "watchword", "--data-dir", folder.name, "up"]
    with (folder.parent / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder.parent, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    stack = Up(process, folder)
    try:
        assert stack.cli("camera", "add", "bikes", str(CLIPS["bikes"]), "--loop").returncode == 0
        until(lambda: (folder / "stack.json").exists() or process.poll() is not None, within_s=READY_S, what="a stack")
        assert process.poll() is None, (folder.parent / "up.log").read_text()
        until(lambda: len(stack.moments()) >= 2, within_s=READY_S, what="the first moments of `bikes`")
        yield stack
    finally:
        tree = [psutil.Process(pid) for pid in stack.pids().values()] if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        left = [child for child in tree if child.is_running()]
        for one in left:
            one.kill()
        if process.poll() is None:
            process.kill()
            pytest.fail("`watchword up` did not end within 15 s of Ctrl-C")
        assert left == []


def test_a_search_answers_in_words_with_camera_span_score_and_a_picture(up: Up) -> None:
    hits = up.search("a person riding a bicycle", "--camera", "bikes", "--since", "10m", "--limit", "2")["hits"]
    assert 1 <= len(hits) <= 2
    for hit in hits:
        assert hit["camera"] == "bikes"
        assert hit["start_ms"] <= hit["peak_ms"] <= hit["end_ms"]
        assert Path(hit["thumbnail"]).read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "cyclist", "--camera", "bikse"], "bikes"),
        (["search", ""], "words"),
        (["search", "x" * 10_000], "2000"),
        (["search", "cyclist", "--limit", "0"], "1"),
        (["search", "cyclist", "--limit", "1000000000"], "1000"),
        (["search", "--like", "f" * 32], "moment"),
        (["search", "cyclist", "--since", "5m", "--until", "10m"], "end"),
        (["up"], "already"),
    ],
)
def test_a_wrong_request_ends_in_one_line_that_says_what_is_wrong(up: Up, arguments: list[str], said: str) -> None:
    ended = up.cli(*arguments)
    assert ended.returncode != 0
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert said in ended.stderr


def test_the_console_shows_the_moments_of_a_running_stack_and_asks_for_more(up: Up, browser: Browser) -> None:
    page = browser.new_page(base_url=f"http://{up.state()['addresses']['gateway']}")
    page.set_default_timeout(1000 * READY_S)
    page.goto("/?q=a+person+riding+a+bicycle")
    page.locator(".card img").first.wait_for()
    assert set(page.locator(".card .camera").all_inner_texts()) == {"bikes"}
    page.locator("a.open").first.click()
    page.get_by_role("button", name="More like this").last.click()
    page.wait_for_url("**/?like=*")
    page.locator(".answer[aria-busy=false] .card img").first.wait_for()
    page.close()


def test_the_doctor_finds_nothing_wrong(up: Up) -> None:
    def nothing() -> bool:
        ended = up.cli("doctor")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return True

    until(nothing, within_s=60.0, what="a part that is slow for a moment answers the doctor later")


def test_nothing_listens_outside_loopback(up: Up) -> None:
    sockets = [socket for pid in up.pids().values() for socket in psutil.Process(pid).net_connections("inet")]
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert len(listening) >= 5
    assert [address for address in listening if address.ip not in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}] == []


@pytest.mark.parametrize(
    "names", [("broker", "redis"), ("milvus",), ("worker", "stream"), ("camera", "query", "gateway")]
)
def test_the_stack_heals_when_children_are_killed_and_keeps_what_was_stored(up: Up, names: tuple[str, ...]) -> None:
    before = {moment for moment, hit in up.moments().items() if hit["closed"]}
    old = up.pids()
    for name in names:
        os.kill(old[name], signal.SIGKILL)
    until(lambda: all(up.pids().get(name, old[name]) != old[name] for name in names), within_s=HEALED_S, what="others")
    until(lambda: before <= up.moments().keys(), within_s=HEALED_S, what="the moments from before")
    killed_ms = time.time() * 1000
    until(
        lambda: any(hit["start_ms"] > killed_ms for hit in up.moments().values()),
        within_s=HEALED_S,
        what=f"a new moment after {names} came back",
    )


def test_no_process_survives_when_up_itself_is_killed(up: Up) -> None:
    children = [psutil.Process(pid) for pid in up.pids().values()]
    assert len(children) >= 8
    up.process.kill()
    up.process.wait()
    psutil.wait_procs(children, timeout=10)
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
