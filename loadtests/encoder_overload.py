"""One worker with many callers and overload: `python -m loadtests.encoder_overload [--bundle FOLDER]`.

1. 64 callers with one picture each, against one caller with full batches; both take turns. Goal: 0.90 of its rate.
2. Open loop, no retries: a load slightly above the worker's capacity, and twice that, in turns. Goals: the excess is
   refused at the door; at twice the load 0.95 as many are answered; the worker's memory stays flat.
3. Texts while 64 callers keep the worker full of pictures.

The callers run on one core and the worker on the others, to measure what more callers cost the worker, not the machine.
With `--shared` all use all cores.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio
import numpy as np

from loadtests.encoder_parts import WorkerProcess, bundle_of, frames, parser, percentile, spread, table, worker
from models.bundle import Bundle
from proto.rpc import CHANNEL_OPTIONS
from proto.v1 import encoder_pb2, encoder_pb2_grpc
from workers.client import EncoderClient

_CALLERS = 64
_IMAGES = 192
_QUEUE = 96
_BATCH = 16
"""At least as many items as an engine call answers."""
_LOADS = 1.1, 2.0
_FILL_S = 5.0
_LATELY = 5
"""How many past borders of turns give the worker's current rate, which changes with the machine's load."""
_TELL_EVERY = 30
_TEXTS_S = 12.0
_DEADLINE_S = 20.0
_TEXTS = ("a person riding a bicycle", "a red truck at the gate", "a dog", "somebody at the door")
_Call = Callable[[], Coroutine[Any, Any, None]]
_Waits = dict[str, list[float]]
"""By outcome."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=7, help="of part 1; the median is printed")
    arguments.add_argument("--turns", type=int, default=60, help="of part 2 at each load; the median is printed")
    arguments.add_argument("--seconds", type=float, default=2, help="length of one turn")
    arguments.add_argument("--shared", action="store_true", help="callers and worker share all cores")
    chosen = arguments.parse_args()
    bundle = bundle_of(chosen)
    cores = os.sched_getaffinity(0) if chosen.shared else _cores_apart()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(bundle, Path(folder), cores, chosen))


def _cores_apart() -> set[int]:
    """Pin this process to one core; returns the others."""
    *others, own = sorted(os.sched_getaffinity(0))
    if not others:
        sys.exit("this machine has one core, which callers and worker must share: add --shared")
    os.sched_setaffinity(0, {own})
    return set(others)


async def _measure(bundle: Bundle, folder: Path, cores: set[int], chosen: argparse.Namespace) -> None:
    jpegs = frames(_IMAGES, bundle.image_side)
    async with (
        worker(bundle, folder, {"queue_images": _QUEUE}, cores=cores) as remote,
        EncoderClient(remote.address, timeout_s=60) as client,
    ):
        await client.embed_images(jpegs)
        size = sum(map(len, jpegs)) // len(jpegs)
        print(f"{bundle.name}, one worker (cores: {len(cores)}), JPEGs of {size:,} bytes", flush=True)
        pace = await _many_callers(client, jpegs, chosen.rounds)
        await _twice_as_much(remote, jpegs, pace, chosen.turns, chosen.seconds)
        await _texts_among_pictures(client, jpegs)


async def _many_callers(client: EncoderClient, jpegs: list[bytes], rounds: int) -> float:
    """Answers per second to all callers together."""
    one: list[float] = []
    many: list[float] = []
    waits: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await client.embed_images(jpegs)
        one.append(len(jpegs) / (time.perf_counter() - began))
        left = iter(jpegs)

        async def caller(left: itertools.chain[bytes]) -> None:
            for jpeg in left:
                asked = time.perf_counter()
                await client.embed_images([jpeg])
                waits.append((time.perf_counter() - asked) * 1000)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(_CALLERS):
                group.create_task(caller(left))  # type: ignore[arg-type]  # one iterator, shared
        many.append(len(jpegs) / (time.perf_counter() - began))
    share = statistics.median(other / each for each, other in zip(one, many, strict=True))
    table(
        [
            ("one caller, full batches, images/s", spread(one)),
            (f"{_CALLERS} callers, one picture each, images/s", spread(many)),
            ("share (goal 0.90)", f"{share:8.3f}"),
            ("a caller waits, ms: p50, p99", f"{percentile(waits, 0.5):8.1f} {percentile(waits, 0.99):8.1f}"),
        ]
    )
    return statistics.median(many)


