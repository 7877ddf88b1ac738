"""One open engine at work: it takes waiting items whenever it is free, until it fails or hangs.

Several lanes share one queue, so that the fastest serves most. One thread owns the engine. While one picture batch
runs, the next is decoded. Texts do not wait for pictures if the engine's towers are separate or another engine is free;
otherwise they wait for the batch that runs. Objects are looked for while there are no pictures to embed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from models.detector import Detector
from models.engines.engine import Engine
from models.preprocess import Pictures
from proto import metrics
from proto.errors import Transient
from proto.types import Vectors
from workers.looking import Looking
from workers.queued import Kind, QueuedItem
from workers.reading import Reader
from workers.settings import EncoderSettings
from workers.thread import EngineThreads
from workers.waiting import Waiting, passed

_TEXTS_AT_ONCE = 32

Result = TypeVar("Result")


class Lane:
    """Serves as long as its engine lives; a new lane follows it."""

    def __init__(
        self,
        number: int,
        engine: Engine,
        threads: EngineThreads,
        waiting: Waiting,
        reader: Reader,
        settings: EncoderSettings,
        lanes: Sequence[Lane],
        detector: Detector | None = None,
    ) -> None:
        """`threads` own the engine; `lanes` are all that serve now, including this one. `detector` is the bundle's."""
        self.number = number
        self.engine = engine
        self.most_images = min(settings.max_batch, engine.best_batch)
        """Most pictures in one engine call."""
        self._threads = threads
        self._waiting = waiting
        self._reader = reader
        self._hangs_s = settings.engine_hangs_s
        self._lanes = lanes
        # Two picture buffers, one filled while the other runs. Allocating one per batch costs more than normalising.
        self._filled: Pictures = np.empty((0, *reader.shape), engine.abilities.numbers)
        self._spare: Pictures = self._filled
        self._next: list[QueuedItem] = []
        self._decoded = False
        self._running: list[QueuedItem] = []
        self._texts: list[QueuedItem] = []
        self._looking: Looking | None = None
        if detector is not None and engine.abilities.detects:
            self._looking = Looking(engine, detector, waiting, reader, self._run, self._free_for_objects)

    @property
    def held(self) -> list[QueuedItem]:
        """Items taken and not yet answered."""
        taken = (*self._running, *self._next, *self._texts, *self._looked_at())
        return [item for item in taken if not item.answered()]

    async def serve(self) -> Exception:
        """Serve until the engine fails; returns the error. TimeoutError when it hangs."""
        met: list[Exception] = []
        try:
            async with asyncio.TaskGroup() as group:
                for part in (self._collect_images(), self._run_images(), self._run_texts()):
                    group.create_task(part)
                if self._looking:
                    group.create_task(self._looking.serve())
        except* Exception as errors:
            met.extend(errors.exceptions)
        return met[0]

    async def close(self) -> None:
        """Close the engine; abandon one that hangs."""
        await self._threads.close(self.engine, self._hangs_s)

    def leave(self) -> None:
        """Abandon the engine without waiting: if it returns, it is closed."""
        self._threads.leave(self.engine)

    def _looked_at(self) -> list[QueuedItem]:
        return self._looking.items if self._looking else []

    def _idle(self) -> bool:
        return not self._running and not self._next and not self._looked_at()

    def _free_for_texts(self) -> bool:
        busy = self._running or self._looked_at()
        return not self._texts and (not busy or self.engine.abilities.texts_apart)

    def _free_for_objects(self) -> bool:
        return not self._running and not self._next and not self._waiting.untaken("image")

    def _may_take_images(self) -> bool:
        """An idle lane's first batch has priority over a busy lane's second."""
        return not self._next and (not self._running or not any(lane._idle() for lane in self._lanes))

    def _may_take_texts(self) -> bool:
        return self._free_for_texts() or not any(lane._free_for_texts() for lane in self._lanes)

    async def _collect_images(self) -> None:
        """Take a batch once the previous one is with the engine, and decode it meanwhile."""
        while True:
            self._next = batch = await self._waiting.images(self.most_images, self._may_take_images)
            if len(self._filled) < len(batch):
                self._filled = np.empty((self.most_images, *self._reader.shape), self.engine.abilities.numbers)
            await self._reader.images(batch, self._filled)
            passed(batch, "decode")
            self._next = [item for item in batch if not item.answered()]
            self._decoded = bool(self._next)
            await self._waiting.notify()

    async def _run_images(self) -> None:
        while True:
            await self._waiting.until(lambda: self._decoded)
            self._running, self._next, self._decoded = self._next, [], False
            pictures = self._filled
            self._filled, self._spare = self._spare, self._filled
            await self._waiting.notify()
            await self._call("image", self._running, partial(_embed_pictures, pictures))
            self._running = []
            await self._waiting.notify()

    async def _run_texts(self) -> None:
        while True:
            self._texts = await self._waiting.texts(_TEXTS_AT_ONCE, self._may_take_texts)
            await self._reader.texts(self._texts)
            passed(self._texts, "tokens")
            await self._call("text", self._texts, self._embed_tokens)
            self._texts = []

    def _embed_tokens(self, engine: Engine, items: list[QueuedItem]) -> Vectors:
        return engine.embed_texts(*self._reader.padded(items))

    async def _call(
        self, kind: Kind, items: list[QueuedItem], embed: Callable[[Engine, list[QueuedItem]], Vectors]
    ) -> None:
        items = [item for item in items if not item.answered()]
        if not items:
            return
        for item in items:
            item.tries += 1
        if kind == "image":
            passed(items, "engine busy")
        vectors = await self._run(kind, len(items), partial(embed, self.engine, items))
        passed(items, "run")
        _check(vectors, len(items))
        for item, vector in zip(items, vectors, strict=True):
            item.embedded(vector)

    async def _run(self, kind: Kind, count: int, work: Callable[[], Result]) -> Result:
        """Run `work` with `count` items in the engine's thread. TimeoutError when it hangs."""
        metrics.ENCODER_BATCH.labels(kind).observe(count)
        began = time.perf_counter()
        async with asyncio.timeout(self._hangs_s):
            result = await self._threads.of(kind, self.engine).run(work)
        metrics.ENCODER_RUN_SECONDS.labels(kind, self.number).observe(time.perf_counter() - began)
        return result


def _check(vectors: Vectors, count: int) -> None:
    if len(vectors) != count or not np.isfinite(vectors).all():
        raise Transient("it gave vectors that are not numbers, or not one an item")


def _embed_pictures(pictures: Pictures, engine: Engine, items: list[QueuedItem]) -> Vectors:
    places = [item.prepared for item in items if isinstance(item.prepared, int)]
    whole = places == list(range(len(places)))
    return engine.embed_images(pictures[: len(places)] if whole else pictures[places])
