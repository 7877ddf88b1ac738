"""Packets of an open source become fragments of MP4, without encoding; the part of recording that knows PyAV.

It works in the thread that reads the source, on the packets that are decoded for sampling, so that a camera is opened
once. Writing to the disk is another thread's affair (cameras/segments.py).
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from catalog.mp4 import TICKS, init_size
from proto.metrics import RECORDING_LOST

log = logging.getLogger("watchword.cameras")

CODECS = frozenset({"h264", "hevc", "av1", "mpeg4", "mjpeg"})
"""What MP4 holds of what cameras send."""
_OPTIONS = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer",
    "frag_duration": "2000000",
    "min_frag_duration": "900000",
    "flush_packets": "1",
    "video_track_timescale": str(TICKS),
}
_BACK_S = 0.5
_HOLE_S = 5.0
"""Packets whose time goes back or forward by more are a new stream: the clock of the stream jumped, or it was away."""
_STEP_MS = 1000
"""The time of day of a stream that moves by more has jumped."""
_PARAMETERS_BYTES = 4096
"""Parameter sets lie at the beginning of a key frame."""
_MOST_FAILURES = 5
_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Format:
    """What the fragments of one stream have in common. Another one, though equal, is another stream."""

    init: bytes
    number: int = field(default_factory=lambda: next(_NUMBERS))


@dataclass(frozen=True, slots=True)
class Fragment:
    """Some pictures of a stream, as they are written."""

    camera: str
    form: Format
    number: int
    """Counts the fragments of the stream: where one is missing, the next one cannot be decoded unless it is `key`."""
    data: bytes
    ticks: int
    start_ms: int
    """When its first picture was taken, by the clock that stamps sampled pictures."""
    end_ms: int
    key: bool


class Tap:
    """Sees the packets of one opened source pass, and the times of its pictures. Never raises into the source."""

    def __init__(self, camera: str, wanted: Callable[[], bool], give: Callable[[Fragment], None]) -> None:
        """`wanted` says whether it is recorded now; `give` takes the fragments and does not block."""
        self._camera = camera
        self._wanted = wanted
        self._give = give
        self._muxer: _Muxer | None = None
        self._off_ms: float | None = None
        self._size = (0, 0)
        self._failures = 0

    @contextmanager
    def passing(
        self, stream: VideoStream, packets: Iterator[Packet[VideoStream]]
    ) -> Iterator[Iterator[Packet[VideoStream]]]:
        """The same packets. Each is recorded after it was decoded, when the times of its pictures are known."""
        self._size = stream.width, stream.height
        try:
            yield self._passed(stream, packets)
        finally:
            self._end()

    def stamped(self, frame: VideoFrame, captured_ms: int) -> None:
        """A picture was decoded, and this is when it was taken."""
        self.sized(frame.width, frame.height)
        self.timed(None if frame.pts is None else _seconds(frame.pts, frame), captured_ms)

    def sized(self, width: int, height: int) -> None:
        """Pictures are of this size."""
        self._size = width, height

    def timed(self, pts_s: float | None, captured_ms: int) -> None:
        """When the picture with this PTS was taken, whether it is decoded or not."""
        off_ms = captured_ms - (time.monotonic() if pts_s is None else pts_s) * 1000
        if self._off_ms is not None and abs(off_ms - self._off_ms) > _STEP_MS and not self._settling(off_ms):
            self._end()  # a clock jumped: what follows is another time
        self._off_ms = off_ms

    def _settling(self, off_ms: float) -> bool:
        """Whether the source was only opened: its first pictures had waited, and the clock learns how long."""
        return self._off_ms is not None and off_ms < self._off_ms and self._muxer is not None and not self._muxer.given

    def _passed(self, stream: VideoStream, packets: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        codec, told = stream.codec_context.name, False
        parameters = Parameters(stream)
        for packet in packets:
            yield packet
            if not self._wanted():
                self._end()
            elif codec in CODECS:
                if packet.size and self._failures <= _MOST_FAILURES:
                    self._take(stream, packet, parameters)
            elif not told:
                told = True
                log.warning(
                    "camera %s is not recorded: it sends %s, which MP4 does not hold; have it send H.264",
                    self._camera,
                    codec,
                )

    def _take(self, stream: VideoStream, packet: Packet[VideoStream], parameters: Parameters) -> None:
        try:
            changed = packet.is_keyframe and parameters.changed(packet)
            if self._muxer is not None and (changed or self._muxer.jumps(packet)):
                self._end()
            if self._muxer is None:
                if not packet.is_keyframe:
                    return
                self._muxer = _Muxer(stream, self._size, in_band=parameters.in_band)
            self._tell(self._muxer, self._muxer.add(packet))
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            self._failed(error)

    def _tell(self, muxer: _Muxer, piece: _Piece | None) -> None:
        if piece is None or muxer.form is None:
            return
        if self._off_ms is None:
            RECORDING_LOST.labels(reason="time").inc()
            return
        start_ms = round(piece.pts_s * 1000 + self._off_ms)
        end_ms = start_ms + max(1, round(piece.ticks / TICKS * 1000))
        self._give(
            Fragment(self._camera, muxer.form, piece.number, piece.data, piece.ticks, start_ms, end_ms, piece.key)
        )
        muxer.given = True
        self._failures = 0

    def _end(self) -> None:
        """The stream ends here; what is open of it is given."""
        muxer, self._muxer = self._muxer, None
        if muxer is not None:
            try:
                self._tell(muxer, muxer.close())
            except (av.error.FFmpegError, ValueError, OverflowError) as error:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._muxer = None
        self._failures += 1
        RECORDING_LOST.labels(reason="format").inc()
        if self._failures in (1, _MOST_FAILURES + 1):
            last = self._failures > 1
            log.warning(
                "camera %s: what it sends cannot be recorded (%s); %s",
                self._camera,
                type(error).__name__,
                "it is not recorded until it is opened again" if last else "it is tried again from the next key frame",
            )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A fragment as the muxer made it."""

    number: int
    data: bytes
    ticks: int
    pts_s: float
    """Of its first picture, by the stream's own clock."""
    key: bool