async def _twice_as_much(remote: WorkerProcess, jpegs: list[bytes], pace: float, turns: int, length_s: float) -> None:
    """Loads slightly above capacity and twice that alternate without a pause, so the worker is always full.

    A shared machine's speed changes by the second, so turns are short and each is compared with its neighbours.
    """
    seen = _Seen()
    borders: list[_Border] = []
    async with (
        grpc.aio.insecure_channel(remote.address, options=CHANNEL_OPTIONS) as channel,
        asyncio.TaskGroup() as calls,
    ):
        call = _watched(encoder_pb2_grpc.EncoderStub(channel), itertools.cycle(jpegs), seen)

        def send() -> None:
            calls.create_task(call())

        await _by_the_clock(2 * pace, _FILL_S, send)
        for number in range(2 * turns + 1):
            if number % _TELL_EVERY == 0:
                print(f"  turn {number} of {2 * turns + 1}", flush=True)
            seen.memory.append(remote.rss_mb)
            borders.append(_Border(time.perf_counter(), remote.cpu_s))
            seen.waits = seen.by_load[number % 2]
            lately = borders[-_LATELY:]
            if len(lately) > 1:
                pace = seen.answers(lately[0], lately[-1]) / (lately[-1].at_s - lately[0].at_s)
            await _by_the_clock(_LOADS[number % 2] * pace, length_s, send)
        borders.append(_Border(time.perf_counter(), remote.cpu_s))
    pairs = list(itertools.pairwise(borders))
    paces = [seen.answers(*pair) / (pair[1].at_s - pair[0].at_s) for pair in pairs]
    costs = [(pair[1].cpu_s - pair[0].cpu_s) / seen.answers(*pair) for pair in pairs]
    table(
        [
            (f"{_LOADS[0]} times its capacity: answered, images/s", spread(paces[::2])),
            (f"{_LOADS[1]} times: answered, share of that (goal 0.95)", spread(_beside(paces))),
            ("the same by the worker's processor time", spread([1 / share for share in _beside(costs)])),
            ("memory MB: when full, most of the first third, most, at the end", seen.told()),
        ]
        + [
            (f"{load} times, {outcome}: count, ms p50, p99", _count(waits))
            for load, found in zip(_LOADS, seen.by_load, strict=True)
            for outcome, waits in sorted(found.items())
        ]
    )


def _beside(values: list[float]) -> list[float]:
    """Every second value, divided by the mean of its neighbours."""
    each = zip(values, values[1:], values[2:], strict=False)
    return [2 * here / (before + after) for before, here, after in each][::2]


class _Border(NamedTuple):
    """The border between two turns."""

    at_s: float
    cpu_s: float
    """Processor seconds of the worker so far."""


class _Seen:
    """The results of all turns, and the worker's memory."""

    def __init__(self) -> None:
        self.by_load: tuple[_Waits, _Waits] = ({}, {})
        self.waits: _Waits = {}
        """For the requests of the current turn."""
        self.memory: list[float] = []
        self.answered_s: list[float] = []

    def answers(self, begin: _Border, end: _Border) -> float:
        """Answers between two borders. A batch's answers arrive together, so they are spread over the time since the
        previous batch."""
        batches = self.answered_s[::_BATCH]
        first, last = np.interp([begin.at_s, end.at_s], batches, np.arange(len(batches)) * _BATCH)
        return float(last - first)

    def told(self) -> str:
        first = max(self.memory[: max(2, len(self.memory) // 3)])
        return " ".join(f"{value:8.0f}" for value in (self.memory[0], first, max(self.memory), self.memory[-1]))


def _count(waits: list[float]) -> str:
    return f"{len(waits):8} {percentile(waits, 0.5):8.1f} {percentile(waits, 0.99):8.1f}"


def _watched(stub: Any, jpegs: Iterator[bytes], seen: _Seen) -> _Call:
    async def call() -> None:
        asked, waits, outcome = time.perf_counter(), seen.waits, "answered"
        try:
            await stub.EmbedImages(encoder_pb2.EmbedImagesRequest(images=[next(jpegs)]), timeout=_DEADLINE_S)
            seen.answered_s.append(time.perf_counter())
        except grpc.aio.AioRpcError as error:
            outcome = error.code().name
        waits.setdefault(outcome, []).append((time.perf_counter() - asked) * 1000)

    return call


async def _by_the_clock(pace: float, length_s: float, send: Callable[[], object]) -> None:
    """Open loop: send at a fixed rate whatever the answers, without retries."""
    began = time.perf_counter()
    for number in range(int(pace * length_s)):
        await asyncio.sleep(max(0.0, began + number / pace - time.perf_counter()))
        send()


async def _texts_among_pictures(client: EncoderClient, jpegs: list[bytes]) -> None:
    async def texts() -> list[float]:
        waits: list[float] = []
        began = time.perf_counter()
        for text in itertools.cycle(_TEXTS):
            if time.perf_counter() - began > _TEXTS_S:
                return waits
            asked = time.perf_counter()
            await client.embed_texts([text])
            waits.append((time.perf_counter() - asked) * 1000)
            await asyncio.sleep(0.02)
        return waits

    idle = await texts()
    async with _saturating(lambda: client.embed_images([jpegs[0]])):
        busy = await texts()
    table(
        [
            (
                f"a text {when}, ms: p50, p99 (of {len(waits)})",
                f"{percentile(waits, 0.5):8.1f} {percentile(waits, 0.99):8.1f}",
            )
            for when, waits in (("alone", idle), (f"while {_CALLERS} callers send pictures", busy))
        ]
    )


@asynccontextmanager
async def _saturating(call: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    async def forever() -> None:
        while True:
            await call()

    tasks = [asyncio.create_task(forever()) for _ in range(_CALLERS)]
    try:
        await asyncio.sleep(1)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    main()
