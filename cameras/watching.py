"""One watched camera: its thread, its hand-over, its watchdog, its retries."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from cameras.absences import Absences
from cameras.address import identity, is_file
from cameras.black_box import marked
from cameras.looking import Looking, WatchedView
from cameras.meter import SourceFacts
from cameras.outbox import Outbox, Outgoing
from cameras.picture import Passed, Picture
from cameras.ports import CameraState, Notebook, Sender
from cameras.settings import CameraSettings, settings_for
from cameras.source import Resume, watch_sparing
from cameras.view import View
from catalog.progress import Progress
from proto import tracing
from proto.errors import Broken, Invalid, Transient, WatchwordError
from proto.metrics import FRAMES_LOST, FRAMES_PUBLISHED, FRAMES_SAME, FRAMES_SEEN, HOP_SECONDS, SOURCE_FAILURES
from proto.retry import Backoff
from proto.scrub import scrubbed
from proto.types import Camera, now_ms
from proto.v1.events_pb2 import Frame

log = logging.getLogger("watchword.cameras")

Pictures = Callable[[Camera, CameraSettings, threading.Event, Resume | None], Iterator[Picture | Passed]]

_FIRST_PAUSE_S = 0.5
_LIVE_FRAMES = 64
"""A network that held pictures back delivers them all at once: half a minute of them at two a second."""
_FILE_FRAMES = 16
_SEND_PAUSE_S = 0.5
_DRAIN_S = 2.0
_HANGS_S = 5.0
_LONGEST_HANG_S = 600.0


class _Run:
    """One life of the reading thread. A thread that hangs is abandoned, and its late words are not listened to."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.opened_s = self.moved_s = time.monotonic()
        self.resting = False
        """Between two attempts to open the source."""
        self.thread: threading.Thread | None = None


