"""The heart of the worker: merges everybody's pictures and texts into engine calls.

    callers -> door (permits) -> waiting -> batch, decoded in a small pool -> ready -> engine thread -> answers

Everything but decoding and the engine happens in the event loop, so nothing here is locked. One thread owns the
engine. While one picture batch runs, the next is decoded. Texts wait for no picture where the engine's towers are
apart, and for the one batch that runs where they are not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np

from models.engine import Engine, Pictures
from models.preprocess import Picture
from models.tokens import Ids, Tokens
from proto import metrics
from proto.errors import Overloaded, Poison, Transient, WatchwordError
from proto.types import Vectors
from workers.entry import Embedded, Entry, Kind
from workers.settings import EncoderSettings
from workers.thread import EngineThreads

log = logging.getLogger("watchword.workers")

_DECODERS = 2
_TEXTS_AT_ONCE = 32
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_MOST_HANGING = 3
"""Engines that hang keep their memory. With so many, only a new process helps."""


class ReadImage(Protocol):
    """What the batcher needs of `models.preprocess.Preprocessor`."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __call__(self, data: bytes, out: Picture | None = None) -> Picture: ...


class Tokenizer(Protocol):
    """What the batcher needs of `models.tokens.TextTokenizer`."""

    def __call__(self, text: str) -> Tokens: ...

    def padded(self, texts: Sequence[Tokens]) -> tuple[Ids, Ids]: ...


