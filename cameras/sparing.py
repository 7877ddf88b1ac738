"""Decodes of a live source only what its packet gate asks for (cameras/packet_gate.py). Made with PyAV.

Packets that are not decoded are kept, from the picture looked at last on, so that everything since can be decoded when
something moves. They are copies: recording changes the packets that pass through it.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from av.codec import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cameras.clock import Instant, LiveClock, this_instant
from cameras.meter import SourceFacts
from cameras.packet_gate import Do, Gate, PacketGate
from cameras.picture import Darkroom, Passed, Picture
from cameras.remux import Parameters, Tap
from cameras.sampling import Sampler
from cameras.settings import CameraSettings
from proto.metrics import PACKET_GATES_OPENED, PACKETS_PASSED

_MOST_BYTES = 16 * 1024 * 1024
"""So much is kept of one camera: 16 s of 8 Mbit/s."""
_MOST_DEPTH = 16
_BACK_S = 1.0
"""PTS that goes back by more is another stream's."""


class Source(Protocol):
    """An open source."""

    stream: VideoStream
    darkroom: Darkroom
    gate: PacketGate | None
    silent_after_s: float | None

    def decoded(self, packet: Packet[VideoStream], single: VideoCodecContext | None = None) -> list[VideoFrame]:
        """The frames that come out of the decoder, or all that come out of one of its own. A damaged packet gives
        none."""

    def rests(self) -> None:
        """It is not waited for a frame now."""

    def facts(self) -> SourceFacts:
        """What it sends."""


def gated(
    source: Source, packets: Iterator[Packet[VideoStream]], settings: CameraSettings, stop: threading.Event, tap: Tap
) -> Iterator[Picture | Passed]:
    """What is to be looked at of a live source that was opened, by its packet gate."""
    source.silent_after_s = settings.silent_after_s
    source.gate = PacketGate(settings.packet_heartbeat_s, settings.fps)
    return Sparing(source, source.gate, Sampler(settings.fps), tap).pictures(packets, stop)


@dataclass(frozen=True, slots=True)
class _Due:
    """A picture that the sampler wants."""

    pts: int
    captured_ms: int
    after_gap: bool


