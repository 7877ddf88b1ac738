"""Where pictures come from; the only module that knows PyAV.

What a camera's address may reach is closed down twice. A whitelist of protocols per kind of source, and a whitelist of
containers: a playlist is a list of further addresses, so a "video" that is one could read any file of this machine, or
call hosts inside its network. Playlists are not taken from anywhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import av
import av.container
import av.error
import numpy as np
import simplejpeg
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from cameras.gate import SIDE, Luma
from cameras.sampling import Sampler
from cameras.settings import CameraSettings
from proto.errors import Denied, Invalid, Transient, WatchwordError
from proto.types import Camera, now_ms

Kind = Literal["file", "rtsp", "http", "device"]

_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,h264,hevc,m4v,mjpeg,mpjpeg,ivf,gif"
_MOST_SCALE = 2.0
"""A small picture is enlarged at most so far: more adds bytes and no detail."""
_MOST_BAD_PACKETS = 100


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source says of itself."""

    kind: Kind
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    """None for a live source."""
    codec: str


class _Scaler:
    """Scales pictures of one source to one size; setting that up costs more than the scaling, so it is kept."""

    def __init__(self, pixels: str) -> None:
        self._pixels = pixels
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        how = Interpolation.AREA if width < frame.width else Interpolation.BICUBIC
        scaled = self._reformatter.reformat(frame, width, height, self._pixels, interpolation=how)
        return np.ascontiguousarray(scaled.to_ndarray(), dtype=np.uint8)


class Picture:
    """One decoded picture. Scaling happens when it is asked for, in the thread that reads the source."""

    def __init__(self, source: _Source, frame: VideoFrame, captured_ms: int, *, after_gap: bool) -> None:
        self._source = source
        self._frame = frame
        self.captured_ms = captured_ms
        self.grabbed_ms = now_ms()
        self.after_gap = after_gap

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as decoded."""
        return self._frame.width, self._frame.height

    def luma(self) -> Luma:
        """The small signature that the novelty gate compares."""
        return self._source.gray(self._frame, SIDE, SIDE)

    def jpeg(self, side: int, quality: int) -> bytes:
        """The picture with a short side of `side` pixels, its proportions kept."""
        width, height = self.size
        scale = min(side / min(width, height), _MOST_SCALE)
        pixels = self._source.rgb(self._frame, max(1, round(width * scale)), max(1, round(height * scale)))
        packed: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
        return packed


def shown(url: str) -> str:
    """The address without what could be secret: user, password and query."""
    if "://" not in url:
        return url
    scheme, rest = url.split("://", 1)
    authority, slash, path = rest.split("?", 1)[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def kind_of(url: str) -> Kind:
    """What kind of source the address names, or Invalid."""
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    match scheme:
        case "":
            return "device" if url.startswith("/dev/video") else "file"
        case "file":
            return "file"
        case "rtsp" | "rtsps":
            return "rtsp"
        case "http" | "https":
            return "http"
        case _:
            raise Invalid(
                f"{scheme}:// is not a kind of camera that Watchword can watch",
                todo="use rtsp://, rtsps://, http://, https://, the path of a video file, or /dev/video0",
            )


def probe(camera: Camera, timeout_s: float) -> tuple[SourceInfo, Picture]:
    """Open the camera, look once, and close it.

    Raises Invalid when the address or the file can never work, Denied when the camera wants other credentials, and
    Transient when nothing answers there.
    """
    with _opened(camera, timeout_s, timeout_s) as source:
        frame = next(source.frames(timeout_s), None)
        if frame is None:
            raise Invalid(f"{shown(camera.url)} holds no picture", todo="give a video that can be played")
        return source.info(), Picture(source, frame, now_ms(), after_gap=True)


def watch(camera: Camera, settings: CameraSettings, stop: threading.Event) -> Iterator[Picture]:
    """The camera's pictures at `settings.fps`, until a file ends or `stop` is set.

    Raises like `probe`, and Transient when a live source ends or stays silent. A file is given at its own pace times
    `camera.speed`, as fast as possible when that is 0, and stamped with file time; a live source with the wall clock.
    """
    if kind_of(camera.url) == "file":
        return _replay(camera, settings, stop)
    return _live(camera, settings, stop)


def _live(camera: Camera, settings: CameraSettings, stop: threading.Event) -> Iterator[Picture]:
    sampler = Sampler(settings.fps)
    after_gap = True
    with _opened(camera, settings.open_timeout_s, settings.silent_after_s) as source:
        for frame in source.frames(silent_after_s=settings.silent_after_s):
            if stop.is_set():
                return
            if sampler.wants(time.monotonic()):
                yield Picture(source, frame, now_ms(), after_gap=after_gap)
                after_gap = False
    raise Transient(f"{shown(camera.url)} ended", todo="it is opened again")


def _replay(camera: Camera, settings: CameraSettings, stop: threading.Event) -> Iterator[Picture]:
    start_ms = now_ms() if camera.start_ms is None else camera.start_ms
    started_s = time.monotonic()
    sampler = Sampler(settings.fps)
    passed_s = 0.0  # file time of the rounds before this one
    while not stop.is_set():
        at_s, after_gap = passed_s, True
        with _opened(camera, settings.open_timeout_s, settings.silent_after_s) as source:
            for frame in source.frames():
                at_s = max(at_s, passed_s + source.seconds(frame))
                if stop.is_set():
                    return
                if not sampler.wants(at_s):
                    continue
                if camera.speed > 0 and stop.wait(max(0.0, started_s + at_s / camera.speed - time.monotonic())):
                    return
                yield Picture(source, frame, start_ms + round(at_s * 1000), after_gap=after_gap)
                after_gap = False
            if after_gap:
                raise Invalid(f"{shown(camera.url)} holds no picture", todo="give a video that can be played")
            passed_s = at_s + source.frame_s()
        if not camera.loop:
            return


class _Source:
    """An open container and its video stream."""

    def __init__(self, container: av.container.InputContainer, camera: Camera, kind: Kind) -> None:
        if not container.streams.video:
            raise Invalid(f"{shown(camera.url)} has no video in it", todo="give a video file or a camera")
        self._container = container
        self._camera = camera
        self._kind: Kind = kind
        self._stream = container.streams.video[0]
        # Cameras are many and cores are few; threads of one decoder would only add delay.
        self._stream.thread_count = 1
        self.gray, self.rgb = _Scaler("gray"), _Scaler("rgb24")
        self._first_pts: int | None = None
        self._count = 0

    def info(self) -> SourceInfo:
        rate = self._stream.average_rate
        duration = self._container.duration
        return SourceInfo(
            kind=self._kind,
            width=self._stream.width,
            height=self._stream.height,
            fps=float(rate) if rate else None,
            duration_s=duration / av.time_base if duration and self._kind == "file" else None,
            codec=self._stream.codec_context.name,
        )

    def frame_s(self) -> float:
        """How long one frame of the source lasts."""
        rate = self._stream.average_rate
        return 1.0 / float(rate) if rate else 0.04

    def seconds(self, frame: VideoFrame) -> float:
        """The frame's time since the first."""
        self._count += 1
        if frame.pts is None or frame.time_base is None:
            return (self._count - 1) * self.frame_s()
        if self._first_pts is None:
            self._first_pts = frame.pts
        return float((frame.pts - self._first_pts) * frame.time_base)

    def frames(self, silent_after_s: float | None = None) -> Iterator[VideoFrame]:
        """Decoded frames. Transient when bytes come but no frame does for `silent_after_s`."""
        bad = 0
        last_s = time.monotonic()
        for packet in self._container.demux(self._stream):
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError as error:
                bad += 1
                if bad > _MOST_BAD_PACKETS:
                    raise Invalid(f"{shown(self._camera.url)} cannot be decoded", todo="is it damaged?") from error
                decoded = []
            if decoded:
                bad, last_s = 0, time.monotonic()
            elif silent_after_s is not None and time.monotonic() - last_s > silent_after_s:
                raise Transient(
                    f"{shown(self._camera.url)} sends no picture for {silent_after_s:.0f} s", todo="it is opened again"
                )
            yield from decoded


