from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg

from cameras.address import kind_of, shown
from cameras.picture import Picture
from cameras.settings import CameraSettings
from cameras.source import probe, watch
from proto.errors import Denied, Invalid, Transient
from proto.types import Camera, now_ms
from tests.clips import CLIPS

SETTINGS = CameraSettings(open_timeout_s=2, silent_after_s=1)


def camera(url: str | Path, **changes: Any) -> Camera:
    return Camera("gate", str(url), **changes)


def pictures(source: Camera, most: int = 1000, settings: CameraSettings = SETTINGS) -> Iterator[Picture]:
    return itertools.islice(watch(source, settings, threading.Event()), most)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three seconds at 10 fps, each frame as bright as its number, in a folder with a space in its name."""
    path = tmp_path / "a folder" / "clip.mkv"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            pixels = np.full((48, 64, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@contextmanager
def answering(status: int, body: bytes = b"", kind: str = "video/mp4") -> Iterator[str]:
    """A web server that gives one answer; yields its address, with credentials in it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}/live?token=secret"
    finally:
        server.shutdown()
        server.server_close()


def test_a_real_clip_says_what_it_is() -> None:
    info, picture = probe(camera(CLIPS["bikes"]), 5)
    assert (info.kind, info.width, info.height, info.fps, info.duration_s, info.codec) == (
        "file",
        640,
        272,
        25.0,
        10.0,
        "h264",
    )
    assert picture.size == (640, 272)


def test_a_file_is_sampled_by_its_own_time_when_read_as_fast_as_possible() -> None:
    began = time.monotonic()
    taken = list(pictures(camera(CLIPS["bikes"], speed=0, start_ms=1_000_000)))
    assert time.monotonic() - began < 5
    assert [picture.captured_ms for picture in taken[:4]] == [1_000_000, 1_000_520, 1_001_000, 1_001_520]
    assert len(taken) == 20
    assert [picture.after_gap for picture in taken] == [True] + [False] * 19


def test_a_file_is_read_at_its_own_pace(clip: Path) -> None:
    began, began_ms = time.monotonic(), now_ms()
    taken = list(pictures(camera(clip)))
    assert 2.4 < time.monotonic() - began < 4
    assert all(0 <= picture.captured_ms - began_ms <= 3_000 for picture in taken)
    assert max(abs(picture.grabbed_ms - picture.captured_ms) for picture in taken) < 500


def test_a_looping_file_goes_on_in_time_and_marks_the_cut(clip: Path) -> None:
    taken = list(pictures(camera(clip, speed=0, start_ms=5_000, loop=True), 13))
    times = [picture.captured_ms for picture in taken]
    assert times == sorted(set(times))
    assert [picture.captured_ms for picture in taken if picture.after_gap] == [5_000, 8_000, 11_000]


def test_a_path_may_be_written_as_a_url(clip: Path) -> None:
    assert probe(camera(clip.as_uri()), 5)[0].kind == "file"


def test_a_stopped_watch_ends_although_it_waits_for_the_next_picture(clip: Path) -> None:
    stop = threading.Event()
    watching = watch(camera(clip, speed=0.01), SETTINGS, stop)
    next(watching)
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert list(watching) == []
    assert time.monotonic() - began < 2


def test_a_picture_is_scaled_to_the_short_side_and_not_blown_up(clip: Path) -> None:
    wide = probe(camera(CLIPS["bikes"]), 5)[1]
    assert simplejpeg.decode_jpeg(wide.jpeg(136, 90)).shape == (136, 320, 3)
    small = probe(camera(clip), 5)[1]
    assert simplejpeg.decode_jpeg(small.jpeg(260, 90)).shape == (96, 128, 3)
    assert wide.sketch().shape == (192, 320)


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(range(256)) * 40], ids=["empty", "text", "bytes"])
def test_a_file_that_is_no_video_is_invalid(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.mp4").write_bytes(content)
    with pytest.raises(Invalid, match="not a video"):
        probe(camera(tmp_path / "it.mp4"), 5)


def test_a_missing_file_is_invalid_and_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"there is no file .*gone\.mp4"):
        probe(camera(tmp_path / "gone.mp4"), 5)


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat", "list.mpd"])
def test_a_playlist_may_not_open_other_files(tmp_path: Path, clip: Path, name: str) -> None:
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{clip}'\n"
    (tmp_path / name).write_text(hls if name.startswith("list.m") else concat)
    with pytest.raises(Invalid):
        probe(camera(tmp_path / name), 5)


def test_a_playlist_on_the_web_may_not_either(clip: Path) -> None:
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{clip}\n#EXT-X-ENDLIST\n".encode()
    with (
        answering(200, hls, "application/vnd.apple.mpegurl") as url,
        pytest.raises(Invalid, match="does not send video"),
    ):
        probe(camera(url), 5)


def test_video_on_the_web_is_watched_live(clip: Path) -> None:
    with answering(200, clip.read_bytes()) as url:
        taken = list(itertools.islice(watch(camera(url), SETTINGS, threading.Event()), 1))
        assert abs(taken[0].captured_ms - now_ms()) < 1000
        with pytest.raises(Transient, match="ended"):
            list(pictures(camera(url)))


@pytest.mark.parametrize(("status", "error"), [(401, Denied), (403, Denied), (404, Transient), (500, Transient)])
def test_a_web_camera_that_refuses_is_told_without_its_credentials(status: int, error: type[Exception]) -> None:
    with answering(status) as url, pytest.raises(error) as caught:
        probe(camera(url), 5)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_nothing_at_the_address_is_transient_and_hides_the_credentials(scheme: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"{scheme}://user:secret@127.0.0.1:{unused.getsockname()[1]}/live?token=secret"
        with pytest.raises(Transient, match=f"no camera answers at {scheme}://127.0.0.1:") as caught:
            probe(camera(url), 2)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_camera_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(Transient, match="no camera answers"):
            probe(camera(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live"), 1)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["ftp://host/a.mp4", "concat://a|b", "data://x", "rtmp://host/a"])
def test_other_kinds_of_address_are_invalid(url: str) -> None:
    with pytest.raises(Invalid, match="not a kind of camera"):
        kind_of(url)


def test_the_address_is_shown_without_secrets() -> None:
    assert shown("rtsp://user:p@ss@host:554/live?key=1") == "rtsp://host:554/live"
    for password in ("p/ss", "p?ss", "p#ss", "[p"):
        assert shown(f"rtsp://user:{password}@host:554/live") == "rtsp://host:554/live"
    assert shown("rtsp://host:554/live@2") == "rtsp://host:554/live@2"
    assert shown("/videos/a b.mp4") == "/videos/a b.mp4"
    assert "secret" not in shown("rtsp://host/user=admin_password=secret_channel=1_stream=0.sdp")
