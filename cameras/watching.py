"""One watched camera: its thread, its hand-over, its watchdog, its retries."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from cameras.address import kind_of
from cameras.gate import NoveltyGate
from cameras.outbox import Outbox
from cameras.settings import CameraSettings
from cameras.source import Picture, watch
from proto.errors import Broken, Invalid, Transient, WatchwordError
from proto.metrics import FRAMES_LOST, FRAMES_PUBLISHED, FRAMES_SAME, FRAMES_SEEN, HOP_SECONDS, SOURCE_FAILURES
from proto.types import Camera, now_ms
from proto.v1.events_pb2 import Frame

log = logging.getLogger("watchword.cameras")

_FIRST_PAUSE_S = 0.5
_WAITING_FRAMES = 16
_SEND_PAUSE_S = 0.5
_DRAIN_S = 2.0


class Sender(Protocol):
    """What brings frames to the broker."""

    async def send(self, frame: Frame) -> None:
        """Send one frame; back once the broker has it. Transient, or Invalid when it never can."""


@dataclass(frozen=True, slots=True)
class CameraState:
    """How a camera is doing, for a person."""

    now: Literal["waiting", "open", "failed", "done"]
    """Waiting for the first picture; delivering; failed and to be tried again; a file that came to its end."""
    picture_ms: int | None = None
    """When the last picture was in hand, by the wall clock."""
    error: str = ""


class _Run:
    """One life of the reading thread. A thread that hangs is abandoned, and its late words are not listened to."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.opened_s = self.moved_s = time.monotonic()
        self.thread: threading.Thread | None = None


