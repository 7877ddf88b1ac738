"""A house of three cameras with real pictures, behind the real gateway. What it answers is written here."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import av
from google.protobuf.message import Message
from PIL import Image

from cameras.source import probe
from catalog.cameras import CameraRegistry
from catalog.store import Catalog, sqlite_url
from gateway.app import application
from gateway.serving import serve_gateway
from gateway.settings import GatewaySettings
from manage.cameras import CameraKeeper
from manage.desk import Desk, Surroundings
from manage.looking import Look
from manage.manager import Manager
from proto.access import Caller, Role
from proto.errors import Unknown
from proto.types import Camera
from proto.v1 import query_pb2
from tests.clips import CLIPS
from tests.manage.fakes import InProcess

Reply = TypeVar("Reply", bound=Message)
Served = TypeVar("Served")
NOW_MS = 1_790_000_000_000
"""The time of all moments: 2026-09-21, 14:13:20 UTC. The page shows other days than today with their date."""
MINUTE_MS = 60_000
THRESHOLD = 0.5
PICTURES = 6
"""Moments of each camera."""
CAMERAS = {"bikes": "bikes", "meadow": "bigbuckbunny", "car": "carphone_pristine"}
KINDS = {"bikes": "bicycle", "meadow": "", "car": "person"}
BOX = (0.25, 0.2, 0.5, 0.9)


def pictures(clip: Path, count: int) -> list[bytes]:
    """JPEGs of a clip, spread over it."""
    with av.open(str(clip)) as container:
        frames = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    found = []
    for number in range(count):
        picture = frames[number * (len(frames) - 1) // max(1, count - 1)]
        picture.thumbnail((640, 640))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=80)
        found.append(data.getvalue())
    return found


class House:
    """What the gateway asks (`gateway.api.Queries`). Notes every search; raises `error` if there is one."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.away = False
        """Whether meadow was away for a while, and the answer says so."""
        self.cameras = [query_pb2.CameraInfo(name=name, watching=name != "car") for name in CAMERAS]
        self.moments: dict[str, tuple[query_pb2.Hit, bytes]] = {}
        for place, (camera, clip) in enumerate(CAMERAS.items()):
            for number, jpeg in enumerate(pictures(CLIPS[clip], PICTURES)):
                hit = _hit(camera, place, number)
                self.moments[hit.moment_id] = (hit, jpeg)
        self.without_its_picture = next(iter(self.moments))
        """A moment whose picture of `at_ms` is gone."""

        self.catalog = Catalog(sqlite_url(folder / "catalog.db"))
        self.catalog.open()
        self.registry = CameraRegistry(self.catalog)
        self.role = Role.ADMIN
        self.around = Surroundings(
            audit=folder / "audit",
            receipt=lambda one: f'{{"number": {one.number}}}',
            demo={"film": CLIPS["bikes"]},
        )
        self.reset()

    def reset(self) -> None:
        self.asked.clear()
        self.error, self.away, self.role = None, False, Role.ADMIN
        self.manage = InProcess(Manager(CameraKeeper(self.catalog), _looked_at, Desk(self.catalog, self.around)))
        for camera in self.registry.all():
            if camera.name not in CAMERAS:
                self.registry.remove(camera.name)
        for name, clip in CAMERAS.items():
            before = Camera(name, str(CLIPS[clip]), watching=name != "car")
            self.registry.add_missing([before])
            self.registry.change(name, _always(before))

    @property
    def added(self) -> list[Camera]:
        """Cameras that a test added."""
        return [one for one in self.registry.all() if one.watching and one.name not in CAMERAS]

    @property
    def last(self) -> dict[str, Any]:
        return self.asked[-1]

    def on_behalf(self, token: str, client: str = "") -> House:
        return self

    def watching(self, mark: str) -> House:
        return self

    async def search(
        self,
        *,
        text: str | None = None,
        image: bytes | None = None,
        moment_id: str | None = None,
        cameras: Sequence[str] = (),
        limit: int | None = None,
        objects: Sequence[str] = (),
        min_confidence: float = 0.0,
        by_time: bool = False,
        **more: Any,
    ) -> query_pb2.SearchReply:
        asked = {"text": text, "image": image, "moment_id": moment_id, "cameras": tuple(cameras), "limit": limit}
        self.asked.append(asked | {"objects": tuple(objects), "least": min_confidence, "by_time": by_time} | more)
        if self.error is not None:
            raise self.error
        if strange := set(cameras) - set(CAMERAS) - {one.name for one in self.added}:
            raise Unknown(f"there is no camera {strange.pop()!r}", todo="`watchword camera list` shows them")
        hits = []
        for hit, _ in self.moments.values():
            found = query_pb2.Hit()
            found.CopyFrom(hit)
            found.confidence = _sure(hit, text, moment_id) - 0.01 * int(hit.moment_id[-2:], 16)
            if hit.moment_id != moment_id and found.confidence >= min_confidence:
                hits.append(found)
        hits += [_hit_now(one) for one in self.added]
        hits = [hit for hit in hits if not cameras or hit.camera in cameras]
        hits = [hit for hit in hits if {one.kind for one in hit.objects} >= set(objects)]
        hits = sorted(hits, key=lambda hit: -hit.confidence)[:limit]
        if by_time:
            hits.sort(key=lambda hit: hit.start_ms)
        reply = query_pb2.SearchReply(hits=hits, space="a-space", threshold=THRESHOLD, coverage=self._coverage())
        reply.no_confident_match = not any(hit.confidence >= THRESHOLD for hit in hits)
        reply.timing.total_ms = 12.5
        return reply

    async def thumbnail(self, moment_id: str, at_ms: int = 0) -> query_pb2.ThumbnailReply:
        for one in self.added:
            if _hit_now(one).moment_id == moment_id:
                return query_pb2.ThumbnailReply(jpeg=(await _looked_at(one)).jpeg, at_ms=at_ms)
        if moment_id not in self.moments:
            raise Unknown("there is no such moment", todo="give the moment_id of a hit")
        shown = 0 if moment_id == self.without_its_picture else at_ms
        return query_pb2.ThumbnailReply(jpeg=self.moments[moment_id][1], at_ms=shown)

    async def clip(
        self, *, camera: str = "", start_ms: int = 0, end_ms: int = 0, moment_id: str = ""
    ) -> AsyncGenerator[query_pb2.ClipPart, None]:
        raise Unknown(f"{camera} was not recorded then", todo="record it: watchword recording set NAME")
        yield query_pb2.ClipPart()

    async def known(self) -> query_pb2.CamerasReply:
        added = [query_pb2.CameraInfo(name=one.name, watching=True, groups=one.groups) for one in self.added]
        return query_pb2.CamerasReply(cameras=[*self.cameras, *added], kinds=["bicycle", "car", "person"])

    async def serving(self, timeout_s: float) -> None:
        if self.error is not None:
            raise self.error

    def _coverage(self) -> query_pb2.Coverage:
        gap = query_pb2.Gap(
            camera="meadow", start_ms=NOW_MS + 2 * MINUTE_MS, end_ms=NOW_MS + 5 * MINUTE_MS, reason="away"
        )
        marks = [query_pb2.Watermark(camera=name, looked_ms=NOW_MS + 20 * MINUTE_MS) for name in CAMERAS]
        gaps = [gap] if self.away else []
        return query_pb2.Coverage(partial=self.away, gaps=gaps, gaps_in_all=len(gaps), watermarks=marks)


