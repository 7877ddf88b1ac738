"""Runs a whole stack, from locking its folder to the end of the last child."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator

from rich.console import Console

from proto.errors import Broken
from watchword.settings import Settings
from watchword.stack.compose import Stack
from watchword.stack.lock import holding
from watchword.stack.state import Addresses, remove_state, write_state
from watchword.stack.status import Board
from watchword.stack.supervisor import Supervisor

OnReady = Callable[[Addresses], Awaitable[int | None]]


async def run_stack(settings: Settings, *, on_ready: OnReady | None = None, live: bool) -> int:
    """Start everything and run until told to stop; returns the exit code.

    `on_ready` is called once everything is ready; if it returns a number, the stack stops with that exit code.
    Raises the error that prevents the start. Call it on the main thread.
    """
    with holding(settings.data_dir), Board(Console(file=sys.stdout), live=live) as board:
        house = _House(settings, board)
        with house.stop_signals():
            try:
                return await house.serve(on_ready)
            finally:
                await house.stop()


class _House:
    """The stack while it is up."""

    def __init__(self, settings: Settings, board: Board) -> None:
        self._folder = settings.data_dir
        self._encrypted = bool(settings.gateway.certificate)
        self._say = board.say
        self._stack = Stack(settings, board.say)
        self._supervisor = Supervisor(self._stack.parts(), self._folder / "logs", board.say, self._changed)
        self._told = asyncio.Event()
        self._starting = True
        board.states = self._supervisor.states

    async def serve(self, on_ready: OnReady | None) -> int:
        """Run until told to stop, until `on_ready` returns a number, or until a part cannot be kept running."""
        work = asyncio.create_task(self._work(on_ready))
        told = asyncio.create_task(self._told.wait())
        try:
            await asyncio.wait([work, told], return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else 0
        finally:
            told.cancel()
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work

    async def stop(self) -> None:
        self._starting = False
        self._say("stopping")
        await self._supervisor.stop()
        remove_state(self._folder)
        self._say("stopped")

    @contextlib.contextmanager
    def stop_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the stack in order; a second one kills everything at once."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._tell_to_stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _tell_to_stop(self) -> None:
        if self._told.is_set():
            self._supervisor.kill()
        self._told.set()

    async def _work(self, on_ready: OnReady | None) -> int:
        await self._supervisor.start()
        self._starting = False
        at = self._stack.addresses()
        page = f"{'https' if self._encrypted else 'http'}://{at.gateway}"
        self._say(f"everything is ready; questions are answered at {at.query} (`watchword search`) and {page}")
        code = await on_ready(at) if on_ready else None
        if code is None:
            await self._supervisor.watch()
        return code or 0

    def _changed(self) -> None:
        try:
            write_state(self._folder, self._stack.addresses(), self._supervisor.states())
        except Broken as problem:
            # A disk that fills up later must not stop a running stack.
            if self._starting:
                raise
            self._say(problem.message)