class Watching:
    """One camera, from `start` to `leave`. To be used from the event loop; the thread inside is its own affair."""

    def __init__(
        self,
        camera: Camera,
        sender: Sender,
        settings: CameraSettings,
        image_side: int,
        notes: Notebook,
        pictures: Pictures = watch_sparing,
    ) -> None:
        self.camera = camera
        self.state = CameraState("waiting")
        self.failures = self.lost = self.sent = 0  # sources that failed, and frames
        self.looked = self.kept = 0  # pictures
        self.spent_s = 0.0  # processor time of its threads
        self.source: SourceFacts | None = None  # what it sends, since a picture of it came
        self.began_ms = now_ms()
        self._sender = sender
        self._settings = settings_for(settings, camera)
        self._image_side = image_side
        self._notes = notes
        self._pictures = pictures
        self._file = is_file(camera)
        self._outbox = Outbox(
            _FILE_FRAMES if self._file else _LIVE_FRAMES,
            patient=self._file,
            loop=asyncio.get_running_loop(),
            lost=self._lose,
        )
        self._absences = Absences(camera.name, notes, self._settings.fps)
        self._view = WatchedView(camera.name, notes)
        self._handed: Progress | None = None  # how far the replay was handed over
        self._sending: asyncio.Task[None] | None = None
        self._under_way: Frame | None = None
        self._run = _Run()
        self._abandoned: list[threading.Thread] = []
        self._broker_away = False

    @property
    def view(self) -> View:
        """How the camera's view is."""
        return self._view.state

    @property
    def live(self) -> bool:
        """Whether it is no file."""
        return not self._file

    @property
    def fps(self) -> float:
        """Pictures that are to be looked at per second."""
        return self._settings.fps

    def start(self) -> None:
        """Begin to read and to send."""
        self._sending = asyncio.create_task(self._send(), name=f"send-{self.camera.name}")
        self._start_thread()

    def check(self) -> None:
        """The watchdog, to be called now and then.

        A thread that hangs inside the decoder is left behind, and the source opened again. The more of its threads
        hang, the longer the next one is waited for.
        """
        if self._file:
            return  # it may well stand still: it waits for the broker, and for its pace
        self._absences.note()
        run = self._run
        if run.resting or run.thread is None or not run.thread.is_alive():
            return
        # The source has timeouts of its own, which come first unless something hangs where they do not reach.
        settings = self._settings
        allowed_s = settings.silent_after_s + settings.open_timeout_s + 1 / settings.fps + _HANGS_S
        allowed_s = min(allowed_s * 2 ** max(0, len(self.hanging()) - 1), max(allowed_s, _LONGEST_HANG_S))
        if time.monotonic() - run.moved_s > allowed_s:
            self._failed(run, Transient(f"nothing moved for {allowed_s:.0f} s", todo="it is opened again"), "hangs")
            run.stop.set()
            self._abandoned.append(run.thread)
            self._start_thread()

    def hanging(self) -> list[threading.Thread]:
        """The threads that were left behind and have not ended since."""
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        return self._abandoned

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
        """Do not wait any longer. Frames of a live camera that were not sent are told to be lost."""
        unsent = self._outbox.empty()
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            if self._under_way is not None:
                unsent.insert(0, self._under_way)
        if not self._file:
            for frame in unsent:
                FRAMES_LOST.labels(reason="left").inc()
                self._lose(frame)
            self._absences.note(now=True)
        thread = self._run.thread
        if thread is not None and thread.is_alive() and thread not in self._abandoned:
            self._abandoned.append(thread)

    def _start_thread(self) -> None:
        run = self._run = _Run()
        # A daemon: a decoder that hangs must not keep the process from ending.
        name = self.camera.name
        run.thread = threading.Thread(
            target=marked(Watching._read, name), args=(self, run), name=f"camera-{name}", daemon=True
        )
        run.thread.start()

    def _read(self, run: _Run) -> None:
        """The thread: open, read, and open again, until told to stop or a file ends."""
        pauses, failures = Backoff(_FIRST_PAUSE_S, self._settings.retry_most_s), 0
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
                failures = 0  # it worked for a while, so this is a new failure
            failures += 1
            run.resting = True
            run.stop.wait(pauses.pause_s(failures, random.random()))  # noqa: S311 - so that cameras do not retry in step
            run.moved_s = time.monotonic()
            run.resting = False

    def _read_once(self, run: _Run) -> bool:
        """Read the source to its end. True when this camera is finished for good."""
        run.opened_s = run.moved_s = time.monotonic()
        begun = self._begin_file() if self._file else self._absences.begin_live()
        if begun.ended:
            self._tell(run, CameraState("done", self.state.picture_ms))
            return True
        resume = Resume(begun.start_ms, begun.at_s if begun.sequence else None) if self._file else None
        looking = Looking(self._settings, self._view.begin(), (*self.camera.masks, *self.camera.ignored))
        sequence, same_ms, spent_s = begun.sequence, 0, time.thread_time()
        for picture in self._pictures(self.camera, self._settings, run.stop, resume):
            if run.stop.is_set():
                return True
            run.moved_s, before_s, spent_s = time.monotonic(), spent_s, time.thread_time()
            self.spent_s += spent_s - before_s
            self._tell(run, CameraState("open", picture.grabbed_ms))
            self.source = picture.source
            self._see(run, picture)
            if isinstance(picture, Passed):
                same_ms = self._same(picture.same, picture.captured_ms, same_ms)
                continue
            if picture.glance:
                picture.stirs = looking.glance(picture)
                continue
            look = looking.look(picture)
            judgement, picture.stirs = look.judgement, look.stirs
            if look.view_changed:
                self._view.tell()
            if picture.recorded is not None and picture.recorded.resumed:
                continue
            FRAMES_SEEN.inc()
            self.looked += 1
            if not judgement.keep:
                FRAMES_SAME.inc()
                same_ms = picture.captured_ms
                continue
            self.kept += 1
            trail = tracing.frame(self.camera.name, picture.grabbed_ms)
            tracing.step(trail, "gate")
            frame = Frame(
                camera=self.camera.name,
                captured_ms=picture.captured_ms,
                grabbed_ms=picture.grabbed_ms,
                jpeg=picture.jpeg(self._image_side, self._settings.jpeg_quality),
                novelty=judgement.novelty,
                usual=judgement.usual,
                same_ms=same_ms,
                after_gap=picture.after_gap,
                sequence=sequence,
                recorded=self._file,
                run=begun.run,
                crops=looking.crops(picture),
                view=self._view.number,
            )
            tracing.step(trail, "cut")
            sequence, same_ms = sequence + 1, 0
            progress = None
            if picture.recorded is not None:
                progress = replace(begun, at_s=picture.recorded.at_s, sequence=sequence)
            if not self._hand_over(Outgoing(frame, progress, trail)):
                return True
            run.moved_s = time.monotonic()
        if not run.stop.is_set():
            log.info("camera %s: the file came to its end", self.camera.name)
            if self._file:
                self._hand_over(Outgoing(None, replace(self._handed or begun, ended=True)))
            self._tell(run, CameraState("done", self.state.picture_ms))
        return True

    def _same(self, count: int, captured_ms: int, same_ms: int) -> int:
        """Pictures that the packet gate passed over count as looked at, like those that differ too little. Gives until
        when it is known that nothing is new."""
        FRAMES_SEEN.inc(count)
        FRAMES_SAME.inc(count)
        self.looked += count
        return captured_ms if count else same_ms

    def _begin_file(self) -> Progress:
        """How far the replay is; a new one is begun when this recording was not replayed before."""
        source = identity(self.camera)
        known = self._handed or self._notes.progress_of(self.camera.name)
        if known is None or known.source != source:
            now = now_ms()
            run = now if known is None else max(now, known.run + 1)
            start_ms = now if self.camera.start_ms is None else self.camera.start_ms
            known = Progress(self.camera.name, source, run, start_ms, 0.0, 0, ended=False)
            # Known before the first frame goes out: whoever goes on after a crash numbers the frames alike.
            self._notes.begin(known)
        self._handed = known
        self._absences.begin_file()
        return known

    def _hand_over(self, item: Outgoing) -> bool:
        handed = self._outbox.put(item)
        if handed and item.progress is not None:
            self._handed = item.progress
        return handed

    def _see(self, run: _Run, picture: Picture | Passed) -> None:
        if run is self._run:
            self._absences.picture(picture.captured_ms, run.moved_s, after_gap=picture.after_gap)

    def _lose(self, frame: Frame) -> None:
        self.lost += 1
        self._absences.lost(frame.captured_ms)

    def _failed(self, run: _Run, error: WatchwordError, reason: str) -> None:
        if run is not self._run or run.stop.is_set():
            return
        SOURCE_FAILURES.labels(reason=reason).inc()
        self.failures += 1
        # It is told to whoever may see the camera, and an unforeseen error may repeat its address.
        why = scrubbed(error.message)
        if why != self.state.error:
            log.warning("camera %s: %s", self.camera.name, error)
        self._tell(run, CameraState("failed", self.state.picture_ms, why))

    def _tell(self, run: _Run, state: CameraState) -> None:
        if run is self._run:
            self.state = state

    async def _send(self) -> None:
        """The task: one frame after the other, so that they stay in order."""
        gap = False
        while (item := await self._outbox.get()) is not None:
            if item.frame is not None:
                item.frame.after_gap = item.frame.after_gap or gap
                self._under_way = item.frame
                tracing.step(item.trail, "outbox")
                with tracing.along(item.trail):
                    sent = await self._deliver(item.frame)
                tracing.ended(item.trail, "send")
                self._under_way = None
                gap = not sent and item.frame.after_gap
            if item.progress is not None:
                self._notes.progress(item.progress)

    async def _deliver(self, frame: Frame) -> bool:
        """Send the frame, however long the broker is away. False when it can never be sent."""
        while True:
            try:
                await self._sender.send(frame)
            except Invalid as error:
                FRAMES_LOST.labels(reason="refused").inc()
                self._lose(frame)
                log.warning("camera %s: %s", self.camera.name, error)
                return False
            except WatchwordError as error:
                if not self._broker_away:
                    log.warning("camera %s waits: %s", self.camera.name, error)
                self._broker_away = True
                await asyncio.sleep(_SEND_PAUSE_S)
            else:
                self._broker_away = False
                FRAMES_PUBLISHED.inc()
                self.sent += 1
                HOP_SECONDS.labels(hop="published").observe(max(0, now_ms() - frame.grabbed_ms) / 1000)
                return True
