"""Asks each part whether it serves. Every question raises a WatchwordError that says why not."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote, urlsplit

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from index.settings import MilvusSettings
from proto.errors import Denied, Late, Transient
from proto.types import SpaceInfo

NOBODYS_SPACE = SpaceInfo(id="0" * 16, dimension=2)
ASK_S = 5.0
"""Nobody is waited for longer than this; whoever asks will ask again."""


async def broker(brokers: str) -> None:
    """Fetches the cluster's metadata."""
    from stream.kafka import cluster_answers

    await cluster_answers(brokers, ASK_S)


async def milvus(endpoint: str, settings: MilvusSettings | None = None) -> None:
    """Lists the collections."""
    from index.milvus import MilvusStore

    asked = (settings or MilvusSettings()).model_copy(update={"endpoints": (endpoint,), "timeout_s": ASK_S})
    store = MilvusStore(NOBODYS_SPACE, asked)
    try:
        await store.open()
    finally:
        await store.close()


async def shards(settings: MilvusSettings) -> None:
    """Lists the collections of every shard."""
    await asyncio.gather(*(milvus(endpoint, settings) for endpoint in settings.endpoints))


async def redis(url: str) -> None:
    """PINGs, as the url's user."""
    at = urlsplit(url)
    where = f"{at.hostname}:{at.port or 6379}"
    secret = [word for word in (unquote(at.username or ""), unquote(at.password or "")) if word]
    try:
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_connection(at.hostname, at.port or 6379, ssl=at.scheme == "rediss")
            try:
                for command in ([["AUTH", *secret]] if secret else []) + [["PING"]]:
                    writer.write(_redis_words(command))
                    answer = (await reader.readline()).decode(errors="replace").strip()
                    if not answer.startswith("+"):
                        raise Denied(f"Redis at {where} answers {answer!r}", todo="check the url in redis.url")
            finally:
                writer.close()
    except (OSError, TimeoutError) as problem:
        raise Transient(f"no Redis answers at {where}", todo="is it running, and is redis.url right?") from problem


def _redis_words(words: list[str]) -> bytes:
    """A command in Redis' protocol: how many words, then each with its length."""
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


async def health(address: str) -> None:
    """Asks a gRPC service for its health."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            reply = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=ASK_S, wait_for_ready=False
            )
        except grpc.aio.AioRpcError as problem:
            raise Transient(f"nobody serves at {address} ({problem.details()})") from problem
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        raise Transient(f"{address} is there but does not serve yet")


async def encoders(address: str) -> None:
    """Asks the encoder workers behind an address, which may be a list, what they run."""
    from workers.client import EncoderClient

    async with EncoderClient(address, timeout_s=ASK_S) as client:
        await client.describe()


async def page(address: str) -> None:
    """Asks a process's own /ready."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_S)) as session,
            session.get(f"http://{address}/ready") as answer,
        ):
            if answer.status != 200:
                raise Transient((await answer.text())[:300])
    except TimeoutError:
        raise Late(f"{address} did not say whether it is ready within {ASK_S:.0f} s") from None
    except aiohttp.ClientError as problem:
        raise Transient(f"nobody answers at {address} ({problem})") from problem
