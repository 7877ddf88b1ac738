"""Cameras that behave badly, over real sockets: each ends in a line that says so, and leaves nothing behind."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cameras.picture import Picture
from cameras.settings import CameraSettings
from cameras.source import probe, watch
from proto.errors import Denied, Invalid, Transient, WatchwordError
from proto.types import Camera
from tests.cameras.filming import film

SETTINGS = CameraSettings(open_timeout_s=2, silent_after_s=0.5, fps=60)
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n"
WRAP_S = 2**33 / 90_000

Send = Callable[[socket.socket, threading.Event], None]


@contextmanager
def serving(send: Send) -> Iterator[int]:
    """A port where each connection is read from once, and then given to `send`."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(4096)
                send(connection, over)

        def accept() -> None:
            with suppress(OSError):
                while not over.is_set():
                    connection, _ = server.accept()
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            with suppress(OSError):
                socket.create_connection(server.getsockname(), 1).close()
            thread.join(5)


def sends(*parts: bytes) -> Send:
    return lambda connection, _: connection.sendall(b"".join(parts))


def dripping(before: bytes) -> Send:
    """A byte now and then, after what is sent at once."""

    def send(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(before)
        while not over.wait(0.05):
            connection.sendall(b"\0")

    return send


def camera(port: int, scheme: str = "http") -> Camera:
    return Camera("gate", f"{scheme}://user:hunter2@127.0.0.1:{port}/live")


def until_it_ends(port: int, most: int = 1000) -> tuple[list[Picture], WatchwordError]:
    """The pictures that came, and how it ended."""
    taken: list[Picture] = []
    with pytest.raises(WatchwordError) as ended:
        taken.extend(itertools.islice(watch(camera(port), SETTINGS, threading.Event()), most))
        raise AssertionError("it did not end")
    assert "hunter2" not in str(ended.value)
    return taken, ended.value


def open_now() -> tuple[int, int]:
    """Open files and threads."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("clip") / "a.ts", 1).read_bytes()


@pytest.mark.parametrize("before", [b"", HEAD, HEAD + b"G"])
def test_a_camera_that_drips_is_given_up_in_time(before: bytes) -> None:
    began_s = time.monotonic()
    with serving(dripping(before)) as port, pytest.raises((Transient, Invalid)):
        probe(camera(port), 0.5)
    assert time.monotonic() - began_s < 30


def test_a_camera_that_begins_to_drip_is_silent(clip: bytes) -> None:
    with serving(dripping(HEAD + clip)) as port:
        taken, ended = until_it_ends(port)
    assert taken and isinstance(ended, Transient)


def test_a_camera_that_flaps_leaves_nothing_open(clip: bytes) -> None:
    with serving(sends(HEAD, clip)) as port:
        until_it_ends(port)
        before = open_now()
        for _ in range(20):
            assert isinstance(until_it_ends(port)[1], Transient)
        after = open_now()
    assert after[0] <= before[0] + 4 and after[1] <= before[1] + 4


def replayed(path: Path, *parts: bytes) -> list[Picture]:
    """The pictures of what a camera sent, as they come out of the decoder."""
    path.write_bytes(b"".join(parts))
    return list(watch(Camera("gate", str(path), speed=0.0, start_ms=0), SETTINGS, threading.Event()))


def test_a_camera_that_changes_its_resolution_is_watched_on(tmp_path: Path, clip: bytes) -> None:
    larger = film(tmp_path / "b.ts", 1, size=(128, 96), start_s=1).read_bytes()
    taken = replayed(tmp_path / "c.ts", clip, larger)
    assert [picture.size for picture in taken] == [(64, 48)] * 10 + [(128, 96)] * 10


def test_a_camera_that_changes_its_codec_gives_pictures_or_a_line(tmp_path: Path, clip: bytes) -> None:
    other = film(tmp_path / "b.ts", 1, codec="libx265", start_s=1).read_bytes()
    with suppress(Invalid):
        assert len(replayed(tmp_path / "c.ts", clip, other)) >= 10


@pytest.mark.parametrize(("begins_s", "last_ms"), [(WRAP_S - 0.5, 900), (3600.0, 1940)])
def test_time_stamps_that_wrap_or_jump_an_hour_do_not_move_the_time(
    tmp_path: Path, clip: bytes, begins_s: float, last_ms: int
) -> None:
    other = film(tmp_path / "b.ts", 1, start_s=begins_s).read_bytes()
    taken = replayed(tmp_path / "c.ts", *([other] if last_ms < 1000 else [clip, other]))
    assert abs(taken[-1].captured_ms - last_ms) < 100
    assert [picture.captured_ms for picture in taken] == sorted(picture.captured_ms for picture in taken)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_video_gives_pictures_or_a_line(clip: bytes, seed: int) -> None:
    chance = np.random.default_rng(seed)
    damaged = bytearray(clip)
    for place in chance.integers(0, len(clip), 200):
        damaged[place] = chance.integers(0, 256)
    with serving(sends(HEAD, bytes(damaged))) as port:
        until_it_ends(port)


def test_titles_that_are_no_text_are_no_error(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", 1, container="matroska")
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"\xff\xb1vf"))
    assert probe(Camera("gate", str(path)), 5)[1].size == (64, 48)


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_video_of_an_unknown_codec_is_told(tmp_path: Path, speed: float) -> None:
    path = film(tmp_path / "a.mp4", 1, container="mp4")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    camera = Camera("gate", str(path), speed=speed)
    with pytest.raises(Invalid, match="of a kind that cannot be decoded"):
        probe(camera, 5)
    with pytest.raises(Invalid, match="of a kind that cannot be decoded"):
        list(watch(camera, SETTINGS, threading.Event()))


def test_a_camera_with_sound_alone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sound.ts"
    with av.open(str(path), "w", format="mpegts") as out:
        stream: Any = out.add_stream("mp2", rate=44_100)
        for number in range(20):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1152), np.int16), format="s16", layout="stereo")
            sound.rate, sound.pts = 44_100, number * 1152
            out.mux(stream.encode(sound))
        out.mux(stream.encode())
    with serving(sends(HEAD, path.read_bytes())) as port:
        _, ended = until_it_ends(port)
    assert isinstance(ended, Invalid) and "has no video in it" in str(ended)


def test_a_camera_that_wants_a_login_over_rtsp_is_told_without_it() -> None:
    def refuse(connection: socket.socket, _: threading.Event) -> None:
        for number in range(1, 6):
            connection.sendall(
                f'RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n'.encode()
            )
            connection.recv(4096)

    with serving(refuse) as port, pytest.raises(Denied, match="refuses") as refused:
        probe(camera(port, "rtsp"), 2)
    assert "hunter2" not in str(refused.value)
