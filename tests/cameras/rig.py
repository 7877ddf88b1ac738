"""Small parts that the tests of this room share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np

from cameras.black_box import LeftBehind
from cameras.host import CameraHost, Follower
from cameras.picture import Picture
from cameras.settings import CameraSettings
from cameras.source import watch
from cameras.watching import Pictures
from catalog.coverage import Coverage, Gap
from catalog.fleet import Fleet, Member, Seen
from catalog.leases import Leases
from catalog.progress import Progress, Progresses
from catalog.statuses import CameraStatus, Statuses
from catalog.store import Catalog
from catalog.views import CameraView, Views
from proto.errors import Transient, WatchwordError
from proto.types import Camera, now_ms
from proto.v1.events_pb2 import Frame
from tests.tools.catalogs import begun

START_MS = 1_767_225_600_000
SETTINGS = CameraSettings(open_timeout_s=1, silent_after_s=1, retry_most_s=0.5)
EVERYTHING = CameraSettings(open_timeout_s=1, silent_after_s=1, retry_most_s=0.5, novelty=0)


async def until(true: Callable[[], bool], what: str, within_s: float = 15.0) -> None:
    """Poll until it is true, or fail."""
    for _ in range(int(within_s / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {within_s:.0f} s: {what}")


class Sink:
    """Takes frames; raises `trouble` while it is set."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.trouble: WatchwordError | None = None
        self.refused = 0
        self.most: int | None = None
        """Takes so many frames and then waits for ever."""

    async def send(self, frame: Frame) -> None:
        if self.trouble is not None:
            self.refused += 1
            raise self.trouble
        if self.most is not None and len(self.frames) >= self.most:
            await asyncio.Event().wait()
        self.frames.append(frame)

    def of(self, camera: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.camera == camera]


class Register:
    """The registry; raises `trouble` while it is set."""

    def __init__(self, *cameras: Camera) -> None:
        self.cameras = list(cameras)
        self.trouble: WatchwordError | None = None
        self.asked = 0

    def all(self) -> list[Camera]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return list(self.cameras)


@dataclass
class Facts:
    """The catalog in a real file; raises `trouble` while it is set."""

    path: Path
    trouble: WatchwordError | None = None
    refused: int = 0

    def __post_init__(self) -> None:
        self.catalog = Catalog(f"sqlite:///{begun(self.path / 'catalog.db')}")
        self.catalog.open()
        self._leases, self._progress = Leases(self.catalog), Progresses(self.catalog)
        self._coverage, self._views = Coverage(self.catalog), Views(self.catalog)
        self._fleet = Fleet(self.catalog)
        self.declared: list[Gap] = []

    def _answers(self) -> None:
        if self.trouble is not None:
            self.refused += 1
            raise self.trouble

    def take(self, name: str, holder: str, now_ms: int, for_ms: int) -> bool:
        return name in self.take_all([name], holder, now_ms, for_ms)

    def take_all(self, names: Iterable[str], holder: str, now_ms: int, for_ms: int) -> Collection[str]:
        self._answers()
        return self._leases.take_all(names, holder, now_ms, for_ms)

    def give_back(self, name: str, holder: str) -> None:
        self._answers()
        self._leases.give_back(name, holder)

    def hand_over(self, name: str, holder: str, to: str, now_ms: int, for_ms: int) -> None:
        self._answers()
        self._leases.hand_over(name, holder, to, now_ms, for_ms)

    def tell(self, member: Member, now_ms: int, for_ms: int) -> None:
        self._answers()
        self._fleet.tell(member, now_ms, for_ms)

    def leave(self, holder: str) -> None:
        self._answers()
        self._fleet.leave(holder)

    def crashed(self, camera: str, at_ms: int, mark: str, calm_ms: int) -> None:
        self._answers()
        self._fleet.crashed(camera, at_ms, mark, calm_ms)

    def seen(self, now_ms: int) -> Seen:
        self._answers()
        return self._fleet.seen(now_ms)

    def holder(self, name: str, now_ms: int) -> str | None:
        return self._leases.holder(name, now_ms)

    def get(self, camera: str) -> Progress | None:
        self._answers()
        return self._progress.get(camera)

    def put(self, progress: Progress) -> None:
        self._answers()
        self._progress.put(progress)

    def forget(self, camera: str) -> None:
        self._answers()
        self._progress.forget(camera)

    def declare(self, gaps: Sequence[Gap]) -> None:
        self._answers()
        self.declared += gaps
        self._coverage.declare(gaps)

    def view_of(self, camera: str) -> CameraView | None:
        self._answers()
        return self._views.view_of(camera)

    def put_view(self, view: CameraView) -> None:
        self._answers()
        self._views.put_view(view)

    def put_statuses(self, statuses: Iterable[CameraStatus]) -> None:
        self._answers()
        Statuses(self.catalog).put_statuses(statuses)

    def gaps(self) -> list[Gap]:
        return self._coverage.gaps(None, None, None)


AWAY = Transient("the catalog is away")


@asynccontextmanager
async def hosting(
    register: Register,
    sink: Sink,
    facts: Facts,
    *,
    settings: CameraSettings = SETTINGS,
    holder: str = "one",
    lease_s: float = 15.0,
    pictures: Pictures = watch,
    follower: Follower | None = None,
    left_behind: Callable[[], Iterable[LeftBehind]] = tuple,
) -> AsyncIterator[CameraHost]:
    host = CameraHost(
        register,
        sink,
        settings,
        64,
        leases=facts,
        fleet=facts,
        progress=facts,
        coverage=facts,
        views=facts,
        statuses=facts,
        holder=holder,
        lease_s=lease_s,
        pictures=pictures,
        follower=follower,
        left_behind=left_behind,
    )
    task = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        host.stop()
        await asyncio.wait_for(task, 15)


def scripted(
    number: int, *, new: bool = True, captured_ms: int | None = None, after_gap: bool | None = None
) -> Picture:
    """A picture without a source."""
    sketch = np.full((192, 320), 100 * (number % 2) if new else 0, np.uint8)
    made: Any = SimpleNamespace(
        captured_ms=START_MS + number * 500 if captured_ms is None else captured_ms,
        grabbed_ms=now_ms(),
        after_gap=number == 0 if after_gap is None else after_gap,
        recorded=None,
        source=None,
        size=(320, 192),
        sketch=lambda: sketch,
        glance=False,
        jpeg=lambda side, quality: b"%d" % number,
        crop=lambda cut, longest, quality: b"%d" % number,
    )
    return cast(Picture, made)


def transport_stream(path: Path, seconds: float, start_s: float = 0.0, shade: int = 0, *, fps: int = 10) -> Path:
    """A recording as network recorders export it: PTS begins anywhere, and each picture differs from the one before."""
    path.write_bytes(_recording(seconds, start_s, shade, fps))
    return path


@cache
def _recording(seconds: float, start_s: float, shade: int, fps: int) -> bytes:
    file = BytesIO()
    with av.open(file, "w", format="mpegts") as out:
        stream = out.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.gop_size = 5
        stream.time_base = Fraction(1, 90_000)
        for number in range(round(seconds * fps)):
            pixels = np.full((64, 64, 3), (shade + 40 * number) % 255, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = Fraction(1, 90_000)
            frame.pts = int((start_s + number / fps) * 90_000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def joined(path: Path, parts: Iterable[Path]) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def places(frames: Iterable[Frame]) -> list[tuple[int, int, int]]:
    """What tells frames apart: run, sequence and captured time."""
    return [(frame.run, frame.sequence, frame.captured_ms) for frame in frames]
