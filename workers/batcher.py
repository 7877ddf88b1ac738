"""Batching: merges the pictures and texts of all callers into calls of one or several engines.

    callers -> door (permits) -> waiting -> batch, decoded in a small pool -> ready -> engine thread -> answers
                                         `-> the same, for each further engine (workers/lane.py)

All but decoding and the engines runs in the event loop, so nothing here is locked. An engine that fails or hangs is
reopened while the others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import TypeVar

from models.detector import Detector
from models.engines.engine import Engine
from proto import metrics
from proto.errors import Poison, Transient, WatchwordError
from proto.retry import Backoff
from workers.lane import Lane
from workers.queued import Detected, Embedded, Kind
from workers.reading import Reader, ReadImage, Tokenizer
from workers.settings import EncoderSettings
from workers.thread import EngineThreads
from workers.waiting import Waiting, passed

log = logging.getLogger("watchword.workers")

_PAUSES = Backoff(0.5, 30.0)
_MOST_HANGING = 3
"""A hung engine keeps its memory. After this many hangs of one engine only a new process helps."""

Kept = TypeVar("Kept", Embedded, Detected)

OpenEngine = Callable[[], Engine]
"""Opens an engine that passed its canary and is warm. Called again after a failure."""


class Batcher:
    """Embeds pictures and texts, and looks for objects, for concurrent callers.

    Call `start` first; stopping has two stages.
    """

    def __init__(
        self,
        engines: Sequence[OpenEngine],
        read_image: ReadImage,
        tokenizer: Tokenizer,
        settings: EncoderSettings,
        *,
        detector: Detector | None = None,
        on_ready: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`detector` is that of the engines' bundle, if any. `on_ready` is called when the first engine becomes ready
        and when the last one is lost."""
        self._detector = detector
        self._openers = engines
        self._settings = settings
        self._on_ready = on_ready
        self._ready = False
        self._closing = False
        self._waiting = Waiting(settings)
        self._reader = Reader(read_image, tokenizer, len(engines), detector)
        self._lanes: list[Lane] = []
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def engine_name(self) -> str:
        """The names of the engines that serve now, separated by commas."""
        return ", ".join(sorted({lane.engine.name for lane in self._lanes})) or "starting"

    @property
    def engines(self) -> int:
        """How many engines serve now."""
        return len(self._lanes)

    @property
    def most_images(self) -> list[int]:
        """Most pictures per call, for each engine that serves now."""
        return [lane.most_images for lane in self._lanes]

    def queued(self, kind: Kind) -> int:
        """Items admitted and not yet answered."""
        return self._waiting.inside(kind)

    async def start(self) -> None:
        """Open the engines one after another, so that later ones reuse what the first one built.

        Raises the first error.
        """
        for number, open_engine in enumerate(self._openers):
            threads = EngineThreads(number)
            self._lanes.append(self._lane(number, await threads.image.run(open_engine), threads))
        self._keepers = [asyncio.create_task(self._keep(lane)) for lane in self._lanes]
        self._tell()

    def close_door(self) -> None:
        """First stage of stopping: refuse new items, finish admitted ones."""
        self._closing = True
        self._tell()

    async def stop(self) -> None:
        """Second stage: fail what still waits, and close the engines."""
        self.close_door()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._waiting.fail_all(_closing())
        lanes, self._lanes[:] = list(self._lanes), []
        await asyncio.gather(*(lane.close() for lane in lanes))
        self._reader.close()

    async def embed_images(self, images: Sequence[bytes]) -> list[Embedded | Poison]:
        """One answer per picture, in order. Overloaded when they do not fit; Transient when no engine serves."""
        return _of(Embedded, await self._answers("image", images))

    async def embed_texts(self, texts: Sequence[str]) -> list[Embedded | Poison]:
        """One answer per text, in order."""
        return _of(Embedded, await self._answers("text", texts))

    async def detect_objects(self, images: Sequence[bytes]) -> list[Detected | Poison]:
        """The objects in each picture, in order. Only where the bundle has a detector."""
        return _of(Detected, await self._answers("object", images))

    async def _answers(
        self, kind: Kind, contents: Sequence[bytes] | Sequence[str]
    ) -> list[Embedded | Detected | BaseException]:
        if refusal := self._refusal(kind, contents):
            metrics.ENCODER_REFUSED.labels(kind).inc()
            raise refusal
        items = self._waiting.admit(kind, contents)
        try:
            await self._waiting.notify()
            answers = await asyncio.gather(*(item.answer for item in items), return_exceptions=True)
            passed(items, "answer")
            return answers
        finally:
            for item in items:
                item.answer.cancel()

    def _refusal(self, kind: Kind, contents: Sequence[bytes] | Sequence[str]) -> WatchwordError | None:
        if self._closing:
            return _closing()
        if not self._lanes:
            return _starting()
        return self._waiting.refusal(kind, contents)

    def _lane(self, number: int, engine: Engine, threads: EngineThreads) -> Lane:
        return Lane(number, engine, threads, self._waiting, self._reader, self._settings, self._lanes, self._detector)

    def _tell(self) -> None:
        metrics.ENCODER_ENGINES.set(len(self._lanes))
        ready = bool(self._lanes) and not self._closing
        if ready != self._ready:
            self._ready = ready
            self._on_ready(ready)

    async def _keep(self, lane: Lane) -> None:
        """Serve lane after lane, each with a newly opened engine."""
        hung = 0
        while True:
            error = await lane.serve()
            hangs = isinstance(error, TimeoutError)
            hung += hangs
            log.error("engine %d failed with %d items; it is opened again", lane.number, len(lane.held), exc_info=error)
            metrics.ENCODER_ENGINE_FAILURES.labels(lane.number, "hung" if hangs else "failed").inc()
            why = f"did not answer within {self._settings.engine_hangs_s:g} s" if hangs else f"failed: {error}"
            self._lanes.remove(lane)
            lane.leave()
            failure = Transient(f"the encoder's engine {why}", todo="it is opened again; try again")
            self._waiting.give_back(lane.held, failure, others=bool(self._lanes))
            if not self._lanes:
                self._waiting.fail_all(_starting())
            self._tell()
            await self._waiting.notify()
            if hung >= _MOST_HANGING:
                log.critical(
                    "engine %d hung %d times; it serves no more until this worker is restarted", lane.number, hung
                )
                return
            if self._closing:
                return
            lane = await self._opened(lane.number)
            self._lanes.append(lane)
            log.warning("engine %d is open again", lane.number)
            self._tell()

    async def _opened(self, number: int) -> Lane:
        threads = EngineThreads(number)
        try:
            for failures in count(1):
                pause_s = _PAUSES.pause_s(failures, 1.0)
                try:
                    return self._lane(number, await threads.image.run(self._openers[number]), threads)
                except Exception:  # no other engine replaces it, so keep trying and log why
                    log.exception("engine %d cannot be opened; the next try is in %.1f s", number, pause_s)
                await asyncio.sleep(pause_s)
            raise AssertionError("counting does not end")
        except asyncio.CancelledError:
            threads.leave(None)
            raise


def _starting() -> Transient:
    return Transient("the encoder's engine is starting", todo="try again in a few seconds")


def _closing() -> Transient:
    return Transient("the encoder worker is stopping", todo="try again; another worker may answer")


def _of(kind: type[Kept], answers: Sequence[Embedded | Detected | BaseException]) -> list[Kept | Poison]:
    """The answers and the errors of single items. Raises any other error."""
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, Poison):
            raise answer
    return [answer for answer in answers if isinstance(answer, kind | Poison)]