@contextmanager
def _opened(camera: Camera, open_s: float, read_s: float) -> Iterator[_Source]:
    """The camera's container, closed at the end; every error of PyAV inside becomes one of ours."""
    kind = kind_of(camera.url)
    address, container_format, options = camera.url, None, {"format_whitelist": _CONTAINERS}
    match kind:
        case "file":
            address = str(_path(camera.url))
            options["protocol_whitelist"] = "file"
        case "rtsp":
            container_format = "rtsp"
            options = {"protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls,crypto", "rtsp_transport": "tcp"}
        case "http":
            options["protocol_whitelist"] = "http,https,tcp,tls"
        case "device":
            container_format = "v4l2"
            options = {"protocol_whitelist": "file"}
    try:
        with av.open(address, format=container_format, options=options, timeout=(open_s, read_s)) as container:
            yield _Source(container, camera, kind)
    except av.error.FFmpegError as error:
        raise _translated(error, kind, shown(camera.url)) from None  # PyAV's own text shows the credentials


def _path(url: str) -> Path:
    path = Path(unquote(urlsplit(url).path) if url.lower().startswith("file://") else url)
    if not path.exists():
        raise Invalid(
            f"there is no file {path}", todo="give the path of a video file, or an rtsp:// or http:// address"
        )
    return path


def _translated(error: av.error.FFmpegError, kind: Kind, where: str) -> WatchwordError:
    reason = error.strerror or type(error).__name__
    match kind, error:
        case _, av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return Denied(f"the camera at {where} refuses", todo="put its user and password into the address")
        case "file", av.error.InvalidDataError() | av.error.ArgumentError():
            return Invalid(f"{where} is not a video that Watchword can read", todo="give a file such as MP4 or MKV")
        case "file", _:
            return Invalid(f"{where} cannot be read ({reason})", todo="may this user read it?")
        case "http", av.error.InvalidDataError() | av.error.ArgumentError():
            return Invalid(
                f"{where} does not send video", todo="give the address of the stream; playlists are not taken"
            )
        case _, av.error.TimeoutError() | av.error.ExitError():
            return Transient(f"no camera answers at {where} in time", todo="is it on, and is the address right?")
        case _:
            return Transient(f"no camera answers at {where} ({reason})", todo="is it on, and is the address right?")