class Sparing:
    """The pictures of one opened live source."""

    def __init__(
        self,
        source: Source,
        gate: PacketGate,
        sampler: Sampler,
        tap: Tap,
        now: Callable[[], Instant] = this_instant,
    ) -> None:
        self._source = source
        self._gate = gate
        self._sampler = sampler
        self._tap = tap
        self._now = now
        self._clock = LiveClock()
        self._parameters = Parameters(source.stream)
        self._kept: deque[Packet[VideoStream]] = deque()
        self._kept_bytes = 0
        self._stale = False
        """What the decoder has is not what comes before the packets that are kept: those begin with a key frame."""
        self._single: VideoCodecContext | None = None
        self._key: int | None = None
        """PTS of a key frame that is to be looked at, once it is known when it was taken."""
        self._unstamped: list[int] = []
        self._tick_s = 0.0
        self._latest: tuple[int, int] | None = None
        """PTS that was stamped last, and when it was taken."""
        self._due: deque[_Due] = deque()
        self._told_pts: int | None = None
        self._after_gap = False
        self._size = (0, 0)

    def pictures(self, packets: Iterator[Packet[VideoStream]], stop: threading.Event) -> Iterator[Picture | Passed]:
        """What is to be looked at, and word of what is passed over. `Picture.stirs` is read when the next is asked
        for."""
        for packet in packets:
            if stop.is_set():
                return
            yield from self._take(packet)
        yield from self._over()

    def _take(self, packet: Packet[VideoStream]) -> Iterator[Picture | Passed]:
        now = self._now()
        if not packet.size:  # the end: what the decoder still holds
            if not self._kept and not self._stale:
                yield from self._shown(packet, now)
            return
        self._tick_s = float(packet.time_base)
        if packet.is_keyframe and self._parameters.changed(packet):
            self._gate.restart("its format changed")
        before = self._gate.state
        pts_s = None if packet.pts is None else packet.pts * self._tick_s
        do = self._gate.packet(packet.size, key=packet.is_keyframe, pts_s=pts_s, time_s=now.mono_s)
        self._count(before)
        if do is Do.DECODE:
            yield from self._caught_up(now)
            self._arrived(packet.pts, now)
            yield from self._shown(packet, now)
            return
        self._arrived(packet.pts, now)
        if do is Do.DUE:
            yield from self._over()
            yield from self._if_due(packet, now)
            return
        self._keep(packet)
        if do is Do.KEY:
            self._key = packet.pts
        yield from self._passing(now)

    def _count(self, before: Gate) -> None:
        if before is Gate.GATING and self._gate.state is Gate.OPEN:
            PACKET_GATES_OPENED.labels(reason=self._gate.opened_by).inc()

    def _arrived(self, pts: int | None, now: Instant) -> None:
        """Say when pictures were taken, in the order in which they are shown."""
        if pts is None:
            return
        if self._latest is not None and (pts - self._latest[0]) * self._tick_s < -_BACK_S:
            self._unstamped.clear()  # another stream: what is due of the one before does not come any more
            self._due.clear()
        heapq.heappush(self._unstamped, pts)
        depth = min(self._source.stream.codec_context.reorder_depth, _MOST_DEPTH)
        while len(self._unstamped) > depth:
            self._stamp(heapq.heappop(self._unstamped), now)

    def _stamp(self, pts: int, now: Instant) -> None:
        stamp = self._clock.stamp(pts * self._tick_s, now)
        self._tap.timed(pts * self._tick_s, stamp.captured_ms)
        self._latest = pts, stamp.captured_ms
        self._after_gap = self._after_gap or stamp.after_gap
        if self._sampler.wants(stamp.stream_s):
            self._due.append(_Due(pts, stamp.captured_ms, self._after_gap))
            self._after_gap = False

    def _keep(self, packet: Packet[VideoStream]) -> None:
        copy: Packet[Any] = Packet(bytes(packet))
        copy.stream, copy.time_base = self._source.stream, packet.time_base
        copy.pts, copy.dts, copy.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
        self._kept.append(copy)
        self._kept_bytes += copy.size
        self._source.rests()

    def _passing(self, now: Instant) -> Iterator[Picture | Passed]:
        """What is to be said while packets are kept."""
        if self._kept_bytes > _MOST_BYTES:
            self._gate.refuse(f"more than {_MOST_BYTES >> 20} MiB lie between two key frames")
            yield from self._caught_up(now)
        elif self._key is not None and self._latest is not None and self._key <= self._latest[0]:
            yield from self._looked_at(self._key, now)
        elif self._due and self._due[-1].pts != self._told_pts:
            due = self._due[-1]
            self._told_pts = due.pts
            yield Passed(due.captured_ms, self._source.facts(), after_gap=due.after_gap)

    def _looked_at(self, key: int, now: Instant) -> Iterator[Picture | Passed]:
        """Look at the key frame alone. Where nothing moved, what lies before it is over; otherwise it is decoded."""
        self._key = None
        packet = next((packet for packet in self._kept if packet.pts == key), None)
        frame = None if packet is None else next(iter(self._alone(packet)), None)
        if frame is None:
            self._gate.refuse("a key frame could not be decoded by itself")
            return
        picture = self._picture(frame, [due for due in self._due if due.pts <= key])
        picture.glance = True
        yield picture
        if picture.stirs:
            before = self._gate.state
            self._gate.glanced(now.mono_s)
            self._count(before)
            yield from self._caught_up(now)
            return
        picture.glance = False
        while self._kept[0] is not packet:
            self._drop()
        self._stale = True
        taken = self._taken(key)
        yield from self._same(taken[:-1])
        self._after_gap = False
        yield from self._seen(picture, now)

    def _over(self) -> Iterator[Passed]:
        """What is kept is over, and what is due of it showed nothing new."""
        if self._kept:
            while self._kept:
                self._drop()
            self._stale = True
            yield from self._same(self._taken(None))

    def _drop(self) -> None:
        self._kept_bytes -= self._kept.popleft().size
        PACKETS_PASSED.inc()

    def _taken(self, until: int | None) -> list[_Due]:
        """What is due until then, which it is not any more."""
        taken = []
        while self._due and (until is None or self._due[0].pts <= until):
            taken.append(self._due.popleft())
        return taken

    def _same(self, taken: list[_Due]) -> Iterator[Passed]:
        if taken:
            self._after_gap = self._after_gap or any(due.after_gap for due in taken)
            last_ms = taken[-1].captured_ms
            yield Passed(last_ms, self._source.facts(), same=len(taken))

    def _caught_up(self, now: Instant) -> Iterator[Picture]:
        """Decode what was kept."""
        self._key, stirs, pictures = None, False, 0
        while self._kept:
            packet = self._kept.popleft()
            self._kept_bytes -= packet.size
            for picture in self._decoded(packet, now):
                yield picture
                stirs, pictures = stirs or picture.stirs, pictures + 1
        if pictures:
            self._gate.looked(news=stirs, time_s=now.mono_s)

    def _shown(self, packet: Packet[VideoStream], now: Instant) -> Iterator[Picture]:
        for picture in self._decoded(packet, now):
            yield from self._seen(picture, now)

    def _seen(self, picture: Picture, now: Instant) -> Iterator[Picture]:
        yield picture
        before = self._gate.state
        self._gate.looked(news=picture.stirs, time_s=now.mono_s)
        self._count(before)

    def _if_due(self, packet: Packet[VideoStream], now: Instant) -> Iterator[Picture]:
        if not self._due:
            self._source.rests()
            PACKETS_PASSED.inc()
            return
        for frame in self._alone(packet):
            taken = self._taken(packet.pts)
            if taken:
                picture = self._picture(frame, taken)
                self._after_gap = False
                yield from self._seen(picture, now)

    def _alone(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        """The frames of a packet that needs no other. The decoder of the stream stays where it is."""
        if self._single is None:
            told = self._source.stream.codec_context
            single = CodecContext.create(told.codec, "r")
            assert isinstance(single, VideoCodecContext)
            single.extradata, single.thread_count = told.extradata, 1
            self._single = single
        frames = self._source.decoded(packet, self._single)
        self._single.flush_buffers()
        return self._sized(frames)

    def _decoded(self, packet: Packet[VideoStream], now: Instant) -> Iterator[Picture]:
        """The pictures that are due of what the decoder gives."""
        for frame in self._out_of(packet):
            if frame.pts is None:
                stamp = self._clock.stamp(None, now)
                self._tap.timed(None, stamp.captured_ms)
                self._after_gap = self._after_gap or stamp.after_gap
                taken = [_Due(0, stamp.captured_ms, self._after_gap)] if self._sampler.wants(stamp.stream_s) else []
            else:
                while self._unstamped and self._unstamped[0] <= frame.pts:
                    self._stamp(heapq.heappop(self._unstamped), now)
                if self._latest is None or self._latest[0] < frame.pts:
                    self._stamp(frame.pts, now)  # the decoder made it up
                taken = self._taken(frame.pts)
            if taken:
                picture = self._picture(frame, taken)
                self._after_gap = False
                yield picture

    def _out_of(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        if self._stale:
            self._source.stream.codec_context.flush_buffers()
            self._stale = False
        return self._sized(self._source.decoded(packet))

    def _sized(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        for frame in frames:
            size = frame.width, frame.height
            if size != self._size:
                if self._size != (0, 0):
                    self._gate.restart("its resolution changed")
                self._size = size
                self._tap.sized(*size)
        return frames

    def _picture(self, frame: VideoFrame, due: list[_Due]) -> Picture:
        """The frame, as the picture that is due; where frames were lost it is a later one."""
        after_gap = self._after_gap or any(one.after_gap for one in due)
        pts, captured_ms = (due[-1].pts, due[-1].captured_ms) if due else self._latest or (0, 0)
        if frame.pts is not None and pts:
            captured_ms += round((frame.pts - pts) * self._tick_s * 1000)
        return Picture(self._source.darkroom, frame, captured_ms, after_gap=after_gap, source=self._source.facts())
