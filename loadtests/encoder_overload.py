"""One worker, many callers, and more than it can do: `python -m loadtests.encoder_overload [--bundle FOLDER]`.

1. 64 callers with one picture each, against one caller with full batches; both take turns. Goal: 0.90 of its pace.
2. Pictures come at twice that pace, by the clock, whatever the answers (open loop, no repeats). Goals: what is too
   much is refused at the door, and what is answered stays at 0.95 of the best pace; the worker's memory stays flat.
3. Texts while 64 callers keep the worker full of pictures.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from loadtests.encoder_parts import WorkerProcess, bundle_of, frames, parser, percentile, spread, table, worker
from models.bundle import Bundle
from proto.rpc import CHANNEL_OPTIONS
from proto.v1 import encoder_pb2, encoder_pb2_grpc
from workers.client import EncoderClient

_CALLERS = 64
_IMAGES = 192
_QUEUE = 96
"""Short, so that part 2 is past the filling of it soon."""
_DEADLINE_S = 20.0
_TEXTS = ("a person riding a bicycle", "a red truck at the gate", "a dog", "somebody at the door")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=5, help="turns of parts 1 and 2; the median is told")
    arguments.add_argument("--seconds", type=float, default=6, help="length of a turn of part 2, and of part 3")
    chosen = arguments.parse_args()
    bundle = bundle_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(bundle, Path(folder), chosen.rounds, chosen.seconds))


async def _measure(bundle: Bundle, folder: Path, rounds: int, length_s: float) -> None:
    jpegs = frames(_IMAGES, bundle.image_side)
    async with (
        worker(bundle, folder, {"queue_images": _QUEUE}) as remote,
        EncoderClient(remote.address, timeout_s=60) as client,
    ):
        await client.embed_images(jpegs)
        print(f"{bundle.name}, one worker, JPEGs of {sum(map(len, jpegs)) // len(jpegs):,} bytes")
        await _many_callers(client, jpegs, rounds)
        await _twice_as_much(remote, jpegs, rounds, length_s)
        await _texts_among_pictures(client, jpegs, length_s)


async def _many_callers(client: EncoderClient, jpegs: list[bytes], rounds: int) -> None:
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


async def _twice_as_much(remote: WorkerProcess, jpegs: list[bytes], rounds: int, length_s: float) -> None:
    """Each turn measures the best pace anew: what a shared machine gives changes from one minute to the next."""
    best, kept, dearer = [], [], []
    seen = _Seen(memory=[remote.rss_mb])
    async with grpc.aio.insecure_channel(remote.address, options=CHANNEL_OPTIONS) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        for _ in range(rounds):
            pace, cost = await _pace(remote, _closed_loop(stub, jpegs, length_s))
            best.append(pace)
            found, found_cost = await _pace(remote, _open_loop(stub, jpegs, 2 * pace, length_s, seen, remote))
            kept.append(found / pace)
            dearer.append(cost / found_cost)
    rows = [
        (f"{_CALLERS} callers, images/s", spread(best)),
        ("twice that, open loop: answered, share of it (goal 0.95)", spread(kept)),
        ("the same by the worker's processor time", spread(dearer)),
        ("memory MB: at first, most of the first turn, most, at the end", seen.told()),
    ]
    rows += [(f"{name}: count, ms p50, p99", _count(waits)) for name, waits in sorted(seen.waits.items())]
    table(rows)


@dataclass
class _Seen:
    """What came of the requests of all turns, and the worker's memory meanwhile."""

    memory: list[float]
    waits: dict[str, list[float]] = field(default_factory=dict)

    def told(self) -> str:
        first = max(self.memory[: max(2, len(self.memory) // 3)])
        return " ".join(f"{value:8.0f}" for value in (self.memory[0], first, max(self.memory), self.memory[-1]))


def _count(waits: list[float]) -> str:
    return f"{len(waits):8} {percentile(waits, 0.5):8.1f} {percentile(waits, 0.99):8.1f}"


async def _pace(remote: WorkerProcess, answers: Awaitable[tuple[int, float]]) -> tuple[float, float]:
    """Answers a second, and the worker's processor seconds for each."""
    before = remote.cpu_s
    count, spent_s = await answers
    return count / spent_s, (remote.cpu_s - before) / count


async def _closed_loop(stub: Any, jpegs: list[bytes], length_s: float) -> tuple[int, float]:
    began, count = time.perf_counter(), 0

    async def caller(number: int) -> None:
        nonlocal count
        while time.perf_counter() - began < length_s:
            request = encoder_pb2.EmbedImagesRequest(images=[jpegs[number % len(jpegs)]])
            await stub.EmbedImages(request, timeout=_DEADLINE_S)
            count += 1

    await asyncio.gather(*(caller(number) for number in range(_CALLERS)))
    return count, time.perf_counter() - began


async def _open_loop(
    stub: Any, jpegs: list[bytes], pace: float, length_s: float, seen: _Seen, remote: WorkerProcess
) -> tuple[int, float]:
    """Until the last is answered: a queue that was filled and is then emptied counts with the time that takes."""
    began, count = time.perf_counter(), 0

    async def one(jpeg: bytes) -> None:
        nonlocal count
        asked, outcome = time.perf_counter(), "answered"
        try:
            await stub.EmbedImages(encoder_pb2.EmbedImagesRequest(images=[jpeg]), timeout=_DEADLINE_S)
            count += 1
        except grpc.aio.AioRpcError as error:
            outcome = error.code().name
        seen.waits.setdefault(outcome, []).append((time.perf_counter() - asked) * 1000)

    async with asyncio.TaskGroup() as group:
        for number in range(int(pace * length_s)):
            await asyncio.sleep(max(0.0, began + number / pace - time.perf_counter()))
            group.create_task(one(jpegs[number % len(jpegs)]))
            if number % 50 == 0:
                seen.memory.append(remote.rss_mb)
    seen.memory.append(remote.rss_mb)
    return count, time.perf_counter() - began


async def _texts_among_pictures(client: EncoderClient, jpegs: list[bytes], length_s: float) -> None:
    async def texts() -> list[float]:
        waits: list[float] = []
        began = time.perf_counter()
        for text in itertools.cycle(_TEXTS):
            if time.perf_counter() - began > length_s:
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
