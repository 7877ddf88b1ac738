"""Does the door keep goodput above the knee? Two services of known capacity, one with its admission by expected wait.

    python -m loadtests.door [--seconds-each 0.1] [--promised 1.0]

Both serve the query API over real gRPC, and answer one search after another, each of which takes a known time on
average: they sleep, so a busy machine disturbs little. One admits by number, as the query service did, one by expected
wait. Locust asks both at the same time, as loadtests/load.py asks a stack; clients repeat what is refused. The capacity
is known, so there is no ramp. Prints both tables.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio

from loadtests.rig import parser, run
from proto.admission import Admission
from proto.serving import Door, GrpcServer, answers
from proto.v1 import query_pb2, query_pb2_grpc

BY_NUMBER, BY_WAIT = "number", "wait"
MOST = 256
SPREAD = 0.4
KNEE_SHARE = 0.8
"""Of the capacity for searches, what counts as the knee."""

Context = grpc.aio.ServicerContext[Any, Any]


class _Queue(query_pb2_grpc.QueryServicer):
    """Answers one search after another."""

    def __init__(self, door: Door, each_s: float) -> None:
        self.door = door
        self._each_s = each_s
        self._turn = asyncio.Lock()

    @answers
    async def Search(self, request: query_pb2.SearchRequest, context: Context) -> query_pb2.SearchReply:  # noqa: N802, ARG002
        async with self._turn:
            await asyncio.sleep(random.lognormvariate(-(SPREAD**2) / 2, SPREAD) * self._each_s)
        hit = query_pb2.Hit(moment_id="one", camera="gate", start_ms=10**12, end_ms=10**12)
        return query_pb2.SearchReply(hits=[hit])

    @answers
    async def Thumbnail(self, request: object, context: Context) -> query_pb2.ThumbnailReply:  # noqa: N802, ARG002
        return query_pb2.ThumbnailReply(jpeg=b"a picture")

    @answers
    async def Cameras(self, request: object, context: Context) -> query_pb2.CamerasReply:  # noqa: N802, ARG002
        return query_pb2.CamerasReply(cameras=[query_pb2.CameraInfo(name="gate", watching=True)])


async def _serve(asked: argparse.Namespace) -> None:
    """Serve until the parent ends, and print where."""
    promised_s = asked.promised if asked.serve == BY_WAIT else None
    search = Admission("search", most=MOST, promised_s=promised_s)
    server = GrpcServer("the service", "watchword.v1.Query", most_calls=MOST, admissions={"Search": search})
    query_pb2_grpc.add_QueryServicer_to_server(
        _Queue(server.door, asked.seconds_each),  # type: ignore[abstract]
        server.methods,
    )
    await server.start("127.0.0.1:0")
    server.set_ready(True)
    print(server.address, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


@asynccontextmanager
async def _serving(kind: str, asked: argparse.Namespace) -> AsyncIterator[str]:
    """A service in a process of its own, so that one arm does not slow down the other."""
    words = [f"--serve={kind}", f"--seconds-each={asked.seconds_each}", f"--promised={asked.promised}"]
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.door", *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert service.stdout is not None
    try:
        yield (await service.stdout.readline()).decode().strip()
    finally:
        service.kill()
        await service.wait()


async def _asked(address: str, asked: argparse.Namespace) -> str:
    """Locust's table."""
    knee = max(1, round(KNEE_SHARE / asked.seconds_each))
    words = ["--headless", "--only-summary", "--loglevel=ERROR", f"--host={address}"]
    words += ["--course=knee", f"--knee={knee}", f"--promised={asked.promised}"]
    script = str(Path(__file__).with_name("locustfile.py"))
    locust = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "locust", "-f", script, *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        told, _ = await locust.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            locust.kill()
    return told.decode().partition("Type  ")[0]


async def door(asked: argparse.Namespace, _: Path) -> int:
    """Both arms at once."""
    async with _serving(BY_NUMBER, asked) as one, _serving(BY_WAIT, asked) as other:
        tables = await asyncio.gather(_asked(one, asked), _asked(other, asked))
    for kind, table in zip((BY_NUMBER, BY_WAIT), tables, strict=True):
        print(f"\nadmitted by {kind}\n{table}")
    return 0


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--seconds-each", type=float, default=0.1, help="what a search takes on average")
    arguments.add_argument("--promised", type=float, default=1.0, help="seconds in which an answer is good")
    arguments.add_argument("--serve", choices=(BY_NUMBER, BY_WAIT), help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    sys.exit(asyncio.run(_serve(chosen)) if chosen.serve else run(door, chosen))
