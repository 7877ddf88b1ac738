"""Pictures of moments on their way to where they rest: beside the rows, never in front of one.

While the store answers quickly, the pictures of a moment are there before its frames count as done. When it does not,
nobody waits for it: pictures wait in a queue, which is bounded, and those that waited longest are left out.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from catalog.media import Thumbnails
from proto.errors import Transient, WatchwordError
from proto.life import NOTHING, Gone
from proto.metrics import PICTURES_LOST, PICTURES_WAITING
from proto.retry import Backoff
from stream.moments import Write

log = logging.getLogger("watchword.stream")

_PAUSES = Backoff(0.05, 2.0)


class Pictures:
    """Writes them, in threads of its own. Those of one moment keep their order."""

    def __init__(
        self,
        thumbnails: Thumbnails,
        gone: Callable[[], Gone] = lambda: NOTHING,
        *,
        threads: int = 4,
        most_waiting: int = 256,
        patience_s: float = 0.5,
    ) -> None:
        """Pictures of at most `most_waiting` moments wait, and none is written of what is `gone` by then. A caller
        waits for up to `patience_s`."""
        self._hands = [_Hand(thumbnails, gone, max(1, most_waiting // threads)) for _ in range(threads)]
        self._patience_s = patience_s
        self._slow = False

    async def put(self, writes: Sequence[Write]) -> None:
        """Have the pictures of these moments written. Returns when they are, or when that takes too long."""
        jobs = [_Job(write) for write in writes if write.thumbnail is not None or write.pictures]
        behind = self._slow and any(hand.waiting for hand in self._hands)
        for job in jobs:
            self._hands[int(job.write.moment.id, 16) % len(self._hands)].add(job)
        if not behind:
            self._slow = not await _over(jobs, self._patience_s)
        PICTURES_WAITING.set(sum(hand.waiting for hand in self._hands))

    async def finish(self, within_s: float) -> None:
        """Wait for those that wait, for at most so long."""
        await _over([job for hand in self._hands for job in hand.jobs()], within_s)


class _Job:
    """The pictures of one write."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self._lock = threading.Lock()
        self._tell: list[Callable[[], None]] | None = []

    def end(self) -> None:
        """They are written, or left out."""
        with self._lock:
            tell, self._tell = self._tell or [], None
        for one in tell:
            one()

    def then(self, call: Callable[[], None]) -> None:
        """Call it, from any thread, when that is so."""
        with self._lock:
            if self._tell is not None:
                self._tell.append(call)
                return
        call()


async def _over(jobs: Sequence[_Job], within_s: float) -> bool:
    """Whether all end within the time."""
    loop, left, over = asyncio.get_running_loop(), len(jobs), asyncio.Event()

    def ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(ended)

    for job in jobs:
        job.then(tell)
    try:
        async with asyncio.timeout(within_s):
            return not jobs or await over.wait()
    except TimeoutError:
        return False


class _Hand:
    """One thread, and the moments whose pictures it writes one after another."""

    def __init__(self, thumbnails: Thumbnails, gone: Callable[[], Gone], most: int) -> None:
        self._thumbnails = thumbnails
        self._gone = gone
        self._most = most
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._thread: threading.Thread | None = None
        self._fails = False

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def jobs(self) -> list[_Job]:
        with self._changed:
            return list(self._jobs)

    def add(self, job: _Job) -> None:
        left_out = None
        with self._changed:
            if len(self._jobs) >= self._most:
                left_out = self._jobs.popleft()
            self._jobs.append(job)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
                self._thread.start()
        if left_out is not None:
            PICTURES_LOST.inc()
            left_out.end()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                job = self._jobs[0]
            failures = failures + 1 if self._again(job) else 0
            if failures:
                time.sleep(_PAUSES.pause_s(failures, random.random()))  # noqa: S311 - spreads load, hides nothing

    def _again(self, job: _Job) -> bool:
        """Write the pictures of the first moment of the queue. Whether that is to be tried again."""
        error = self._written(job.write)
        if error is not None and not self._fails:
            log.warning("pictures of moments are not kept from now on: %s", error)
        if error is None and self._fails:
            log.info("pictures of moments are kept again")
        self._fails = error is not None
        if isinstance(error, Transient):
            return True
        with self._changed:
            if job not in self._jobs:  # it had to give way meanwhile
                return False
            self._jobs.remove(job)
        if error is not None:
            PICTURES_LOST.inc()
        job.end()
        return False

    def _written(self, write: Write) -> WatchwordError | None:
        name, regions = write.moment.id, write.moment.regions
        try:
            if self._is_gone(write):
                return None
            if write.thumbnail is not None:
                self._thumbnails.put(name, write.thumbnail)
            if write.pictures:
                self._thumbnails.put_instants(name, write.pictures, {region.at_ms for region in regions})
            if self._is_gone(write):  # it was erased in between: whoever removes pictures may have been here before
                self._thumbnails.remove([name])
        except WatchwordError as error:
            return error
        return None

    def _is_gone(self, write: Write) -> bool:
        return self._gone().covers(write.moment.camera, write.moment.start_ms, write.moment.end_ms)
