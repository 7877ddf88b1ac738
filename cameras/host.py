"""The camera process: watches every registered camera and sends what is new to the broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from cameras.black_box import LeftBehind
from cameras.crashing import Run, held_back
from cameras.fleet import FleetStore, Place
from cameras.holding import Holding, LeaseStore, finished
from cameras.notes import GapStore, Notes, ProgressStore, ViewStore
from cameras.outage import Outage
from cameras.ports import CameraState, Sender
from cameras.settings import CameraSettings
from cameras.source import watch_sparing
from cameras.telling import StatusStore, Teller
from cameras.view import View
from cameras.watching import Pictures, Watching
from cameras.worst import CameraFacts
from catalog.fleet import Crash
from proto.errors import Transient, WatchwordError
from proto.metrics import CAMERA_VIEWS, CAMERAS_OPEN, CAMERAS_WANTED
from proto.types import Camera, now_ms
from proto.v1.events_pb2 import Frame

log = logging.getLogger("watchword.cameras")

_LOOK_S = 0.5
_STOP_S = 4.0
_LEASE_S = 15.0
"""A camera whose process was killed on another host is watched again within this and about three seconds."""
_MOST_HANGING = 8
"""Threads that hang cannot be ended, and each holds a decoder: with more, the process is started anew."""


class Registry(Protocol):
    """Where the cameras are registered."""

    def all(self) -> list[Camera]:
        """Every camera that is known, watched or not."""


class Follower(Protocol):
    """What follows the registry beside the watching, such as the recorder."""

    def follow(self, cameras: list[Camera]) -> None:
        """What is registered now. Does not block."""


class _Leased:
    """Sends while the camera's lease is held: a process that stood still may wake up after it ended."""

    def __init__(self, sender: Sender, holding: Holding, camera: str) -> None:
        self._sender = sender
        self._holding = holding
        self._camera = camera

    async def send(self, frame: Frame) -> None:
        if not self._holding.holds(self._camera):
            raise Transient(f"the lease of {self._camera} is not held any more", todo="another process watches it")
        await self._sender.send(frame)