def _always(camera: Camera) -> Callable[[Camera], Camera]:
    return lambda _: camera


async def _looked_at(camera: Camera) -> Look:
    """What the file shows, with its masks: the same code as cameras have, in a thread."""
    info, picture = await asyncio.to_thread(probe, camera, 20.0)
    return Look(picture.jpeg(240, 90), info.width, info.height, info.codec, info.fps or 0.0)


def _hit_now(camera: Camera) -> query_pb2.Hit:
    """The latest moment of a camera that was added; another one when its masks are."""
    marks = hashlib.sha256(repr(camera).encode()).hexdigest()[:30]
    hit = _hit(camera.name, 9, 0)
    hit.moment_id = f"{marks}00"
    return hit


def _hit(camera: str, place: int, number: int) -> query_pb2.Hit:
    start = NOW_MS + place * 7_000 + number * 3 * MINUTE_MS
    kind = KINDS.get(camera, "")
    hit = query_pb2.Hit(
        moment_id=f"{place:030x}{number:02x}", camera=camera, start_ms=start, peak_ms=start + 4000, end_ms=start + 9000
    )
    hit.at_ms, hit.closed, hit.frames, hit.moments, hit.kind = start + 4000, True, 18, 1, kind
    hit.box.left, hit.box.top, hit.box.right, hit.box.bottom = BOX
    if kind:
        hit.objects.add(kind=kind, count=2)
    return hit


def _sure(hit: query_pb2.Hit, text: str | None, like: str | None) -> float:
    """Words that name a camera's kind find it; a picture finds the meadow, a moment its own camera."""
    if text is not None:
        return 0.9 if hit.kind and hit.kind in text else 0.3
    if like is not None:
        return 0.8 if hit.moment_id[:30] == like[:30] else 0.2
    return 0.85 if hit.camera == "meadow" else 0.2


class _Manage:
    """The house's Manage service, as it is at each call."""

    def __init__(self, house: House) -> None:
        self._house = house

    def on_behalf(self, token: str, client: str = "") -> Self:
        return self

    async def ask(self, request: Message, kind: type[Reply]) -> Reply:
        return await self._house.manage.acting(Caller("someone", self._house.role)).ask(request, kind)


@contextmanager
def served(running: AbstractAsyncContextManager[Served]) -> Iterator[Served]:
    """What `running` gives, on a thread with a loop of its own, because the browser is driven from this one."""
    begun: Future[Served] = Future()
    over = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def work() -> None:
        try:
            async with running as it:
                begun.set_result(it)
                await over.wait()
        except BaseException as error:
            if begun.done():
                raise
            begun.set_exception(error)

    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(lambda: loop.run_until_complete(work()))
        try:
            yield begun.result(120)
        finally:
            loop.call_soon_threadsafe(over.set)
            ended.result(120)
            loop.close()


@asynccontextmanager
async def gateway_of(house: House) -> AsyncIterator[str]:
    """The address of a gateway before this house."""
    settings = GatewaySettings(listen="127.0.0.1:0")
    app = application(house, settings, "1.2.3", manage=_Manage(house))
    server = await serve_gateway(app, settings, grace_s=1, ending=app.end)
    yield f"http://{server.address}"
    await server.stop()
