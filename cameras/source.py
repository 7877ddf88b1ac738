"""Where pictures come from, read with PyAV. What an address may reach is said in cameras/opening.py."""

from __future__ import annotations

import copy
import errno
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import av
import av.container
import av.error
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cameras.address import Kind, files_of, kind_of, shown
from cameras.clock import LiveClock, RecordingClock, this_instant
from cameras.meter import Meter, SourceFacts
from cameras.opening import opening_of
from cameras.packet_gate import PacketGate
from cameras.picture import Darkroom, Passed, Picture
from cameras.remux import Tap
from cameras.replaying import Replay
from cameras.sampling import Sampler
from cameras.sent import SentClock, reference_ms
from cameras.settings import CameraSettings
from cameras.sparing import gated
from proto.errors import Denied, Invalid, Transient, WatchwordError
from proto.metrics import PACKETS_DECODED
from proto.types import Camera, now_ms

_MOST_BAD_PACKETS = 100
_MOST_FPS = 1000
_USUAL_FRAME_S = 0.04
_MOST_GROUP_PACKETS = 3000
"""So many packets without a key frame are kept in memory; a recording with fewer key frames is decoded whole."""


Shown = TypeVar("Shown", bound=Picture | Passed)


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a replay goes on."""

    start_ms: int
    """The captured time of the recording's first picture."""
    at_s: float | None
    """File time of the last picture that was kept; None to begin with the first."""


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


def probe(camera: Camera, timeout_s: float) -> tuple[SourceInfo, Picture]:
    """Open the camera, look once, and close it.

    Raises Invalid when the address or the file can never work, Denied when the camera wants other credentials, and
    Transient when nothing answers there.
    """
    with _opened(camera, timeout_s, timeout_s) as source:
        frame = next(source.frames(timeout_s), None)
        if frame is None:
            raise Invalid(f"{shown(camera.url)} holds no picture", todo="give a video that can be played")
        return source.info(), Picture(source.darkroom, frame, now_ms(), after_gap=True)


def watch(
    camera: Camera,
    settings: CameraSettings,
    stop: threading.Event,
    resume: Resume | None = None,
    tap: Tap | None = None,
) -> Iterator[Picture]:
    """The camera's pictures at `settings.fps`, until a file ends or `stop` is set.

    Raises like `probe`, and Transient when a live source ends or stays silent. A file is given at its own pace times
    `camera.speed`, as fast as possible when that is 0, and stamped with file time. It goes on where `resume` says; the
    first picture is then the one that was kept last, and says so. A live source is stamped with the stream's own clock,
    anchored to the wall clock (cameras/clock.py). The packets pass through `tap`.
    """
    tap = tap or _recording_nothing(camera)
    if kind_of(camera.url) == "file":
        if resume is None:
            resume = Resume(now_ms() if camera.start_ms is None else camera.start_ms, None)
        return _replay(camera, settings, stop, resume, tap)
    return _live(camera, settings, stop, tap, _whole)


def watch_sparing(
    camera: Camera,
    settings: CameraSettings,
    stop: threading.Event,
    resume: Resume | None = None,
    tap: Tap | None = None,
) -> Iterator[Picture | Passed]:
    """Like `watch`, but of a live source only what its packet gate asks for is decoded. Whoever takes the pictures says
    in `Picture.stirs` whether something moves, and is told of those that were passed over.
    """
    if kind_of(camera.url) == "file" or settings.packet_gate == "off":
        return watch(camera, settings, stop, resume, tap)
    return _live(camera, settings, stop, tap or _recording_nothing(camera), gated)


def _recording_nothing(camera: Camera) -> Tap:
    return Tap(camera.name, lambda: False, lambda _: None)


def _live(
    camera: Camera,
    settings: CameraSettings,
    stop: threading.Event,
    tap: Tap,
    read: Callable[..., Iterator[Shown]],
) -> Iterator[Shown]:
    with (
        _opened(camera, settings.open_timeout_s, settings.silent_after_s) as source,
        source.seen(tap, source.packets()) as packets,
    ):
        yield from read(source, source.metered(packets), settings, stop, tap)
        if stop.is_set():
            return
    raise Transient(f"{shown(camera.url)} ended", todo="it is opened again")


