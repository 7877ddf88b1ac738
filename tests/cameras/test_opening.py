"""Which addresses are opened, and that none of them opens another one."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from cameras.address import files_of, identity, kind_of
from cameras.picture import Picture
from cameras.settings import CameraSettings
from cameras.source import Resume, probe, watch
from proto.errors import Denied, Invalid, Transient, WatchwordError
from proto.types import Camera
from tests.cameras.filming import START_MS, film

SETTINGS = CameraSettings(open_timeout_s=3, silent_after_s=2, fps=2)


class Web:
    """A web server with pages, redirects and a password, that notes what is asked of it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.pages: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.password = ""
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                page, to = web.pages.get(self.path), web.redirects.get(self.path)
                if web.password and web.password not in self.headers.get("Authorization", ""):
                    self.send_response(401)
                elif to is not None:
                    self.send_response(302)
                    self.send_header("Location", to)
                else:
                    self.send_response(404 if page is None else 200)
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://{host}:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.close()


@pytest.fixture
def canary() -> Iterator[Web]:
    """Stands for a host inside the network. Nobody may ask it."""
    made = Web("127.0.0.2")
    yield made
    made.close()


@pytest.fixture
def segment(tmp_path: Path) -> bytes:
    return film(tmp_path / "segment.ts", 2).read_bytes()


def playlist(*names: str, key: str = "", beginning: str = "") -> bytes:
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:2"]
    lines += [f'#EXT-X-KEY:METHOD=AES-128,URI="{key}"'] if key else []
    lines += [f'#EXT-X-MAP:URI="{beginning}"'] if beginning else []
    lines += [line for name in names for line in ("#EXTINF:2,", name)]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()


def camera(url: str | Path, **changes: object) -> Camera:
    return Camera("gate", str(url), **changes)  # type: ignore[arg-type]


def taken(url: str | Path, most: int = 100, resume: Resume | None = None, **changes: object) -> list[Picture]:
    return list(itertools.islice(watch(camera(url, **changes), SETTINGS, threading.Event(), resume), most))


def test_a_playlist_of_its_own_host_is_watched(web: Web, segment: bytes) -> None:
    names = "0.ts", "/b/1.ts?token=1", f"{web.url.replace('127.0.0.1', 'localhost')}/b/2.ts"
    web.pages = {f"/a/{names[0]}": segment, names[1]: segment, "/b/2.ts": segment}
    web.pages["/a/live.m3u8?token=secret"] = playlist(*names)
    info, picture = probe(camera(f"{web.url.replace('127.0.0.1', 'localhost')}/a/live.m3u8?token=secret"), 3)
    assert (info.kind, info.codec, picture.size) == ("hls", "h264", (64, 48))


