"""Blocking reads beside the event loop, which may hang for ever without holding up anything else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class Aside:
    """Runs blocking calls in threads, at most `most` at once; the others wait for their turn.

    Not asyncio.to_thread: its threads are shared with everything else, so that a few reads of a disk that hangs would
    stop them all, and a process waits for them when it ends. For these nobody waits.
    """

    def __init__(self, most: int, name: str) -> None:
        self._free = asyncio.Semaphore(most)
        self._name = name

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` gives or raises. A caller that gives up leaves the thread behind, and its place taken by it."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()

        def tell(set_answer: Callable[[Any], None], outcome: object) -> None:
            self._free.release()
            if not answer.cancelled():
                set_answer(outcome)

        def body() -> None:
            told: tuple[Callable[[Any], None], object]
            try:
                told = answer.set_result, work()
            except BaseException as error:
                told = answer.set_exception, error
            with suppress(RuntimeError):  # The loop is over: nobody asks any more.
                loop.call_soon_threadsafe(tell, *told)

        try:
            threading.Thread(target=body, name=self._name, daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return await answer