def _whole(
    source: _Source, packets: Iterator[Packet[VideoStream]], settings: CameraSettings, stop: threading.Event, tap: Tap
) -> Iterator[Picture]:
    sampler, clock = Sampler(settings.fps), LiveClock()
    after_gap = True
    for frame in source.frames(settings.silent_after_s, packets):
        if stop.is_set():
            return
        stamp = clock.stamp(_pts_s(frame), this_instant())
        tap.stamped(frame, stamp.captured_ms)
        after_gap = after_gap or stamp.after_gap
        if sampler.wants(stamp.stream_s):
            yield Picture(source.darkroom, frame, stamp.captured_ms, after_gap=after_gap, source=source.facts())
            after_gap = False


def _replay(
    camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume, tap: Tap
) -> Iterator[Picture]:
    def opened(path: Path) -> AbstractContextManager[_Source]:
        return _opened(camera, settings.open_timeout_s, settings.silent_after_s, path)

    return Replay(camera, settings, stop, opened, _pts_s, tap).pictures(resume.start_ms, resume.at_s)


def _pts_s(timed: VideoFrame | Packet[VideoStream]) -> float | None:
    if timed.pts is None or timed.time_base is None:
        return None
    return float(timed.pts * timed.time_base)


class _Source:
    """An open container and its video stream."""

    def __init__(self, container: av.container.InputContainer, camera: Camera, kind: Kind) -> None:
        if not container.streams.video:
            raise Invalid(f"{shown(camera.url)} has no video in it", todo="give a video file or a camera")
        self._container = container
        self._sent = SentClock()
        self._camera = camera
        self._kind: Kind = kind
        self.stream = container.streams.video[0]
        # Cameras are many and cores are few; threads of one decoder would only add delay.
        self.stream.thread_count = 1
        self.darkroom = Darkroom(camera.masks)
        self.gate: PacketGate | None = None
        self.silent_after_s: float | None = None
        """How long bytes may come without a frame."""
        self._meter = Meter()
        self._bad = 0
        self._framed_s = time.monotonic()

    def info(self) -> SourceInfo:
        rate = self.stream.average_rate
        duration = self._container.duration
        return SourceInfo(
            kind=self._kind,
            width=self.stream.width,
            height=self.stream.height,
            fps=float(rate) if rate else None,
            duration_s=duration / av.time_base if duration and self._kind == "file" else None,
            codec=self.stream.codec_context.name,
        )

    def facts(self) -> SourceFacts:
        """What it sends, by what was seen of it so far."""
        rate, meter = self.stream.average_rate, self._meter
        declared = float(rate) if rate and rate <= _MOST_FPS else 0.0
        return SourceFacts(
            self.stream.codec_context.name,
            self.stream.width,
            self.stream.height,
            meter.fps or declared,
            meter.bits_per_second,
            meter.gop_frames,
            meter.decoded_share,
            clock_ahead_ms=self._sent.ahead_ms,
            gate="off" if self.gate is None else self.gate.state.value,
            gate_why="" if self.gate is None else self.gate.why,
        )

    def metered(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """The same packets, counted."""
        for packet in packets:
            if packet.size:
                self._meter.packet(packet.size, time.monotonic(), key=packet.is_keyframe)
                if self._kind == "rtsp" and packet.has_sidedata("prft"):
                    taken_ms = reference_ms(bytes(packet.get_sidedata("prft")))
                    if taken_ms is not None:
                        self._sent.packet(taken_ms, now_ms())
            yield packet

    def frame_s(self) -> float:
        """How long one frame of the source lasts."""
        rate = self.stream.average_rate
        # Some containers tell the pace of their time base instead.
        return 1.0 / float(rate) if rate and rate <= _MOST_FPS else _USUAL_FRAME_S

    def packets(self) -> Iterator[Packet[VideoStream]]:
        return self._container.demux(self.stream)

    def seen(
        self, tap: Tap, packets: Iterator[Packet[VideoStream]]
    ) -> AbstractContextManager[Iterator[Packet[VideoStream]]]:
        """The same packets, seen by `tap`."""
        return tap.passing(self.stream, packets)

    def skipped(
        self, packets: Iterator[Packet[VideoStream]], clock: RecordingClock, first_s: float, until_s: float
    ) -> tuple[RecordingClock, Iterator[Packet[VideoStream]]]:
        """Pass over all that need not be decoded to see the picture at file time `until_s`.

        Gives the clock as it is after what was passed over, and the packets from there. A picture can be decoded from
        the key frame before it on, so groups of packets from one key frame to the next are left out, and only their
        times looked at. `first_s` is the PTS of the first picture.
        """
        clock.place(first_s)
        group: list[Packet[VideoStream]] = []
        for packet in itertools.chain(packets, [None]):
            if group and (packet is None or packet.is_keyframe):
                after = copy.copy(clock)
                times = sorted(at_s for at_s in map(_pts_s, group) if at_s is not None)
                for at_s in times:
                    if at_s > first_s:
                        after.place(at_s)
                reached_s = after.next_s if packet is None else after.place(_pts_s(packet)).at_s
                timed = packet is None or packet.pts is not None
                if not timed or (reached_s >= until_s if packet is None else reached_s > until_s):
                    return clock, itertools.chain(group, [] if packet is None else [packet], packets)
                clock, group = after, []
            if packet is not None:
                group.append(packet)
                if len(group) > _MOST_GROUP_PACKETS or (packet.pts is None and packet.size > 0):
                    return clock, itertools.chain(group, packets)
        return clock, iter(())

    def frames(
        self, silent_after_s: float | None = None, packets: Iterable[Packet[VideoStream]] | None = None
    ) -> Iterator[VideoFrame]:
        """Decoded frames. Transient when bytes come but no frame does for `silent_after_s`."""
        self.silent_after_s = silent_after_s
        self.rests()
        for packet in self.packets() if packets is None else packets:
            yield from self.decoded(packet)

    def decoded(self, packet: Packet[VideoStream], single: VideoCodecContext | None = None) -> list[VideoFrame]:
        """The frames that come out of the decoder with this packet, or all that come out of `single`, which has only
        this one; none where it is damaged.

        Raises Invalid after many damaged ones, and Transient when no frame came for `silent_after_s`.
        """
        if packet.size:
            self._meter.decoded()
            PACKETS_DECODED.inc()
        try:
            frames = packet.decode() if single is None else [*single.decode(packet), *single.decode(None)]
        except av.error.InvalidDataError as error:
            self._bad += 1
            if self._bad > _MOST_BAD_PACKETS:
                raise Invalid(f"{shown(self._camera.url)} cannot be decoded", todo="is it damaged?") from error
            frames = []
        silent_after_s = self.silent_after_s
        if frames:
            self._bad = 0
            self.rests()
        elif silent_after_s is not None and time.monotonic() - self._framed_s > silent_after_s:
            raise Transient(
                f"{shown(self._camera.url)} sends no picture for {silent_after_s:.0f} s", todo="it is opened again"
            )
        return frames

    def rests(self) -> None:
        """No frame is waited for from before now."""
        self._framed_s = time.monotonic()


@contextmanager
def _opened(camera: Camera, open_s: float, read_s: float, file: Path | None = None) -> Iterator[_Source]:
    """The camera's container, closed at the end; every error of PyAV inside becomes one of ours. Of a folder, `file` is
    opened, or the first."""
    kind = kind_of(camera.url)
    if kind == "file" and file is None:
        file = files_of(camera.url)[0]
    how = opening_of(camera.url, file, open_s, read_s)
    where = shown(camera.url) if file is None else str(file)
    try:
        with av.open(
            how.address,
            format=how.format,
            options=how.options,
            timeout=(open_s, read_s),
            io_open=how.playlist,
            metadata_errors="replace",  # titles of a damaged file are no text
        ) as container:
            yield _Source(container, camera, kind)
    except (av.error.FFmpegError, WatchwordError) as error:
        if how.playlist is not None and how.playlist.trouble is not None:
            raise how.playlist.trouble from None
        if isinstance(error, WatchwordError):
            raise
        raise _translated(error, kind, where) from None  # PyAV's own text shows the credentials
    finally:
        if how.playlist is not None:
            how.playlist.close()


def _translated(error: av.error.FFmpegError, kind: Kind, where: str) -> WatchwordError:
    reason = error.strerror or type(error).__name__
    match kind, error:
        case _, av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return Denied(f"the camera at {where} refuses", todo="put its user and password into the address")
        case "file", av.error.InvalidDataError() | av.error.ArgumentError():
            return Invalid(f"{where} is not a video that Watchword can read", todo="give a file such as MP4 or MKV")
        case "file", _:
            return Invalid(f"{where} cannot be read ({reason})", todo="may this user read it?")
        case "http" | "hls" | "mpegts", av.error.InvalidDataError() | av.error.ArgumentError():
            return Invalid(
                f"{where} does not send video",
                todo="give the address of the stream; a playlist is taken where its name ends with .m3u8",
            )
        case "http", av.error.OSError(errno=errno.EIO):
            return Transient(f"{where} redirects, or breaks off", todo="give the address that it redirects to")
        case _, av.error.TimeoutError() | av.error.ExitError():
            return Transient(f"no camera answers at {where} in time", todo="is it on, and is the address right?")
        case _:
            return Transient(f"no camera answers at {where} ({reason})", todo="is it on, and is the address right?")
