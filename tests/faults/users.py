"""People who search while something is hurt, and what they see of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from loadtests.openings import quantile
from proto.errors import Late, Overloaded, Transient, WatchwordError
from proto.types import now_ms
from proto.v1 import query_pb2
from query.client import QueryClient

EVERY_S = 0.5
TIMEOUT_S = 10.0
QUESTIONS = ("a red truck at the gate", "a person riding a bicycle", "two dogs are running", "the front door is open")


@dataclass
class Seen:
    """What users saw in one phase of a drill."""

    name: str
    asked: int = 0
    again: int = 0
    """Questions that the other address answered, after the first had not."""
    failed: list[str] = field(default_factory=list)
    """Why a question was answered by neither."""
    partial: int = 0
    """Answers that say that a part of the index was not searched, or that they do not know."""
    seconds: list[float] = field(default_factory=list)
    behind_s: list[float] = field(default_factory=list)
    """Of each answer: how old the newest picture was that was looked at, of the camera that is the furthest behind."""

    def cells(self) -> tuple[str, ...]:
        """What is told of it; COLUMNS names each."""
        counts = (self.asked, self.again, len(self.failed), self.partial)
        times = (quantile(self.seconds, 0.5), quantile(self.seconds, 0.99))
        behind = (quantile(self.behind_s, 0.5), quantile(self.behind_s, 1.0))
        return (*(str(count) for count in counts), *(f"{s * 1000:.0f}" for s in times), *(f"{s:.1f}" for s in behind))


COLUMNS = ("asked", "again", "failed", "partial", "p50 ms", "p99 ms", "behind s", "most")


class Users:
    """Ask at a steady pace, whether earlier questions were answered or not. A client knows two addresses: when one does
    not answer, it asks the other, once."""

    def __init__(self, addresses: Sequence[str], live: frozenset[str]) -> None:
        """`live` are the cameras whose freshness is told."""
        self._clients = [QueryClient(address, TIMEOUT_S) for address in addresses]
        self._live = live
        self._phase = Seen("before")
        self.seen = [self._phase]

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        pace = asyncio.create_task(self._ask_for_ever())
        try:
            yield
        finally:
            pace.cancel()
            await asyncio.gather(pace, return_exceptions=True)
            for client in self._clients:
                await client.close()

    def phase(self, name: str) -> Seen:
        """From now on, questions count for this phase. What was seen until now is printed: a drill takes long."""
        if self._phase.asked:
            print(_row(self._phase.name, self._phase.cells()), flush=True)
        self._phase = Seen(name)
        self.seen.append(self._phase)
        return self._phase

    def complaints(self) -> list[str]:
        """A sentence for each phase in which searches failed, and each way in which they did."""
        return [
            f"{len(alike)} searches failed ({phase.name}), such as: {alike[0]}"
            for phase in self.seen
            for alike in _alike(phase.failed)
        ]

    def __str__(self) -> str:
        rows = [("users saw", COLUMNS), *((phase.name, phase.cells()) for phase in self.seen if phase.asked)]
        return "\n".join(_row(name, cells) for name, cells in rows)

    async def _ask_for_ever(self) -> None:
        async with asyncio.TaskGroup() as asking:
            due_s = time.monotonic()
            for number in itertools.count():
                asking.create_task(self._ask(self._phase, QUESTIONS[number % len(QUESTIONS)]))
                due_s += EVERY_S
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _ask(self, phase: Seen, question: str) -> None:
        began_s = time.monotonic()
        phase.asked += 1
        first, *others = random.sample(self._clients, len(self._clients))
        reply: query_pb2.SearchReply | None
        try:
            reply = await first.search(text=question)
        except (Transient, Overloaded, Late) as error:
            reply = await self._again(phase, others, question, error)
        if reply is not None:
            phase.seconds.append(time.monotonic() - began_s)
            self._note(phase, reply)

    async def _again(
        self, phase: Seen, others: Sequence[QueryClient], question: str, error: WatchwordError
    ) -> query_pb2.SearchReply | None:
        try:
            if not others:
                raise error
            reply = await others[0].search(text=question)
        except WatchwordError as last:
            phase.failed.append(str(last))
            return None
        phase.again += 1
        return reply

    def _note(self, phase: Seen, reply: query_pb2.SearchReply) -> None:
        # Frames that were shed make every later answer partial; the ledger accounts for them.
        coverage = reply.coverage
        phase.partial += bool(coverage.shards_missing or coverage.unsearched or coverage.coverage_unknown)
        looked = {mark.camera: mark.looked_ms for mark in reply.coverage.watermarks if mark.camera in self._live}
        if looked.keys() == self._live:
            phase.behind_s.append((now_ms() - min(looked.values())) / 1000)


def _alike(failed: Sequence[str]) -> list[list[str]]:
    """Those that differ in numbers alone together; the most frequent first."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for told in failed:
        found[re.sub(r"\d+", "", told)].append(told)
    return sorted(found.values(), key=len, reverse=True)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<34}" + "".join(f"{cell:>9}" for cell in cells)
