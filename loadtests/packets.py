"""What the packet gate saves, and what it loses: the same streams with it and decoded as a whole.

`python -m loadtests.packets costs` films 1080p, static and busy, with key frames every 12, 50 and 250 pictures, and
says what each costs at one picture a second. `python -m loadtests.packets moments` films the places of the yardstick
with few passers-by over sensor noise, and counts which of them are kept; `--places N` takes the first N.
`python -m loadtests.packets file VIDEO` takes a video of your own. Time is the stream's, so nothing is waited for.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from evals.yard.compose import pictures, truths
from evals.yard.pictures import Planes
from evals.yard.scenes import FPS, Passing, Video, videos
from proto.types import Camera

BEGIN_MS = 1_767_225_600_000
GOPS = (12, 50, 250)
_CAMERA = {"preset": "superfast", "crf": "28", "bf": "0", "sc_threshold": "0"}
_CONSTANT = {"sc_threshold": "0", "b": "600k", "minrate": "600k", "maxrate": "600k", "bufsize": "600k"}
_STREAMS = {
    "key frames 2 s apart": {**_CAMERA, "g": "24"},
    "2 s apart, B-frames": {**_CAMERA, "preset": "veryfast", "bf": "3", "g": "24"},
    "2 s apart, constant rate": {"preset": "superfast", "bf": "0", "g": "24", **_CONSTANT},
    "10 s apart": {**_CAMERA, "g": "120", "keyint_min": "120"},
}
_QUIET_S = 45.0
_BETWEEN_S = 20.0


@dataclass(slots=True)
class Watched:
    """What came of one stream."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    later_s: float = 0.0
    later_cpu_s: float = 0.0
    packets: int = 0
    decoded: int = 0
    looked: int = 0
    kept_s: list[float] = field(default_factory=list)
    states: list[tuple[float, str, str]] = field(default_factory=list)

    @property
    def saved(self) -> float:
        return 1 - self.decoded / max(1, self.packets)

    @property
    def share_later(self) -> float:
        """Without the time in which packets were learned."""
        return self.later_cpu_s / max(1e-9, self.later_s)

    @property
    def share_of_core(self) -> float:
        return self.cpu_s / max(1e-9, self.seconds)


class _Pace:
    """The stream's own time, as packets come."""

    def __init__(self, watched: Watched, rounds: int) -> None:
        self._watched = watched
        self._rounds = rounds
        self._at_s = 0.0
        self.round = 0
        self.source: _Source | None = None

    def now(self) -> Instant:
        return Instant(self._at_s, BEGIN_MS + round(self._at_s * 1000))

    def packets(self, path: Path) -> Iterator[Packet[VideoStream]]:
        """The file's packets, again and again, with times that go on."""
        assert self.source is not None
        off = 0
        for number in range(self._rounds):
            self.round = number
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
        began_s = middle_cpu_s = time.process_time()
        middle_s = 0.0
        sparing = Sparing(source, gate, Sampler(settings.fps), tap, pace.now)
        for picture in sparing.pictures(source.metered(pace.packets(path)), stop):
            if not middle_s and pace.round >= rounds // 2:
                middle_s, middle_cpu_s = pace.now().mono_s - 1000, time.process_time()
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
        found.later_s, found.later_cpu_s = found.seconds - middle_s, time.process_time() - middle_cpu_s
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
    streams: list[Any] = []
    for number, planes in enumerate(pictures):
        height, width = planes.luma.shape
        flat = [planes.luma, *(plane.reshape(-1, width) for plane in (planes.blue, planes.red))]
        frame = av.VideoFrame.from_ndarray(np.concatenate(flat), format="yuv420p")
        for at, container in enumerate(containers):
            if number == 0:
                how = dict(options[at])
                stream: Any = container.add_stream(
                    how.pop("codec", "libx264"), rate=fps, options={**how, "threads": "1"}
                )
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                streams.append(stream)
            frame.pts = None
            container.mux(streams[at].encode(frame))
    for container, stream in zip(containers, streams, strict=True):
        container.mux(stream.encode(None))
        container.close()