class Watching:
    """One camera, from `start` to `leave`. To be used from the event loop; the thread inside is its own affair."""

    def __init__(
        self,
        camera: Camera,
        sender: Sender,
        settings: CameraSettings,
        image_side: int,
        pictures: Callable[[Camera, CameraSettings, threading.Event], Iterator[Picture]] = watch,
    ) -> None:
        self.camera = camera
        self.state = CameraState("waiting")
        self._sender = sender
        self._settings = settings
        self._image_side = image_side
        self._pictures = pictures
        self._outbox = Outbox(_WAITING_FRAMES, patient=_is_file(camera), loop=asyncio.get_running_loop())
        self._sending: asyncio.Task[None] | None = None
        self._run = _Run()
        self._broker_away = False

    def start(self) -> None:
        """Begin to read and to send."""
        self._sending = asyncio.create_task(self._send(), name=f"send-{self.camera.name}")
        self._start_thread()

    def check(self) -> None:
        """The watchdog: a thread that hangs inside the decoder is left behind, and the source opened again."""
        run, settings = self._run, self._settings
        if self.state.now not in ("open", "waiting") or _is_file(self.camera):
            return  # a file may well stand still: it waits for the broker
        # The source has timeouts of its own, which come first unless something hangs where they do not reach.
        allowed_s = settings.silent_after_s + settings.open_timeout_s + 5.0
        if time.monotonic() - run.moved_s > allowed_s:
            self._failed(run, Transient(f"nothing moved for {allowed_s:.0f} s", todo="it is opened again"), "hangs")
            run.stop.set()
            self._start_thread()

    def leave(self) -> None:
        """Ask thread and task to end."""
        self._run.stop.set()
        self._outbox.close()

    async def left(self) -> None:
        """Wait until both ended; what waited to be sent is sent, if the broker takes it soon."""
        if self._run.thread is not None:
            await asyncio.to_thread(self._run.thread.join, _DRAIN_S)
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=_DRAIN_S)

    def abandon(self) -> None:
        """Do not wait any longer."""
        if self._sending is not None:
            self._sending.cancel()

    def _start_thread(self) -> None:
        run = self._run = _Run()
        # A daemon: a decoder that hangs must not keep the process from ending.
        run.thread = threading.Thread(target=self._read, args=(run,), name=f"camera-{self.camera.name}", daemon=True)
        run.thread.start()

    def _read(self, run: _Run) -> None:
        """The thread: open, read, and open again, until told to stop or a file ends."""
        pause_s = _FIRST_PAUSE_S
        while not run.stop.is_set():
            try:
                if self._read_once(run):
                    return
            except WatchwordError as error:
                self._failed(run, error, type(error).__name__.lower())
            except Exception as error:  # one camera's surprise must not stop the others
                log.exception("camera %s failed in an unforeseen way", self.camera.name)
                self._failed(run, Broken(f"{error!r}", todo="please report this"), "unforeseen")
            if self.state.picture_ms is not None and run.moved_s - run.opened_s > self._settings.retry_most_s:
                pause_s = _FIRST_PAUSE_S  # it worked for a while, so this is a new failure
            run.stop.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # so that cameras do not retry in step
            pause_s = min(2 * pause_s, self._settings.retry_most_s)

    def _read_once(self, run: _Run) -> bool:
        """Read the source to its end. True when this camera is finished for good."""
        gate = NoveltyGate(self._settings.novelty, self._settings.heartbeat_s)
        sequence = same_ms = 0
        run.opened_s = run.moved_s = time.monotonic()
        for picture in self._pictures(self.camera, self._settings, run.stop):
            if run.stop.is_set():
                return True
            run.moved_s = time.monotonic()
            self._tell(run, CameraState("open", picture.grabbed_ms))
            FRAMES_SEEN.inc()
            verdict = gate.judge(picture.luma(), picture.captured_ms / 1000, after_gap=picture.after_gap)
            if not verdict.keep:
                FRAMES_SAME.inc()
                same_ms = picture.captured_ms
                continue
            frame = Frame(
                camera=self.camera.name,
                captured_ms=picture.captured_ms,
                grabbed_ms=picture.grabbed_ms,
                jpeg=picture.jpeg(self._image_side, self._settings.jpeg_quality),
                novelty=verdict.novelty,
                usual=verdict.usual,
                same_ms=same_ms,
                after_gap=picture.after_gap,
                sequence=sequence,
            )
            sequence, same_ms = sequence + 1, 0
            if not self._outbox.put(frame):
                return True
            run.moved_s = time.monotonic()
        if not run.stop.is_set():
            log.info("camera %s: the file came to its end", self.camera.name)
            self._tell(run, CameraState("done", self.state.picture_ms))
        return True

    def _failed(self, run: _Run, error: WatchwordError, reason: str) -> None:
        if run is not self._run or run.stop.is_set():
            return
        SOURCE_FAILURES.labels(reason=reason).inc()
        if error.message != self.state.error:
            log.warning("camera %s: %s", self.camera.name, error)
        self._tell(run, CameraState("failed", self.state.picture_ms, error.message))

    def _tell(self, run: _Run, state: CameraState) -> None:
        if run is self._run:
            self.state = state

    async def _send(self) -> None:
        """The task: one frame after the other, so that they stay in order."""
        gap = False
        while (frame := await self._outbox.get()) is not None:
            frame.after_gap = frame.after_gap or gap
            while True:
                try:
                    await self._sender.send(frame)
                except Invalid as error:
                    FRAMES_LOST.labels(reason="refused").inc()
                    gap = frame.after_gap
                    log.warning("camera %s: %s", self.camera.name, error)
                except WatchwordError as error:
                    if not self._broker_away:
                        log.warning("camera %s waits: %s", self.camera.name, error)
                    self._broker_away = True
                    await asyncio.sleep(_SEND_PAUSE_S)
                    continue
                else:
                    gap = self._broker_away = False
                    FRAMES_PUBLISHED.inc()
                    HOP_SECONDS.labels(hop="published").observe(max(0, now_ms() - frame.grabbed_ms) / 1000)
                break


def _is_file(camera: Camera) -> bool:
    """Whether the camera is a file. An address that is no source at all fails when it is opened, not here."""
    try:
        return kind_of(camera.url) == "file"
    except Invalid:
        return False
