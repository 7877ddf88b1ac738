"""Calls to a Milvus that take more than one request, or whose answer has to be read."""

from __future__ import annotations

import re
from typing import Any

import grpc
from pymilvus import AsyncMilvusClient, DataType

from index.rows import Row, schema


async def create_empty(milvus: AsyncMilvusClient, name: str, dimension: int) -> None:
    """A collection for a bucket, without an index."""
    fields = AsyncMilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for field, (of_type, options) in schema(dimension).items():
        fields.add_field(field, DataType[of_type], **options)
    await milvus.create_collection(name, schema=fields, num_shards=1, consistency_level="Bounded", retry_times=1)


async def make_mark(name: str, milvus: AsyncMilvusClient) -> None:
    """A collection whose name is all that it is for: it has no index, is never loaded, and holds nothing."""
    fields = AsyncMilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    fields.add_field("id", DataType.INT64, is_primary=True)
    fields.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    await milvus.create_collection(name, schema=fields, num_shards=1, retry_times=1)


async def put(name: str, gone: list[str], rows: list[Row], milvus: AsyncMilvusClient) -> None:
    """Store these rows in place of those that the moments no longer have."""
    # Those go first: between the two calls a moment may lack rows, but none is stale.
    if gone:
        await milvus.delete(name, ids=gone, retry_times=1)
    await milvus.upsert(name, rows, retry_times=1)


async def is_loaded(name: str, milvus: AsyncMilvusClient) -> bool:
    """Whether the whole collection is in memory."""
    found = await milvus.get_load_state(name, retry_times=1)
    return bool(found["state"].name == "Loaded")


async def loaded_and_rows(name: str, milvus: AsyncMilvusClient) -> tuple[bool, int]:
    """Whether the collection is in memory, and about how many rows it has."""
    told: dict[str, Any] = await milvus.get_collection_stats(name, retry_times=1)
    return await is_loaded(name, milvus), int(told.get("row_count", 0))


async def server_version(milvus: AsyncMilvusClient) -> tuple[int, int]:
    """The server's major and minor version; (0, 0) for milvus-lite, which does not report one."""
    try:
        found = re.search(r"(\d+)\.(\d+)", await milvus.get_server_version(retry_times=1))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        found = None
    return (int(found[1]), int(found[2])) if found else (0, 0)


def consistency(exact: bool) -> str:
    """Strong waits until the server has seen all that was written before: some 200 ms."""
    return "Strong" if exact else "Bounded"