class _Muxer:
    """Makes fragments of one stream, from one of its key frames on."""

    def __init__(self, stream: VideoStream, size: tuple[int, int], *, in_band: bool) -> None:
        """`in_band`: key frames carry the parameter sets; otherwise the source told them when it was opened."""
        self.form: Format | None = None
        self.given = False
        """Whether a fragment of it was given on."""
        self._pipe = _Pipe()
        self._out: OutputContainer = av.open(self._pipe, "w", format="mp4", options=_OPTIONS)
        if in_band:
            width, height = size
            self._stream: Any = self._out.add_mux_stream(stream.codec_context.name, width=width, height=height)
        else:
            self._stream = self._out.add_stream_from_template(stream, opaque=True)
        self._count = 0
        self._base_ticks: int | None = None
        self._last_ticks = 0
        self._step_ticks = 0
        self._begun_ticks = 0
        self._begun: tuple[float, bool] | None = None

    def jumps(self, packet: Packet[VideoStream]) -> bool:
        """Whether this packet does not follow the one before."""
        if self._base_ticks is None:
            return False
        step = _ticks(_decoded_s(packet)) - self._base_ticks - self._last_ticks
        return step < -_BACK_S * TICKS or step > _HOLE_S * TICKS

    def add(self, packet: Packet[VideoStream]) -> _Piece | None:
        """Add the next packet. The fragment before it, when one is whole."""
        pts_s = _seconds(packet.pts, packet)
        ticks = _ticks(_decoded_s(packet))
        if self._base_ticks is None:
            self._base_ticks = ticks
        else:
            # Times must grow; those that a source repeats or swaps are moved by as little as there is.
            self._step_ticks = max(1, ticks - self._base_ticks - self._last_ticks)
            self._last_ticks += self._step_ticks
        packet.dts = self._last_ticks
        packet.pts = max(self._last_ticks, _ticks(pts_s) - self._base_ticks)
        packet.time_base = Fraction(1, TICKS)
        packet.duration = 0
        packet.stream = self._stream
        self._out.mux_one(packet)
        piece = self._piece(self._last_ticks)
        if self._begun is None:
            self._begun, self._begun_ticks = (pts_s, packet.is_keyframe), self._last_ticks
        return piece

    def close(self) -> _Piece | None:
        """The last fragment."""
        self._out.close()
        return self._piece(self._last_ticks + max(1, self._step_ticks))

    def _piece(self, until_ticks: int) -> _Piece | None:
        data = self._pipe.taken()
        if self.form is None and data:
            ends = init_size(data)
            self.form, data = Format(data[:ends]), data[ends:]
        if not data or self._begun is None:
            return None
        (pts_s, key), self._begun = self._begun, None
        self._count += 1
        return _Piece(self._count, data, until_ticks - self._begun_ticks, pts_s, key)


class Parameters:
    """The parameter sets that a stream carries in its key frames, as most cameras do. They say its resolution."""

    def __init__(self, stream: VideoStream) -> None:
        told = stream.codec_context.extradata
        # Streams out of MP4, FLV and the like are length-prefixed and have none in them.
        prefixed = told is not None and told[:1] == b"\x01"
        usable = stream.codec_context.name in ("h264", "hevc") and not prefixed
        self._filter = BitStreamFilterContext("extract_extradata", in_stream=stream) if usable else None
        self._seen = b""

    @property
    def in_band(self) -> bool:
        return bool(self._seen)

    def changed(self, packet: Packet[VideoStream]) -> bool:
        """Whether this key frame has others than the last ones seen."""
        if self._filter is None:
            return False
        begins: Packet[Any] = Packet(bytes(memoryview(packet)[:_PARAMETERS_BYTES]))
        found = b""
        for passed in self._filter.filter(begins):
            if passed.has_sidedata("new_extradata"):
                found = bytes(passed.get_sidedata("new_extradata"))
        if not found or found == self._seen:
            return False
        self._seen, before = found, self._seen
        return bool(before)


class _Pipe:
    """Takes what the muxer writes. It cannot seek, so nothing that was written is changed later."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def taken(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


def _seconds(pts: int | None, timed: VideoFrame | Packet[VideoStream]) -> float:
    """A time of the stream. What has none has that of its arrival."""
    if pts is None or timed.time_base is None:
        return time.monotonic()
    return float(pts * timed.time_base)


def _decoded_s(packet: Packet[VideoStream]) -> float:
    return _seconds(packet.pts if packet.dts is None else packet.dts, packet)


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS)
