"""Threads that own an engine and run its calls in order."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from models.engines.engine import Engine
from workers.queued import Kind

log = logging.getLogger("watchword.workers")

Result = TypeVar("Result")


class OwnerThread:
    """Runs jobs in order on one daemon thread. If it hangs, it does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.wrap_future(self.post(work))

    def post(self, work: Callable[[], Result]) -> Future[Result]:
        """Queue a job; nobody needs to wait for its future."""
        future: Future[Result] = Future()
        self._jobs.put((work, future))
        return future

    def end(self) -> None:
        """End the thread after all queued jobs."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while job := self._jobs.get():
            work, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as error:  # raised to whoever waits for the result
                future.set_exception(error)
            del job, work, future  # do not keep the last job alive while waiting for the next


class EngineThreads:
    """The thread that owns an engine, and one for its text tower if the towers are separate."""

    def __init__(self, number: int) -> None:
        self.image = OwnerThread(f"engine-{number}")
        self._text = OwnerThread(f"engine-{number}-text")

    def of(self, kind: Kind, engine: Engine) -> OwnerThread:
        return self._text if kind == "text" and engine.abilities.texts_apart else self.image

    async def close(self, engine: Engine, within_s: float) -> None:
        closed = self.image.post(engine.close)
        self.leave(None)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.wrap_future(closed)
        except TimeoutError:
            log.warning("the engine hangs; the process ends without it")

    def leave(self, engine: Engine | None) -> None:
        """End the threads after their jobs. `engine`, if given, is closed after a call that hangs returns, if ever."""
        if engine:
            self.image.post(engine.close)
        self.image.end()
        self._text.end()
