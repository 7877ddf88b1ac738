"""Real video for tests of recording: encoded once, then put through the tap as if a camera sent it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np

from cameras.remux import Fragment, Tap

START_MS = 1_767_225_600_000


def film(
    path: Path,
    seconds: float,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    fps: int = 10,
    gop: int = 10,
    b_frames: int = 0,
    start_s: float = 0.0,
    container: str = "mpegts",
) -> Path:
    """Each picture is as bright as its number, so that it can be told which one it is: 0 to 79, again and again."""
    options = {"preset": "ultrafast", "bf": str(b_frames), "sc_threshold": "0"}
    if codec == "libx265":
        parameters = f"bframes={b_frames}:keyint={gop}:min-keyint={gop}:scenecut=0:log-level=none:pools=1"
        options = {"preset": "ultrafast", "x265-params": parameters}
    with av.open(str(path), "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=fps, options=options if codec.startswith("libx26") else {})
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        for number in range(round(seconds * fps)):
            pixels = np.full((size[1], size[0], 3), 8 + 3 * (number % 80), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                _mux(out, packet, start_s)
        for packet in stream.encode():
            _mux(out, packet, start_s)
    return path


def tapped(
    paths: Iterable[Path], *, camera: str = "gate", start_ms: int = START_MS, wanted: Callable[[], bool] = lambda: True
) -> list[Fragment]:
    """What a tap makes of these, one after another in one connection. Time begins at `start_ms`, and PTS tells it."""
    found: list[Fragment] = []
    for path in paths:
        start_ms = tap_into(Tap(camera, wanted, found.append), path, start_ms)
    return found


def tap_into(tap: Tap, path: Path, start_ms: int, clock: Callable[[int], int] = lambda ms: ms) -> int:
    """Read the file as a source does. `clock` is what the time of day shows at a time. Gives when it ended."""
    first: float | None = None
    last_s = step_s = 0.0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        with tap.passing(stream, container.demux(stream)) as packets:
            for packet in packets:
                for frame in packet.decode():
                    assert frame.pts is not None and frame.time_base is not None
                    at_s = float(frame.pts * frame.time_base)
                    first = at_s if first is None else first
                    step_s, last_s = at_s - first - last_s, at_s - first
                    tap.stamped(frame, clock(start_ms + round(last_s * 1000)))
    return start_ms + round((last_s + step_s) * 1000)


def decoded(data: bytes | Path) -> list[tuple[float, int]]:
    """The pictures of a video: time and number."""
    source: Any = str(data) if isinstance(data, Path) else io.BytesIO(data)
    found = []
    with av.open(source) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None and frame.time_base is not None
            number = round((float(frame.to_ndarray(format="gray").mean()) - 8) / 3)
            found.append((float(frame.pts * frame.time_base), number))
    return found


def numbers(data: bytes | Path) -> list[int]:
    """Which pictures a video shows."""
    return [number for _, number in decoded(data)]


def _mux(out: Any, packet: Any, start_s: float) -> None:
    shift = round(start_s / packet.time_base)
    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
    out.mux_one(packet)