class Batcher:
    """Embeds pictures and texts for many callers at once. Start it, then call; stop it in two stages."""

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        read_image: ReadImage,
        tokenizer: Tokenizer,
        settings: EncoderSettings,
        *,
        on_ready: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`open_engine` gives an engine that passed its canary and is warm; it is called again after a failure.

        `on_ready` hears when the engine becomes ready and when it is lost.
        """
        self._open_engine = open_engine
        self._read_image = read_image
        self._tokenizer = tokenizer
        self._settings = settings
        self._on_ready = on_ready
        self._engine: Engine | None = None
        self._hanging = 0
        self._closing = False
        self._capacity: dict[Kind, int] = {"image": settings.queue_images, "text": settings.queue_texts}
        self._inside: dict[Kind, set[Entry]] = {"image": set(), "text": set()}
        # Dicts as ordered sets: a caller that goes away frees its items' memory at once.
        self._images: dict[Entry, None] = {}
        self._texts: dict[Entry, None] = {}
        self._ready_images: list[Entry] = []
        # Two batches of pictures, one filled while one runs: fresh memory for each would cost more than normalising.
        self._filled: Pictures = np.empty((0, *read_image.shape), np.float32)
        self._running: Pictures = self._filled
        self._changed = asyncio.Condition()
        self._threads = EngineThreads()
        self._bytes = 0
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
        # Its own thread, or a text would wait behind somebody's huge picture.
        self._text_thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def engine_name(self) -> str:
        return self._engine.name if self._engine else "starting"

    def queued(self, kind: Kind) -> int:
        """Items admitted and not yet answered."""
        return len(self._inside[kind])

    async def start(self) -> None:
        """Open the engine; its error ends the start."""
        self._engine = await self._threads.image.run(self._open_engine)
        work = (self._collect_images(), self._run_images(), self._run_texts())
        self._tasks = [asyncio.create_task(part) for part in work]
        self._on_ready(True)

    def close_door(self) -> None:
        """First stage of stopping: refuse what comes, finish what is inside."""
        self._closing = True
        self._on_ready(False)

    async def stop(self) -> None:
        """Second stage: give up what is still waiting, and give the engine back."""
        self.close_door()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_all(_closing())
        engine, self._engine = self._engine, None
        if engine:
            await self._threads.close(engine, self._settings.engine_hangs_s)
        self._decoders.shutdown()
        self._text_thread.shutdown()

    async def embed_images(self, images: Sequence[bytes]) -> list[Embedded | Poison]:
        """One answer per picture, in order. Overloaded at once when they do not fit; Transient without an engine."""
        return await self._embed("image", images, self._images)

    async def embed_texts(self, texts: Sequence[str]) -> list[Embedded | Poison]:
        """One answer per text, in order."""
        return await self._embed("text", texts, self._texts)

    async def _embed(
        self, kind: Kind, items: Sequence[bytes] | Sequence[str], queue: dict[Entry, None]
    ) -> list[Embedded | Poison]:
        if refusal := self._refusal(kind, items):
            metrics.ENCODER_REFUSED.labels(kind).inc()
            raise refusal
        loop = asyncio.get_running_loop()
        entries = [Entry(kind, item, loop.time(), loop.create_future()) for item in items]
        for entry in entries:
            self._admit(entry, queue)
        try:
            await self._notify()
            answers = await asyncio.gather(*(entry.answer for entry in entries), return_exceptions=True)
        finally:
            for entry in entries:
                entry.answer.cancel()
        return [_given(answer) for answer in answers]

    def _refusal(self, kind: Kind, items: Sequence[bytes] | Sequence[str]) -> WatchwordError | None:
        """Why these cannot come in now. A single picture always fits when nothing else is inside."""
        if self._closing:
            return _closing()
        if self._engine is None:
            return _starting()
        size = sum(map(len, items)) if kind == "image" else 0
        if self.queued(kind) + len(items) > self._capacity[kind]:
            full = f"the encoder has {self.queued(kind)} {kind}s waiting and room for {self._capacity[kind]}"
        elif self._bytes and self._bytes + size > self._settings.queue_bytes:
            full = f"the encoder holds {self._bytes:,} bytes of pictures and takes {self._settings.queue_bytes:,}"
        else:
            return None
        return Overloaded(full, todo="wait a moment and try again, or start more workers")

    def _admit(self, entry: Entry, queue: dict[Entry, None]) -> None:
        size = len(entry.item) if entry.kind == "image" else 0
        self._inside[entry.kind].add(entry)
        self._bytes += size
        metrics.ENCODER_QUEUED.labels(entry.kind).inc()
        queue[entry] = None

        def leave(_: object) -> None:
            self._inside[entry.kind].discard(entry)
            self._bytes -= size
            metrics.ENCODER_QUEUED.labels(entry.kind).dec()
            queue.pop(entry, None)

        entry.answer.add_done_callback(leave)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _collect_images(self) -> None:
        """Form a batch when the last one went to the engine, and decode it while that runs."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._images and not self._ready_images)
                await self._company()
                batch = _take(self._images, self.most_images)
            if len(self._filled) < len(batch):
                self._filled = np.empty((self.most_images, *self._read_image.shape), np.float32)
            await self._prepare(batch, partial(self._read, batch, self._filled), self._decoders)
            self._ready_images = [entry for entry in batch if not entry.answered()]
            await self._notify()

    def _read(self, batch: list[Entry], pictures: Pictures, place: int) -> int:
        item = batch[place].item
        assert isinstance(item, bytes)
        self._read_image(item, pictures[place])
        return place

    async def _company(self) -> None:
        """Wait until the batch is full or its first picture has waited long enough."""
        first = next(iter(self._images))
        left = first.arrived + self._settings.batch_wait_ms / 1000 - asyncio.get_running_loop().time()
        if left > 0 and len(self._images) < self.most_images:
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait_for(lambda: len(self._images) >= self.most_images)
            except TimeoutError:
                pass

    @property
    def most_images(self) -> int:
        """Pictures in one engine call, at most."""
        best = self._engine.best_batch if self._engine else self._settings.max_batch
        return min(self._settings.max_batch, best)

    async def _prepare(
        self, batch: list[Entry], prepare: Callable[[int], int | Tokens], pool: ThreadPoolExecutor
    ) -> None:
        """Let `prepare` make each entry, by its place in the batch, ready for the engine."""
        loop = asyncio.get_running_loop()
        shares = [range(first, len(batch), _DECODERS) for first in range(min(_DECODERS, len(batch)))]
        jobs = [loop.run_in_executor(pool, _prepared, prepare, share) for share in shares]
        for share, job in zip(shares, jobs, strict=True):
            for place, result in zip(share, await job, strict=True):
                if isinstance(result, WatchwordError):
                    batch[place].fail(result)
                else:
                    batch[place].prepared = result

    async def _run_images(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._ready_images)
            images, self._ready_images = self._ready_images, []
            pictures = self._filled
            self._filled, self._running = self._running, self._filled
            await self._notify()
            await self._call("image", images, partial(_embed_pictures, pictures))

    async def _run_texts(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._texts)
            texts = _take(self._texts, _TEXTS_AT_ONCE)
            await self._prepare(texts, partial(self._tokens, texts), self._text_thread)
            await self._call("text", texts, self._embed_tokens)

    def _tokens(self, batch: list[Entry], place: int) -> Tokens:
        item = batch[place].item
        assert isinstance(item, str)
        return self._tokenizer(item)

    def _embed_tokens(self, engine: Engine, entries: list[Entry]) -> Vectors:
        tokens = [entry.prepared for entry in entries if isinstance(entry.prepared, Tokens)]
        return engine.embed_texts(*self._tokenizer.padded(tokens))

    async def _call(self, kind: Kind, entries: list[Entry], embed: Callable[[Engine, list[Entry]], Vectors]) -> None:
        entries = [entry for entry in entries if not entry.answered()]
        engine = self._engine
        if not entries or engine is None:
            return
        metrics.ENCODER_BATCH.labels(kind).observe(len(entries))
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.engine_hangs_s):
                vectors = await self._threads.of(kind, engine).run(partial(embed, engine, entries))
            _check(vectors, len(entries))
        except Exception as error:  # whatever an engine raises, it is the engine that failed
            hangs = isinstance(error, TimeoutError)
            if engine is self._engine:
                log.exception("the engine failed on %d items (%s); it is opened again", len(entries), kind)
            why = f"did not answer within {self._settings.engine_hangs_s:g} s" if hangs else f"failed: {error}"
            failure = Transient(f"the encoder's engine {why}", todo="it is opened again; try again")
            for entry in entries:
                entry.fail(failure)
            await self._reopen(engine, hangs=hangs)
            return
        metrics.ENCODER_RUN_SECONDS.labels(kind).observe(time.perf_counter() - began)
        for entry, vector in zip(entries, vectors, strict=True):
            entry.succeed(vector)

    async def _reopen(self, failed: Engine, *, hangs: bool) -> None:
        if self._engine is not failed:
            return  # the other tower's call met it first
        self._engine = None
        self._on_ready(False)
        self._fail_all(_starting())
        self._threads.leave(failed)
        self._threads = EngineThreads()
        self._hanging += hangs
        if self._hanging >= _MOST_HANGING:
            log.critical("the engine hung %d times; this worker serves no more and must be restarted", self._hanging)
            return
        self._engine = await self._opened()
        log.warning("the engine is open again")
        if not self._closing:
            self._on_ready(True)

    async def _opened(self) -> Engine:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await self._threads.image.run(self._open_engine)
            except Exception:  # nothing else can serve; keep trying, and say why
                log.exception("the engine cannot be opened; the next try is in %.1f s", pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _fail_all(self, error: WatchwordError) -> None:
        for entry in [*self._inside["image"], *self._inside["text"]]:
            entry.fail(error)


def _starting() -> Transient:
    return Transient("the encoder's engine is starting", todo="try again in a few seconds")


def _closing() -> Transient:
    return Transient("the encoder worker is stopping", todo="try again; another worker may answer")


def _check(vectors: Vectors, count: int) -> None:
    if len(vectors) != count or not np.isfinite(vectors).all():
        raise Transient("it gave vectors that are not numbers, or not one an item")


def _take(queue: dict[Entry, None], most: int) -> list[Entry]:
    batch = [entry for entry, _ in zip(queue, range(most), strict=False)]
    for entry in batch:
        del queue[entry]
    return batch


def _prepared(prepare: Callable[[int], int | Tokens], places: range) -> list[int | Tokens | WatchwordError]:
    return [_one_prepared(prepare, place) for place in places]


def _one_prepared(prepare: Callable[[int], int | Tokens], place: int) -> int | Tokens | WatchwordError:
    try:
        return prepare(place)
    except WatchwordError as error:
        # The frames behind it hold the half-read picture, and would do so until the garbage collector comes by.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    except Exception as error:
        log.exception("an item met a fault while it was read")
        return Poison("not_an_image", f"the item cannot be read ({error})", todo="send another")


def _embed_pictures(pictures: Pictures, engine: Engine, entries: list[Entry]) -> Vectors:
    places = [entry.prepared for entry in entries if isinstance(entry.prepared, int)]
    whole = places == list(range(len(places)))
    return engine.embed_images(pictures[: len(places)] if whole else pictures[places])


def _given(answer: Embedded | BaseException) -> Embedded | Poison:
    if isinstance(answer, Embedded | Poison):
        return answer
    raise answer
