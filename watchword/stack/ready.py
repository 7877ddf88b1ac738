"""Readiness checks. Each raises a WatchwordError that says why a part does not serve.

Late and Transient mean that nobody answered, except NotServing: the part answered that it does not serve now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from index.settings import MilvusSettings
from proto.calling import answer_of, open_channel
from proto.errors import Late, Transient
from proto.tls import ClientTls
from proto.types import SpaceInfo
from watchword.stack.state import without_password

NOBODYS_SPACE = SpaceInfo(id="0" * 16, dimension=2)
Ask = Callable[[str], Awaitable[None]]
"""Checks the part at an address."""
ASK_S = 5.0
"""Timeout of one check; the caller repeats it."""


class NotServing(Transient):
    """The part answered that it is not ready."""


async def broker(brokers: str) -> None:
    """Fetches the cluster's metadata."""
    from broker.kafka import cluster_answers

    async with _in_time(brokers):
        await cluster_answers(brokers, 2 * ASK_S)


async def milvus(endpoint: str, settings: MilvusSettings | None = None) -> None:
    """Lists the collections, or the buckets of a folder."""
    from index.opening import new_store

    asked = (settings or MilvusSettings()).model_copy(update={"endpoints": (endpoint,), "timeout_s": 2 * ASK_S})
    store = new_store(NOBODYS_SPACE, asked)
    try:
        async with _in_time(endpoint):
            await store.open()
    finally:
        await store.close()


async def shards(settings: MilvusSettings) -> None:
    """Lists the collections of every shard."""
    await asyncio.gather(*(milvus(endpoint, settings) for endpoint in settings.endpoints))


async def redis(url: str) -> None:
    """Pings Redis as the url's user."""
    from query.cache import cache_answers

    async with _in_time(without_password(url)):
        await cache_answers(url)


async def health(address: str, tls: ClientTls | None = None) -> None:
    """Asks a gRPC service for its health."""
    async with open_channel(address, tls=tls) as channel, _in_time(address):
        call = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2 * ASK_S)
        reply = await answer_of(call, address)
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise NotServing(f"{address} is there but does not serve now")


async def encoders(address: str, tls: ClientTls | None = None) -> None:
    """Describes the encoder workers behind an address, which may be a list."""
    from workers.client import EncoderClient

    async with EncoderClient(address, timeout_s=2 * ASK_S, tls=tls) as client, _in_time(address):
        await client.describe()


async def page(address: str) -> None:
    """Fetches a process's /ready."""
    try:
        async with (
            _in_time(address),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2 * ASK_S)) as session,
            session.get(f"http://{address}/ready") as answer,
        ):
            if answer.status != 200:
                raise NotServing((await answer.text())[:300])
    except aiohttp.ClientError as problem:
        raise Transient(f"nobody answers at {address} ({problem})") from problem


@asynccontextmanager
async def _in_time(where: str) -> AsyncIterator[None]:
    """Raises Late when the block takes too long, so that no answer differs from a negative one."""
    try:
        async with asyncio.timeout(ASK_S):
            yield
    except TimeoutError:
        raise Late(f"{where} did not answer within {ASK_S:.0f} s", todo="does it hang? its log says more") from None
