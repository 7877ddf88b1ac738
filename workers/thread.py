"""Threads that own an engine, and do one thing after another with it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from models.engine import Engine, texts_apart
from workers.queued import Kind

log = logging.getLogger("watchword.workers")

Result = TypeVar("Result")


class OwnerThread:
    """Runs what it is given, in order. A thread that hangs can be left behind: it does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.wrap_future(self.post(work))

    def post(self, work: Callable[[], Result]) -> Future[Result]:
        """Have it done; nobody need wait for it."""
        future: Future[Result] = Future()
        self._jobs.put((work, future))
        return future

    def end(self) -> None:
        """It ends when all it was given is done."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while job := self._jobs.get():
            work, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # whoever waits for the result meets it
                future.set_exception(error)
            del job, work, future  # hold nothing of the last job while waiting for the next


class EngineThreads:
    """The thread that owns an engine, and one for its text tower where the towers are apart."""

    def __init__(self, number: int) -> None:
        self.image = OwnerThread(f"engine-{number}")
        self._text = OwnerThread(f"engine-{number}-text")

    def of(self, kind: Kind, engine: Engine) -> OwnerThread:
        return self._text if kind == "text" and texts_apart(engine) else self.image

    async def close(self, engine: Engine, within_s: float) -> None:
        closed = self.image.post(engine.close)
        self.leave(None)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.wrap_future(closed)
        except TimeoutError:
            log.warning("the engine hangs; the process ends without it")

    def leave(self, engine: Engine | None) -> None:
        """The threads end when they are done, and an engine that hangs gives back what it holds if it ever wakes."""
        if engine:
            self.image.post(engine.close)
        self.image.end()
        self._text.end()
