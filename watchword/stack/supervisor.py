"""Keeps the parts of a stack running: starts them in order, restarts crashed ones, stops them in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from proto.errors import Broken, Invalid, Late, Transient, WatchwordError
from proto.retry import Backoff
from watchword.stack.logs import ChildLog
from watchword.stack.parts import Part
from watchword.stack.ready import NotServing
from watchword.stack.state import PartState, Phase, without_password

STOP_S = 9.0
"""Everything has stopped after this long, killed if necessary."""
PAUSES = Backoff(0.5, 30.0, spread=0.0)
STEADY_S = 30.0
"""After being ready this long, a part's next crash counts as its first."""
TRIES = 3
"""How often a part that was never ready is started before the stack gives up."""
POLL_S, AWAY_POLL_S, LOOK_S = 0.1, 5.0, 10.0
ANSWER_S = 10.0
KILL_S = 1.0
"""The share of STOP_S reserved for killing."""

Say = Callable[[str], None]


class Supervisor:
    """Runs the parts. `say` gets a line per event; `changed` is called at every change of state.

    Use it from the main thread: a child dies with the thread that started it.
    """

    def __init__(self, parts: Sequence[Part], logs: Path, say: Say, changed: Callable[[], None] = lambda: None) -> None:
        self._parts = {part.name: part for part in parts}
        self._keepers = {part.name: _Keeper(part, self, ChildLog(logs, part.name), say) for part in parts}
        self._changed = changed
        self._tasks: dict[str, asyncio.Task[NoReturn]] = {}

    def states(self) -> list[PartState]:
        """The current state of every part, in the given order."""
        return [keeper.state for keeper in self._keepers.values()]

    async def start(self) -> None:
        """Start everything; returns when every part is ready. Raises the error of a part that cannot start."""
        self._tasks = {name: asyncio.create_task(keeper.keep(), name=name) for name, keeper in self._keepers.items()}
        ready = asyncio.create_task(self._all_ready())
        try:
            await asyncio.wait([ready, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure()
        finally:
            ready.cancel()

    async def watch(self) -> None:
        """Until cancelled: raise when a part cannot be kept running; keep logs and memory bounded."""
        while True:
            await asyncio.wait(self._tasks.values(), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure()
            for keeper in self._keepers.values():
                await asyncio.to_thread(keeper.log.trim)
                keeper.bound_memory()

    async def stop(self) -> None:
        """Stop everything in reverse order, each part once no other needs it. Takes at most STOP_S."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        deadline = time.monotonic() + STOP_S
        left = dict(self._keepers)
        while left:
            needed = {need for name in left for need in self._parts[name].needs}
            unneeded = [name for name in left if name not in needed] or list(left)
            await asyncio.gather(*(left.pop(name).end(deadline) for name in unneeded))

    def kill(self) -> None:
        """Kill everything now, in any order."""
        for keeper in self._keepers.values():
            keeper.kill()

    async def needs_ready(self, part: Part) -> None:
        for need in part.needs:
            await self._keepers[need].is_ready.wait()

    def part_began_anew(self, part: Part) -> None:
        """Restart the parts that rely on its lost data or know its old address."""
        for keeper in self._keepers.values():
            if part.name in keeper.part.needs:
                keeper.begin_anew(f"{part.name} was restarted")

    def tell(self) -> None:
        self._changed()

    async def _all_ready(self) -> None:
        for keeper in self._keepers.values():
            await keeper.is_ready.wait()

    def _raise_failure(self) -> None:
        for task in self._tasks.values():
            if task.done():
                task.result()


class _Keeper:
    """Keeps one part running."""

    def __init__(self, part: Part, house: Supervisor, log: ChildLog, say: Say) -> None:
        self.part = part
        self.log = log
        self.is_ready = asyncio.Event()
        self.state = PartState(part.name, "waiting", since=time.time())
        self._house = house
        self._say = say
        self._child: asyncio.subprocess.Process | None = None
        self._served_at = ""
        self._failures = 0
        self._anew = asyncio.Event()
        self._why_anew = ""

    async def keep(self) -> NoReturn:
        while True:
            await self._house.needs_ready(self.part)
            if self.part.plan is None:
                await self._ask_elsewhere()
            else:
                await self._one_life()

    async def end(self, deadline: float) -> None:
        """Stop the child permanently."""
        await self._end_child(deadline)
        self._enter("stopped", pid=None)

    def kill(self) -> None:
        if self._alive(self._child):
            self._signal(signal.SIGKILL)

    def begin_anew(self, why: str) -> None:
        if self._alive(self._child):
            self._why_anew = why
            self._anew.set()

    def bound_memory(self) -> None:
        if self._child is None or not self.part.most_bytes or not self.is_ready.is_set():
            return
        held = memory_of(self._child.pid)
        if held > self.part.most_bytes:
            self.begin_anew(f"it held {held / 1024**2:.0f} MB")

    async def _ask_elsewhere(self) -> None:
        """Check a part that runs elsewhere. Being down is an error at the start; later it is only shown."""
        try:
            await self._ask()
        except WatchwordError as problem:
            if not self._served_at:
                raise
            if self.state.phase != "away":
                self._say(f"{self.part.name}: {problem.message}")
                self._enter("away", why=problem.message)
        else:
            if self.state.phase != "elsewhere":
                self._served_at = self.part.address()
                self._say(f"{self.part.name}: answers at {without_password(self._served_at)}")
                self._enter("elsewhere")
                self.is_ready.set()
        await asyncio.sleep(AWAY_POLL_S)

    async def _one_life(self) -> None:
        """Start the child, wait until it ends, and pause before the next start."""
        began = time.monotonic()
        ready_at: float | None = None
        problem: WatchwordError
        self._anew.clear()
        try:
            child = await self._spawn()
            await self._until_ready(child, began)
            ready_at = time.monotonic()
            self._now_ready(ready_at - began)
            await _first(child.wait(), self._anew.wait(), self._silent())
            problem = await self._what_ended(child)
        except (Broken, Invalid) as refused:
            if not self._served_at:
                raise
            problem = refused
        except WatchwordError as failed:
            problem = failed
        self.is_ready.clear()
        if self._anew.is_set():
            self._say(f"{self.part.name}: starts anew, {self._why_anew}")
            self._enter("restarting", why=self._why_anew)
            await self._end_child(time.monotonic() + STOP_S)
            return
        steady = ready_at is not None and time.monotonic() - ready_at > STEADY_S
        self._failures = 1 if steady else self._failures + 1
        if not self._served_at and self._failures >= TRIES:
            raise self._gave_up(problem)
        pause = PAUSES.pause_s(self._failures, 1.0)
        self._say(f"{self.part.name}: {problem.message}; starting it again in {pause:.1f} s")
        self._enter("restarting", pid=None, why=problem.message, restarts=self.state.restarts + 1)
        await asyncio.sleep(pause)

    async def _silent(self) -> None:
        """Check periodically; return when the part did not answer for `silent_s`. A negative answer is an answer."""
        heard = time.monotonic()
        while time.monotonic() - heard < self.part.silent_s:
            await asyncio.sleep(min(LOOK_S, self.part.silent_s / 4))
            try:
                await self._ask()
            except (Late, Transient) as problem:
                if not isinstance(problem, NotServing):
                    continue
            except WatchwordError:
                pass
            heard = time.monotonic()

    async def _what_ended(self, child: asyncio.subprocess.Process) -> WatchwordError:
        """Why a ready part ended. One that hangs is killed: it would not react to another signal."""
        if child.returncode is not None or self._anew.is_set():
            return Transient(_how_it_ended(child.returncode) + self._last_words())
        self.kill()
        await child.wait()
        return Late(f"answered nothing for {self.part.silent_s:.0f} s and was killed" + self._last_words())

    async def _spawn(self) -> asyncio.subprocess.Process:
        assert self.part.plan is not None
        launch = await asyncio.to_thread(self.part.plan)
        with self.log.opened() as output:
            self._child = await asyncio.create_subprocess_exec(
                *launch.command(),
                cwd=launch.cwd,
                env=launch.environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Outside the terminal's group: Ctrl-C reaches only the supervisor, which stops its parts in order.
                start_new_session=True,
            )
        self._enter("starting", pid=self._child.pid)
        return self._child

    async def _until_ready(self, child: asyncio.subprocess.Process, began: float) -> None:
        while True:
            try:
                await self._ask()
            except WatchwordError as problem:
                waiting = problem.message
            else:
                if child.returncode is None:
                    return
                waiting = f"another program answers at {self.part.address()}"
            if child.returncode is not None or self._anew.is_set():
                raise Transient(_how_it_ended(child.returncode) + " before it was ready" + self._last_words())
            if time.monotonic() - began > self.part.deadline_s:
                self.kill()
                await child.wait()
                raise Late(f"not ready within {self.part.deadline_s:.0f} s ({waiting})")
            if waiting != self.state.why:
                self._enter("starting", why=waiting)
            await asyncio.sleep(POLL_S)

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.part.ready()
        except TimeoutError:
            raise Late(f"{self.part.name} did not answer within {ANSWER_S:.0f} s") from None

    async def _end_child(self, deadline: float) -> None:
        """Ask the child to stop, and kill it after its grace or the deadline."""
        if self._child is None or self._child.returncode is not None:
            return
        self._signal(self.part.stop)
        try:
            await asyncio.wait_for(
                self._child.wait(), max(0.1, min(self.part.grace_s, deadline - time.monotonic() - KILL_S))
            )
        except TimeoutError:
            self._say(f"{self.part.name}: did not stop when asked, killed")
            self.kill()
            await self._child.wait()

    def _now_ready(self, took_s: float) -> None:
        before, self._served_at = self._served_at, self.part.address()
        self._say(f"{self.part.name}: ready at {without_password(self._served_at)} ({took_s:.1f} s)")
        self._enter("ready")
        self.is_ready.set()
        if before and (self.part.forgets or before != self._served_at):
            self._house.part_began_anew(self.part)

    def _gave_up(self, problem: WatchwordError) -> WatchwordError:
        for line in self.log.last_lines(5):
            self._say(f"{self.part.name}:     {line}")
        return Broken(f"{self.part.name} does not start: {problem.message}", todo=f"its log is {self.log.path}")

    def _last_words(self) -> str:
        lines = self.log.last_lines(1)
        return f", its log ends: {lines[0]}" if lines else ""

    def _enter(self, phase: Phase, **more: Any) -> None:
        since = self.state.since if phase == self.state.phase else time.time()
        address = without_password(self.part.address())
        self.state = replace(self.state, **{"why": "", **more}, phase=phase, since=since, address=address)
        self._house.tell()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            assert self._child is not None
            self._child.send_signal(number)

    @staticmethod
    def _alive(child: asyncio.subprocess.Process | None) -> bool:
        return child is not None and child.returncode is None


def memory_of(pid: int) -> int:
    """Resident memory of the process in bytes; 0 when unknown."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them ends; cancel the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "was told to start anew"
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with exit code {code}"