def static(busy: bool) -> Video:
    """Ten seconds of a car park in 1080p, in which nothing moves, or much."""
    place = next(video for video in videos("test") if video.name == "carpark-4")
    passings = place.passings if busy else ()
    moved = tuple(replace(one, start_s=-1.0 + at, end_s=20.0 + at) for at, one in enumerate(passings))
    return replace(place, seconds=250 / FPS, passings=moved)


def costs(folder: Path, rounds: int) -> Iterator[str]:
    """Processor time of one camera at one picture a second."""
    for busy in (False, True):
        paths = [folder / f"{busy}-{gop}.mp4" for gop in GOPS]
        film(pictures(static(busy)), paths, [{**_CAMERA, "g": str(gop), "keyint_min": str(gop)} for gop in GOPS], 25)
        for gop, path in zip(GOPS, paths, strict=True):
            whole, spared = (watch(path, CameraSettings(fps=1, packet_gate=how), rounds) for how in ("off", "auto"))
            began_s = time.process_time()
            count = sum(1 for _ in _read(path) for _ in range(rounds)) // rounds
            reading = (time.process_time() - began_s) * 25 / max(1, count)
            yield (
                f"{'busy' if busy else 'static'}, key frame each {gop}: {path.stat().st_size * 8 / 1e7:.1f} Mbit/s, "
                f"decoded as a whole {whole.share_of_core:.2%} of a core, with the gate {spared.share_of_core:.2%}, in "
                f"its last half {spared.share_later:.2%} ({1 - spared.saved:.0%} of packets decoded); reading packets "
                f"alone {reading:.2%}; {spared.states[-1][1]} {spared.states[-1][2]}"
            )


def _read(path: Path) -> Iterator[Packet[VideoStream]]:
    with av.open(str(path)) as container:
        yield from container.demux(container.streams.video[0])


def moments(folder: Path, places: int) -> Iterator[str]:
    """Which passers-by are kept."""
    events = found = pictures_kept = pictures_found = 0
    for video in videos("all")[:places]:
        scene = sparse(video, 640, 360)
        paths = {name: folder / f"{video.name}-{name}.mp4" for name in _STREAMS}
        film(pictures(scene), list(paths.values()), list(_STREAMS.values()), FPS)
        for name, path in paths.items():
            whole, spared = (watch(path, CameraSettings(packet_gate=how)) for how in ("off", "auto"))
            for truth in truths(scene):
                kept = [at_s for at_s in whole.kept_s if truth.start_s <= at_s <= truth.end_s]
                same = [at_s for at_s in spared.kept_s if truth.start_s <= at_s <= truth.end_s]
                events, found = events + bool(kept), found + bool(kept and same)
                pictures_kept, pictures_found = pictures_kept + len(kept), pictures_found + min(len(kept), len(same))
            yield (
                f"{video.name}, {name}: {spared.saved:.0%} of packets not decoded; kept {len(whole.kept_s)} -> "
                f"{len(spared.kept_s)}; {spared.states[-1][1]} {spared.states[-1][2]}"
            )
            path.unlink()
    yield f"passers-by kept: {found} of {events}; pictures of them {pictures_found} of {pictures_kept}"


def main() -> None:
    """Print one figure a line."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("what", choices=["costs", "moments", "file"])
    flags.add_argument("path", nargs="?", type=Path)
    flags.add_argument("--places", type=int, default=100)
    flags.add_argument("--rounds", type=int, default=12, help="How often ten seconds are watched.")
    told = flags.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        lines: Iterable[str]
        match told.what:
            case "costs":
                lines = costs(Path(scratch), told.rounds)
            case "moments":
                lines = moments(Path(scratch), told.places)
            case _:
                spared = watch(told.path, CameraSettings(), told.rounds)
                lines = [
                    f"{spared.saved:.0%} of packets not decoded",
                    *(f"{at:.1f} {' '.join(how)}" for at, *how in spared.states),
                ]
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
