"""What the packet gate saves, and what it loses: the same streams with it and decoded as a whole.

`python -m loadtests.packets costs` films 1080p, static and busy, with key frames every 12, 50 and 250 pictures, and
says what each costs at one picture a second. `python -m loadtests.packets moments` films the places of the yardstick
with few passers-by over sensor noise, and counts which of them are kept. `python -m loadtests.packets file VIDEO` takes
a video of your own. Time is the stream's, so nothing is waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from cameras.clock import Instant
from cameras.looking import Looking
from cameras.packet_gate import PacketGate
from cameras.picture import Passed
from cameras.remux import Tap
from cameras.sampling import Sampler
from cameras.settings import CameraSettings
from cameras.source import _opened, _Source
from cameras.sparing import Sparing
from cameras.view import ViewWatch
from evals.yard.pictures import Planes
from evals.yard.scenes import Passing, Video
from proto.types import Camera

BEGIN_MS = 1_767_225_600_000
_QUIET_S = 45.0
_BETWEEN_S = 20.0


@dataclass(slots=True)
class Watched:
    """What came of one stream."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    packets: int = 0
    decoded: int = 0
    looked: int = 0
    kept_s: list[float] = field(default_factory=list)
    states: list[tuple[float, str, str]] = field(default_factory=list)

    @property
    def saved(self) -> float:
        return 1 - self.decoded / max(1, self.packets)

    @property
    def share_of_core(self) -> float:
        return self.cpu_s / max(1e-9, self.seconds)


class _Pace:
    """The stream's own time, as packets come."""

    def __init__(self, watched: Watched, rounds: int) -> None:
        self._watched = watched
        self._rounds = rounds
        self._at_s = 0.0
        self.source: _Source | None = None

    def now(self) -> Instant:
        return Instant(self._at_s, BEGIN_MS + round(self._at_s * 1000))

    def packets(self, path: Path) -> Iterator[Packet[VideoStream]]:
        """The file's packets, again and again, with times that go on."""
        assert self.source is not None
        off = 0
        for _ in range(self._rounds):
            with av.open(str(path)) as container:
                stream, last, step = container.streams.video[0], 0, 1
                for packet in container.demux(stream):
                    if not packet.size or packet.dts is None or packet.pts is None:
                        continue
                    step = max(1, packet.dts - last) if packet.dts > last else step
                    last = packet.dts
                    packet.pts, packet.dts = packet.pts + off, packet.dts + off
                    packet.stream = self.source.stream
                    self._at_s = float((packet.dts - (stream.start_time or 0)) * packet.time_base) + 1000
                    self._watched.packets += 1
                    yield packet
                off += last + step
        self._watched.seconds = self._at_s - 1000


def watch(path: Path, settings: CameraSettings, rounds: int = 1) -> Watched:
    """Watch the file as if it were live."""
    found, camera, stop = Watched(), Camera("it", str(path)), threading.Event()
    looking, gates = Looking(settings, ViewWatch()), settings.packet_gate == "auto"
    with _opened(camera, 10, 10) as source:
        pace = _Pace(found, rounds)
        pace.source = source
        source.gate = gate = PacketGate(settings.packet_heartbeat_s, settings.fps)
        if not gates:
            gate.refuse("off", 1e12)
        tap = Tap("it", lambda: False, lambda _: None)
        count = source._meter.decoded

        def counted() -> None:
            found.decoded += 1
            count()

        source._meter.decoded = counted  # type: ignore[method-assign]
        began_s = time.process_time()
        sparing = Sparing(source, gate, Sampler(settings.fps), tap, pace.now)
        for picture in sparing.pictures(source.metered(pace.packets(path)), stop):
            said = gate.state.value, gate.why
            if not found.states or found.states[-1][1:] != said:
                found.states.append((pace.now().mono_s - 1000, *said))
            if isinstance(picture, Passed):
                found.looked += picture.same
                continue
            if picture.glance:
                picture.stirs = looking.glance(picture)
                continue
            look = looking.look(picture)
            picture.stirs = look.stirs
            found.looked += 1
            if look.judgement.keep:
                picture.jpeg(260, 88)
                found.kept_s.append((picture.captured_ms - BEGIN_MS) / 1000 - 1000)
        found.cpu_s = time.process_time() - began_s
    return found


def sparse(video: Video, width: int, height: int) -> Video:
    """The video with its passers-by far between."""
    passings: list[Passing] = []
    at_s = _QUIET_S
    for passing in video.passings:
        lasts_s = passing.end_s - passing.start_s
        passings.append(replace(passing, start_s=at_s, end_s=at_s + lasts_s))
        at_s += lasts_s + _BETWEEN_S
    return replace(video, width=width, height=height, seconds=at_s, passings=tuple(passings))


def film(pictures: Iterable[Planes], paths: Sequence[Path], options: Sequence[dict[str, str]], fps: int) -> None:
    """Write the pictures once for each of the options."""
    containers = [av.open(str(path), "w", format="mp4") for path in paths]
    streams = []
    for number, planes in enumerate(pictures):
        height, width = planes.luma.shape
        flat = [planes.luma, *(plane.reshape(-1, width) for plane in (planes.blue, planes.red))]
        frame = av.VideoFrame.from_ndarray(np.concatenate(flat), format="yuv420p")
        for at, container in enumerate(containers):
            if number == 0:
                how = dict(options[at])
                stream = container.add_stream(how.pop("codec", "libx264"), rate=fps, options={**how, "threads": "1"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                streams.append(stream)
            frame.pts = None
            container.mux(streams[at].encode(frame))
    for container, stream in zip(containers, streams, strict=True):
        container.mux(stream.encode(None))
        container.close()
