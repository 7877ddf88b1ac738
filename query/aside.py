"""Blocking reads in threads of their own. A read that hangs forever blocks nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class Aside:
    """Runs blocking calls in daemon threads, at most `most` at once; further calls wait.

    Not asyncio.to_thread: its pool is shared, so a few reads of a hanging disk would block everything else, and the
    process waits for its threads on exit.
    """

    def __init__(self, most: int, name: str) -> None:
        self._free = asyncio.Semaphore(most)
        self._name = name

    async def run(self, work: Callable[[], Result]) -> Result:
        """Returns or raises what `work` does. If the caller is cancelled, the thread keeps its place until it ends."""
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
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell, *told)

        try:
            threading.Thread(target=body, name=self._name, daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        return await answer
