"""What those who may not come in cost those who may.

    python -m loadtests.entrance [--forged 2000] [--streams 10000] [--pairs 300]

A query service and a gateway in this process, with moments in memory, where nobody asks without a token. Prints how
long good searches take alone, during a flood of forged tokens over HTTP and over gRPC, and beside idle streams; and by
how much the time for a camera that may not be seen differs from that for one that is not there. Both ends share this
machine's processors, so the times during floods are upper bounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio

from proto.errors import WatchwordError
from query.client import QueryClient
from tests.gateway.test_access import House, running

GOOD = 20
AT_ONCE = 200
SETTLE_S = 5.0
MOST_S = 120.0
_STREAMS_OF_A_CONNECTION = 1000


async def timed(call: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds of a call, however it ends."""
    begun = time.perf_counter()
    with suppress(WatchwordError):
        await call()
    return 1000 * (time.perf_counter() - begun)


async def good(house: House, token: str) -> list[float]:
    """The times of good searches, one after another."""
    async with QueryClient(house.grpc_at, 30.0, token=token) as asking:
        return [await timed(lambda: asking.search(text="dog")) for _ in range(GOOD)]


def forged(number: int) -> str:
    return f"ww_{number:012x}_{'a' * 43}"


async def flood_http(house: House, count: int) -> str:
    """Forged tokens over HTTP; says how they were answered."""
    found: dict[int, int] = {}
    gate = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def one(number: int) -> None:
            headers = {"authorization": f"Bearer {forged(number)}"}
            async with gate, session.get(f"{house.http_at}/api/v1/cameras", headers=headers) as answer:
                found[answer.status] = found.get(answer.status, 0) + 1

        await asyncio.gather(*(one(number) for number in range(count)))
    return ", ".join(f"{times} x {status}" for status, times in sorted(found.items()))


async def flood_grpc(house: House, count: int) -> str:
    """The same over gRPC."""
    found: dict[str, int] = {}
    gate = asyncio.Semaphore(AT_ONCE)
    async with QueryClient(house.grpc_at, 30.0) as asking:

        async def one(number: int) -> None:
            async with gate:
                try:
                    await asking.on_behalf(forged(number)).cameras()
                except WatchwordError as error:
                    name = type(error).__name__
                    found[name] = found.get(name, 0) + 1

        await asyncio.gather(*(one(number) for number in range(count)))
    return ", ".join(f"{times} x {name}" for name, times in sorted(found.items()))


async def idle_streams(house: House, token: str, count: int) -> list[float]:
    """Good searches beside calls with a good token that send nothing, as far as they are let in."""
    channels: list[grpc.aio.Channel] = []
    calls: list[Any] = []
    for number in range(count):
        if number % _STREAMS_OF_A_CONNECTION == 0:
            channels.append(grpc.aio.insecure_channel(house.grpc_at, options=[("grpc.use_local_subchannel_pool", 1)]))
        call = channels[-1].stream_unary(
            "/watchword.v1.Query/Search", request_serializer=bytes, response_deserializer=bytes
        )
        calls.append(call(metadata=(("authorization", f"Bearer {token}"),)))
    await asyncio.sleep(SETTLE_S)
    try:
        return await good(house, token)
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*(channel.close() for channel in channels))


async def difference(house: House, pairs: int) -> str:
    """Medians for a camera that may not be seen and for one that is not there, asked in turn."""
    token = house.token("dock alone", cameras=("dock",))
    times: dict[str, list[float]] = {"gate": [], "gaet": []}
    async with QueryClient(house.grpc_at, 30.0, token=token) as asking:
        for number in range(pairs):
            for name in ("gate", "gaet") if number % 2 else ("gaet", "gate"):
                times[name].append(await timed(partial(asking.search, text="dog", cameras=[name])))
    forbidden, unknown = statistics.median(times["gate"]), statistics.median(times["gaet"])
    spread = statistics.quantiles(times["gaet"], n=4)
    return f"{forbidden:.2f} ms / {unknown:.2f} ms; half of the latter within {spread[0]:.2f} to {spread[2]:.2f} ms"


def shown(name: str, times: list[float]) -> None:
    print(f"{name}: good searches p50 {statistics.median(times):.1f} ms, most {max(times):.1f} ms", flush=True)


async def whole(asked: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with asyncio.timeout(MOST_S), running(Path(folder)) as house:
            token = house.token("good")
            shown("alone", await good(house, token))
            for name, flood in (("HTTP", flood_http), ("gRPC", flood_grpc)):
                flooding = asyncio.create_task(flood(house, asked.forged))
                shown(f"during {asked.forged} forged tokens over {name}", await good(house, token))
                print(f"  they were answered: {await flooding}")
            shown(f"beside {asked.streams} idle streams", await idle_streams(house, token, asked.streams))
            print(f"a camera that may not be seen / that is not there, median: {await difference(house, asked.pairs)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forged", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=300)
    return asyncio.run(whole(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