def test_a_playlist_that_wants_a_password_gets_it_at_every_opening(web: Web, segment: bytes) -> None:
    web.pages = {"/live.m3u8": playlist("0.ts"), "/0.ts": segment}
    web.password = "dTpwQHNz"  # u:p@ss
    assert probe(camera(web.url.replace("//", "//u:p%40ss@") + "/live.m3u8"), 3)[0].kind == "hls"
    with pytest.raises(Denied, match="refuses") as refused:
        probe(camera(web.url.replace("//", "//u:wrong@") + "/live.m3u8"), 3)
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize(
    "names",
    [
        "file://FIFO",
        "FIFO",
        "CANARY/x.ts",
        "//CANARY-PLACE/x.ts",
        "http://169.254.169.254/latest/meta-data/x.ts",
        "to-canary.ts",
        "to-file.ts",
        "concat:FIFO|FIFO",
        "crypto:FIFO",
        "subfile,,start,0,end,9,,:FIFO",
        "data:video/mp2t,x",
        "tcp://CANARY-PLACE",
    ],
)
def test_a_playlist_opens_nothing_elsewhere(names: str, web: Web, canary: Web, segment: bytes, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # whoever opens it waits for ever
    canary.pages = {"/x.ts": segment}
    place = canary.url.removeprefix("http://")
    name = names.replace("FIFO", str(fifo)).replace("CANARY-PLACE", place).replace("CANARY", canary.url)
    web.redirects = {"/to-canary.ts": f"{canary.url}/x.ts", "/to-file.ts": f"file://{fifo}"}
    master = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{name}\n".encode()
    web.pages = {
        "/segment.m3u8": playlist(name),
        "/second.m3u8": playlist("/0.ts", name, name),
        "/master.m3u8": master,
        "/key.m3u8": playlist("/0.ts", key=name),
        "/beginning.m3u8": playlist("/0.ts", beginning=name),
        "/0.ts": segment,
    }
    for page in web.pages:
        if page.endswith(".m3u8"):
            with pytest.raises(WatchwordError):
                taken(f"{web.url}{page}")
    assert canary.asked == []


def test_a_page_that_redirects_elsewhere_is_not_followed(web: Web, canary: Web, segment: bytes) -> None:
    canary.pages = {"/x": segment, "/x.m3u8": playlist("x")}
    web.redirects = {"/live": f"{canary.url}/x", "/live.m3u8": f"{canary.url}/x.m3u8"}
    with pytest.raises(Transient, match="redirects, or breaks off"):
        probe(camera(f"{web.url}/live"), 3)
    with pytest.raises(Invalid, match="redirects, which is not followed"):
        probe(camera(f"{web.url}/live.m3u8"), 3)
    assert canary.asked == []


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_mpegts_comes_over_the_network(scheme: str, segment: bytes) -> None:
    with socket.socket(type=socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM) as sender:
        over = threading.Event()
        if scheme == "tcp":
            sender.bind(("127.0.0.1", 0))
            sender.listen()
            port = sender.getsockname()[1]
        else:
            with socket.socket(type=socket.SOCK_DGRAM) as unused:
                unused.bind(("127.0.0.1", 0))
                port = unused.getsockname()[1]

        def send() -> None:
            to = sender.accept()[0] if scheme == "tcp" else sender
            with to, suppress(OSError):
                if scheme == "udp":
                    to.connect(("127.0.0.1", port))
                while not over.wait(0.002):
                    for begin in range(0, len(segment), 1316):
                        to.send(segment[begin : begin + 1316])

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        try:
            assert probe(camera(f"{scheme}://127.0.0.1:{port}"), 3)[0].codec == "h264"
        finally:
            over.set()
            thread.join(5)


def test_a_made_up_camera_runs_at_its_own_pace() -> None:
    began_s = time.monotonic()
    pictures = taken("synthetic:320x240@20", 3)
    assert [picture.size for picture in pictures] == [(320, 240)] * 3
    assert time.monotonic() - began_s > 0.9


def test_the_files_of_a_folder_are_one_recording_and_go_on_where_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "day [1]"
    folder.mkdir()
    for number in range(3):
        film(folder / f"{number}.ts", 2)
    (folder / "1.ts").write_bytes(b"damaged" * 1000)
    (folder / "notes.txt").write_text("no video")
    whole = taken(folder, speed=0.0, start_ms=START_MS)
    times = [picture.captured_ms - START_MS for picture in whole]
    assert times == [0, 500, 1000, 1500, 2000, 2500, 3000, 3500]
    assert [picture.captured_ms - START_MS for picture in whole if picture.after_gap] == [0, 2000]
    resumed = taken(folder, resume=Resume(START_MS, 2.5), speed=0.0)
    assert [picture.captured_ms - START_MS for picture in resumed] == [2500, 3000, 3500]
    assert resumed[0].recorded is not None and resumed[0].recorded.resumed
    looped = taken(folder, 12, speed=0.0, start_ms=START_MS, loop=True)
    assert [picture.captured_ms - START_MS for picture in looped[8:]] == [4000, 4500, 5000, 5500]
    before = identity(camera(folder))
    film(folder / "4.ts", 1)
    assert identity(camera(folder)) != before


def test_pictures_of_a_folder_are_looked_at_one_by_one(tmp_path: Path) -> None:
    for number in range(5):
        pixels = np.full((48, 64, 3), 40 * number, np.uint8)
        (tmp_path / f"{number}%03d.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, 95, "RGB"))
    found = taken(tmp_path, speed=0.0, start_ms=START_MS)
    assert [picture.captured_ms - START_MS for picture in found] == [0, 500, 1000, 1500, 2000]
    assert [picture.after_gap for picture in found] == [True] + [False] * 4
    assert [round(float(picture.sketch().mean()) / 40) for picture in found] == [0, 1, 2, 3, 4]
    resumed = taken(tmp_path, resume=Resume(START_MS, 1.5), speed=0.0)
    assert [picture.captured_ms - START_MS for picture in resumed] == [1500, 2000]


def test_a_folder_must_have_videos_or_pictures(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no video and no picture"):
        files_of(str(tmp_path))
    for name in ("a.jpg", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(Invalid, match="videos and pictures"):
        files_of(str(tmp_path))
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(Invalid):
        taken(tmp_path, speed=0.0)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a.mp4",
        "concat://a|b",
        "data://x",
        "user:hunter2@host://x",
        "rtsp://",
        "rtsp://user:hunter2@/x",
        "rtsp://host:99999/x",
        "http://user:hunter2@host:port/x",
        "http://host/\r\nX: hunter2",
        "udp://host",
        "udp://host:1?localaddr=hunter2",
        "tcp://host:1?listen=1",
        "tcp://user:hunter2@host:1",
        "tcp://host:1/x",
    ],
)
def test_an_address_that_cannot_be_is_one_line_that_says_what_can(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        kind_of(url)
    assert "rtsp+udp://" in refused.value.todo or "HOST:PORT" in refused.value.todo
    assert "hunter2" not in f"{refused.value} {refused.value.todo}"


@pytest.mark.parametrize("url", ["synthetic:movie=/etc/passwd", "synthetic:0x10", "synthetic:20x20@0"])
def test_words_of_a_made_up_camera_do_not_reach_ffmpeg(url: str) -> None:
    with pytest.raises(Invalid, match="no made up camera"):
        probe(camera(url), 3)
