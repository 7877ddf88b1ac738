"""A live camera for tests: real video over HTTP, at its own pace, in which each picture shows when it was made."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import numpy as np

from proto.types import now_ms

_CELLS = 20
_TICK_MS = 20


@dataclass
class LiveCamera:
    """What the camera sends; changed while it sends, it takes effect at the next connection."""

    codec: str = "libx264"
    width: int = 320
    height: int = 240
    fps: int = 25
    gop: int = 12
    container: str = "mpegts"
    pts_jumps_s: float = 0.0
    """How far PTS jumps after two seconds."""
    url: str = ""
    connections: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def options(self) -> dict[str, str]:
        if self.codec == "libx265":
            params = f"bframes=0:keyint={self.gop}:min-keyint={self.gop}:log-level=none:pools=1:frame-threads=1"
            return {"preset": "ultrafast", "x265-params": params}
        return {"preset": "ultrafast", "tune": "zerolatency"} if self.codec == "libx264" else {}

    def send(self, to: Any) -> None:
        self.connections += 1
        out = av.open(to, "w", format=self.container, options={"flush_packets": "1"})
        stream: Any = out.add_stream(self.codec, rate=self.fps, options=self.options())
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        stream.codec_context.gop_size = self.gop
        stream.codec_context.thread_count = 1
        began_s = time.monotonic()
        for number in range(10**9):
            if self.stop.wait(max(0.0, began_s + number / self.fps - time.monotonic())):
                return
            frame = av.VideoFrame.from_ndarray(picture_of(now_ms(), self.width, self.height), format="gray")
            frame = frame.reformat(format="yuv420p")
            for packet in stream.encode(frame):
                if self.pts_jumps_s and number >= 2 * self.fps:
                    jump = round(self.pts_jumps_s / packet.time_base)
                    packet.pts, packet.dts = packet.pts + jump, packet.dts + jump
                out.mux_one(packet)


def picture_of(at_ms: int, width: int, height: int) -> np.ndarray:
    """A picture that shows this time as a row of black and white cells."""
    bits = [(at_ms // _TICK_MS >> bit) & 1 for bit in range(_CELLS)]
    row = np.repeat(np.array([235 if bit else 16 for bit in bits], np.uint8), width // _CELLS)
    return np.tile(np.pad(row, (0, width - len(row))), (height, 1))


def time_shown(frame: av.VideoFrame, near_ms: int) -> int:
    """When the picture was made, to 20 ms, near this time."""
    gray = frame.to_ndarray(format="gray")
    cell = gray.shape[1] / _CELLS
    ticks = sum(
        int(gray[:, int((n + 0.3) * cell) : int((n + 0.7) * cell) + 1].mean() > 125) << n for n in range(_CELLS)
    )
    round_ms = _TICK_MS << _CELLS
    at_ms = near_ms // round_ms * round_ms + ticks * _TICK_MS
    return min((at_ms - round_ms, at_ms, at_ms + round_ms), key=lambda ms: abs(ms - near_ms))


@contextmanager
def live_camera(**changes: Any) -> Iterator[LiveCamera]:
    """A camera at `url`, until the end of the block."""
    camera = LiveCamera(**changes)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            with suppress(OSError, av.error.FFmpegError):
                camera.send(_Socket(self.wfile))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    camera.url = f"http://127.0.0.1:{server.server_port}/live"
    try:
        yield camera
    finally:
        camera.stop.set()
        server.shutdown()
        server.server_close()


class _Socket:
    """Takes bytes and cannot seek."""

    def __init__(self, to: Any) -> None:
        self._to = to

    def write(self, data: bytes) -> int:
        self._to.write(data)
        return len(data)