class CameraHost:
    """Follows the registry: a camera that is added is watched within a second or two, one that is removed is let go.

    Each camera has a thread of its own, since PyAV blocks, and a task that hands its frames to the broker. It is
    watched by the process that the fleet's placement names, and while that one holds its lease: the placement shares
    the work, and the lease makes sure that two processes never watch one camera.
    """

    def __init__(
        self,
        registry: Registry,
        producer: Sender,
        settings: CameraSettings,
        image_side: int,
        *,
        leases: LeaseStore,
        fleet: FleetStore,
        progress: ProgressStore,
        coverage: GapStore,
        views: ViewStore,
        statuses: StatusStore,
        holder: str,
        lease_s: float = _LEASE_S,
        pictures: Pictures = watch_sparing,
        follower: Follower | None = None,
        left_behind: Callable[[], Iterable[LeftBehind]] = tuple,
    ) -> None:
        """`holder` names this process, and no other one, wherever it runs. `left_behind`: what processes of this
        machine left that crashed (`BlackBox.left_behind`)."""
        self._registry = registry
        self._producer = producer
        self._settings = settings
        self._image_side = image_side
        self._pictures = pictures
        self._follower = follower
        self._place = Place(fleet, holder, settings.site, lease_s, left_behind)
        self._holding = Holding(leases, holder, lease_s)
        self._notes = Notes(coverage, progress, views)
        self._wanted: dict[str, Camera] = {}
        self._disabled: frozenset[str] = frozenset()
        self._watched: dict[str, Watching] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._hanging: list[Watching] = []
        self._teller = Teller(statuses, self._watched.values, self._place.host, self._place.cost, self._waiting)
        self._began_ms = now_ms()
        self._told = asyncio.Event()
        self._ending = False
        self._look_s = min(_LOOK_S, lease_s / 10)

    def states(self) -> dict[str, CameraState]:
        """How every camera that is watched here is doing, for a status table."""
        return {name: watching.state for name, watching in self._watched.items()}

    def facts(self) -> list[CameraFacts]:
        """How every camera that is watched here is doing, in numbers."""
        now = now_ms()
        return [_facts(watching, now) for watching in self._watched.values()]

    def stop(self) -> None:
        """Ask `run` to let every camera go and end."""
        self._told.set()

    async def run(self) -> None:
        """Watch until `stop`. One camera's trouble is its own.

        Raises what the registry says when it cannot be read at the start; later, what is known is watched on. Transient
        when too many threads hang, since only another process is rid of them.
        """
        self._know(await asyncio.to_thread(self._registry.all))
        beside = [
            asyncio.create_task(self._follow_registry()),
            asyncio.create_task(self._follow_fleet()),
            asyncio.create_task(self._holding.keep(self._concerned)),
            asyncio.create_task(self._notes.keep_writing()),
            asyncio.create_task(self._teller.keep_telling()),
        ]
        try:
            while not self._told.is_set():
                self._look()
                for task in beside:
                    if task.done():
                        task.result()
                await _wait(self._told, self._look_s)
        finally:
            await self._end(beside)

    def _concerned(self) -> Collection[str]:
        return {*(set(self._place.takes()) - self._held_back()), *self._watched, *self._leaving}

    def _held_back(self) -> frozenset[str]:
        """The cameras that are not begun now, since a process crashed on them."""
        crashes = self._place.crashes()
        if not crashes:
            return frozenset()
        now = now_ms()
        runs = {
            name: Run(watching.state.now != "waiting", now - watching.began_ms)
            for name, watching in list(self._watched.items())
        }
        return held_back(self._place.all_mine() & self._wanted.keys(), crashes, runs, now, now - self._began_ms)

    def _waiting(self) -> Mapping[str, Crash]:
        """The same, and why."""
        crashes = self._place.crashes()
        return {name: crashes[name] for name in self._held_back()}

    async def _follow_fleet(self) -> None:
        outage = Outage("the catalog", "cameras stay where they are, as long as their leases last")
        while True:
            try:
                # Whoever cancels this waits for the call: what has left the fleet must not tell that it lives.
                await finished(asyncio.to_thread(self._place.look, self._wanted))
            except WatchwordError as error:
                outage.failed(error)
            else:
                outage.worked()
            await asyncio.sleep(self._look_s / 2)

    async def _follow_registry(self) -> None:
        outage = Outage("the registry of cameras", "what is known is watched on")
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                self._know(await asyncio.to_thread(self._registry.all))
            except WatchwordError as error:
                outage.failed(error)
            else:
                outage.worked()

    def _know(self, cameras: list[Camera]) -> None:
        self._wanted = {camera.name: camera for camera in cameras if camera.wanted}
        self._disabled = frozenset(camera.name for camera in cameras if camera.watching and not camera.enabled)
        if self._follower is not None:
            self._follower.follow(cameras)

    def _look(self) -> None:
        """Let go, begin and check cameras, as registry, leases and watchdogs say. Waits for nothing."""
        for name, watching in list(self._watched.items()):
            if not self._holding.holds(name):
                log.warning("camera %s is let go: its lease is not held any more", name)
                self._let_go(name, held=False)
            elif not _same_source(self._wanted.get(name), watching.camera) or not self._place.mine(name):
                self._let_go(name, held=True)
        for name in self._wanted.keys() - self._watched.keys() - self._leaving.keys() - self._held_back():
            if self._place.mine(name) and self._holding.holds(name):
                log.info("watching camera %s", name)
                sender = _Leased(self._producer, self._holding, name)
                self._watched[name] = Watching(
                    self._wanted[name], sender, self._settings, self._image_side, self._notes, self._pictures
                )
                self._watched[name].start()
        for watching in self._watched.values():
            watching.check()
        CAMERAS_WANTED.set(len(self._wanted))
        CAMERAS_OPEN.set(sum(watching.state.now == "open" for watching in self._watched.values()))
        for state in View:
            CAMERA_VIEWS.labels(state=state).set(sum(one.view is state for one in self._watched.values()))
        self._count_hanging()

    def _count_hanging(self) -> None:
        self._hanging = [watching for watching in self._hanging if watching.hanging()]
        threads = {
            watching.camera.name: len(watching.hanging()) for watching in [*self._watched.values(), *self._hanging]
        }
        if sum(threads.values()) > _MOST_HANGING:
            names = ", ".join(sorted(name for name, count in threads.items() if count))
            raise Transient(
                f"{sum(threads.values())} threads hang in their sources ({names})",
                todo="this process ends and is to be started anew; look at these cameras",
            )

    def _let_go(self, name: str, *, held: bool) -> None:
        watching = self._watched.pop(name)
        watching.leave()
        if not held:  # another process may watch it from now on
            watching.abandon()
            self._notes.discard(name)
        removed = held and name not in self._wanted
        self._leaving[name] = asyncio.create_task(self._see_off(name, watching, held=held, removed=removed))

    async def _see_off(self, name: str, watching: Watching, *, held: bool, removed: bool) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await watching.left()
        finally:
            if held:
                watching.abandon()
            if watching.hanging():
                log.warning("camera %s hangs; its thread is left behind", name)
                self._hanging.append(watching)
            if (
                removed and name not in self._disabled
            ):  # when it is added again, its recording is replayed from the start
                self._notes.forget(name)
            del self._leaving[name]
        if held and not self._ending and not self._stays(name):
            await self._notes.write()
            if not self._stays(name):
                await self._holding.give_back(name, self._place.of(name) if name in self._wanted else None)

    def _stays(self, name: str) -> bool:
        """Whether a camera that was let go is to be watched here all the same, or already is."""
        return name in self._wanted and self._place.mine(name)

    async def _end(self, beside: list[asyncio.Task[None]]) -> None:
        """Let every camera go, write what there is to write, and leave the fleet."""
        self._ending = True
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        for name in list(self._watched):
            self._let_go(name, held=True)
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        await self._notes.write()
        with contextlib.suppress(WatchwordError):  # the others learn it when the leases end
            await asyncio.to_thread(self._place.leave)


def _facts(watching: Watching, now: int) -> CameraFacts:
    state = watching.state
    since_ms = watching.began_ms if state.picture_ms is None else state.picture_ms
    return CameraFacts(
        camera=watching.camera.name,
        now=state.now,
        view=watching.view.value,
        silent_s=0.0 if state.now == "done" else max(0, now - since_ms) / 1000,
        failures=watching.failures,
        lost=watching.lost,
        sent=watching.sent,
        error=state.error,
    )


def _same_source(one: Camera | None, other: Camera) -> bool:
    """Whether they are watched alike: what is recorded, its groups and site change while a camera is watched."""
    return one is not None and _as_watched(one) == _as_watched(other)


def _as_watched(camera: Camera) -> Camera:
    return replace(camera, record=None, unmasked_recording=False, groups=(), site="")


async def _wait(event: asyncio.Event, at_most_s: float) -> None:
    try:
        async with asyncio.timeout(at_most_s):
            await event.wait()
    except TimeoutError:
        return
