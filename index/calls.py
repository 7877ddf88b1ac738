"""Concurrent calls to shards that may be down, late or silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from proto.errors import Transient, WatchwordError

Key = TypeVar("Key")
Result = TypeVar("Result")


class Silent(Transient):
    """No answer came by the deadline."""


class PassedOver(Silent):
    """It did not answer lately, and was not asked."""


class Deadline:
    """One deadline for several calls to a shard."""

    def __init__(self, shard: str, seconds: float) -> None:
        self._shard = shard
        self._seconds = seconds
        self._until = asyncio.get_running_loop().time() + seconds

    @property
    def left_s(self) -> float:
        """The seconds that are left; 0 when it has passed."""
        return max(0.0, self._until - asyncio.get_running_loop().time())

    async def of(self, call: Awaitable[Result]) -> Result:
        """The result of the call; raises Silent when it is late."""
        try:
            async with asyncio.timeout_at(self._until):
                return await call
        except TimeoutError as error:
            raise Silent(
                f"Milvus ({self._shard}) did not answer within {self._seconds:g} s",
                todo="look at its load and its log, or raise the timeout",
            ) from error


class Silence:
    """Circuit breaker for silent shards: calls to one fail immediately, as PassedOver, until it answers `ask`.

    Otherwise every batch with a moment for a hanging shard would wait for the deadline, and so would its moments for
    all other shards. `ask` runs in the background, at most once per refused call.
    """

    def __init__(self, ask: Callable[[str], Awaitable[object]]) -> None:
        self._ask = ask
        self._asking: dict[str, asyncio.Task[bool]] = {}

    def begins(self, shard: str) -> None:
        """Record that the shard did not answer."""
        if shard not in self._asking:
            self._asking[shard] = asyncio.create_task(self._answers(shard))

    def check(self, shard: str) -> None:
        """Raise PassedOver if the shard has not answered since its silence began."""
        asking = self._asking.get(shard)
        if asking is None:
            return
        if asking.done():
            del self._asking[shard]
            if asking.result():
                return
            self.begins(shard)
        raise PassedOver(
            f"Milvus ({shard}) has not answered lately",
            todo="look at its load and its log; it is used again as soon as it answers",
        )

    async def close(self) -> None:
        """Stop asking."""
        asking = list(self._asking.values())
        self._asking.clear()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _answers(self, shard: str) -> bool:
        try:
            await self._ask(shard)
        except WatchwordError:
            return False
        return True


async def whole(calls: Mapping[Key, Awaitable[Result]]) -> list[Result]:
    """The results of all calls; raises one of the errors if any call failed."""
    given, wrong = await all_of(calls)
    if wrong:
        raise first(wrong)
    return list(given.values())


async def all_of(calls: Mapping[Key, Awaitable[Result]]) -> tuple[dict[Key, Result], dict[Key, WatchwordError]]:
    """Make all calls concurrently: results and WatchwordErrors by key. Other errors are raised."""
    outcomes = await asyncio.gather(*calls.values(), return_exceptions=True)
    given: dict[Key, Result] = {}
    wrong: dict[Key, WatchwordError] = {}
    for key, outcome in zip(calls, outcomes, strict=True):
        if isinstance(outcome, WatchwordError):
            wrong[key] = outcome
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            given[key] = outcome
    return given, wrong


async def all_soon(
    calls: Mapping[str, Awaitable[Result]], grace_s: float
) -> tuple[dict[str, Result], dict[str, WatchwordError]]:
    """Like `all_of`, of shards; but once one has answered, the others have only so long. Those are Silent then."""
    tasks = {name: asyncio.ensure_future(call) for name, call in calls.items()}
    waiting = set(tasks.values())
    try:
        while waiting and not any(task.done() and task.exception() is None for task in tasks.values()):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=grace_s)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    late = {name for name, task in tasks.items() if task in waiting}
    given, wrong = await all_of({name: task for name, task in tasks.items() if name not in late})
    for name in late:
        wrong[name] = Silent(
            f"Milvus ({name}) did not answer within {grace_s:g} s after another shard did",
            todo="look at its load and its log",
        )
    return given, wrong


def first(wrong: Mapping[Key, WatchwordError]) -> WatchwordError:
    """One of the errors."""
    return next(iter(wrong.values()))
