"""Three shards in memory, and a store over them."""

from __future__ import annotations

import pytest

from index.sharded import ShardedStore
from tests.contracts.moments import SPACE
from tests.index.shards import ENDPOINTS, MOMENTS, MemoryShard, over


@pytest.fixture
def shards() -> dict[str, MemoryShard]:
    return {name: MemoryShard(SPACE) for name in ENDPOINTS}


@pytest.fixture
async def store(shards: dict[str, MemoryShard]) -> ShardedStore:
    store = over(shards, timeout_s=5.0)
    assert await store.upsert(MOMENTS) == {}
    return store
