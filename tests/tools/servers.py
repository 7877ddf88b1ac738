"""Real servers as child processes: started, stopped, killed, and started again on what they kept."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from pathlib import Path

from proto.errors import Transient, WatchwordError
from watchword.stack.parts import Part

KILLED_S = 60.0
POLL_S = 0.05


class Server:
    """One server. It dies with this process, however this process ends.

    Start it from the main thread: the tie is to the thread that started it.
    """

    def __init__(self, part: Part, log: Path) -> None:
        self._part = part
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return self._part.address()

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """Its process, once it was launched."""
        assert self._child is not None, f"{self._part.name} was never launched"
        return self._child.pid

    async def start(self) -> None:
        """Start it and wait until it serves. Transient, with the end of its log, when it does not."""
        self.launch()
        await self.serving()

    def launch(self) -> None:
        """Start it; it may not serve yet."""
        assert self._part.plan is not None and not self.alive, f"{self._part.name} cannot be started now"
        launch = self._part.plan()
        with self._log.open("ab") as file:
            self._child = subprocess.Popen(
                launch.command(),
                cwd=launch.cwd,
                env=launch.environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def serving(self) -> None:
        deadline = time.monotonic() + self._part.deadline_s
        while True:
            try:
                return await self._part.ready()
            except WatchwordError as problem:
                if not self.alive or time.monotonic() > deadline:
                    self.end()
                    raise Transient(f"{self._part.name} did not start ({problem})\n{self.last_words()}") from problem
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Ask it to end, as an operator would; kill it when it takes longer than its grace."""
        self.send(signal.SIGTERM)
        if not await self._ended(self._part.grace_s):
            await self.kill()

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        killed = self._child
        self.send(signal.SIGKILL)
        # Not `alive`: whoever keeps this server up may have started the next child already.
        if killed is not None:
            await asyncio.to_thread(killed.wait, KILLED_S)

    async def restart(self) -> None:
        """Stop it in order and start it again on the same data."""
        await self.stop()
        await self.start()

    def send(self, number: signal.Signals) -> None:
        if self._child is not None and self.alive:
            self._child.send_signal(number)

    def end(self) -> None:
        """End it at once, from where nothing can be awaited."""
        self.send(signal.SIGKILL)
        if self._child is not None:
            self._child.wait(KILLED_S)

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    async def _ended(self, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while self.alive and time.monotonic() < deadline:  # noqa: ASYNC110  # a child tells nobody that it ended
            await asyncio.sleep(POLL_S)
        return not self.alive
