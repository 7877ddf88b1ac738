"""Asks each part whether it serves. Every question raises a WatchwordError that says why not."""

from __future__ import annotations

import asyncio

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from proto.errors import Late, Transient

ASK_S = 5.0
"""Nobody is waited for longer than this; whoever asks will ask again."""


async def broker(brokers: str) -> None:
    """Fetches the cluster's metadata."""
    from stream.kafka import cluster_answers

    await cluster_answers(brokers, ASK_S)


async def milvus(endpoint: str, token: str = "") -> None:
    """Lists the collections."""
    from pymilvus import AsyncMilvusClient, MilvusException

    try:
        client = AsyncMilvusClient(endpoint, token=token, timeout=ASK_S)
        await client.list_collections(timeout=ASK_S)
        await client.close()
    except MilvusException as problem:
        raise Transient(f"no Milvus answers at {endpoint}") from problem


async def redis(url: str) -> None:
    """PINGs."""
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    client = Redis.from_url(url, socket_timeout=ASK_S, socket_connect_timeout=ASK_S)
    try:
        await client.ping()
    except RedisError as problem:
        raise Transient(f"no Redis answers at {url}") from problem
    finally:
        await client.aclose()


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


async def page(address: str) -> None:
    """Asks a process's own /ready."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_S)) as session,
            session.get(f"http://{address}/ready") as answer,
        ):
            if answer.status != 200:
                raise Transient((await answer.text())[:300])
    except asyncio.TimeoutError:
        raise Late(f"{address} did not say whether it is ready within {ASK_S:.0f} s") from None
    except aiohttp.ClientError as problem:
        raise Transient(f"nobody answers at {address} ({problem})") from problem
