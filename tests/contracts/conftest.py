"""The stores that the contract suite runs on; moments of earlier tests are still there, under other cameras."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from index.memory import MemoryStore
from index.milvus import MilvusStore
from index.scan.store import ScanStore
from index.settings import MilvusSettings
from index.sharded import MOST_ROWS, ShardedStore
from index.store import MomentStore
from proto.types import SpaceInfo
from tests.contracts.moments import SPACE
from tests.index.shards import Held, MemoryShard

STORES = [
    *("memory", "shards"),
    # It syncs its files: a second on a busy disk.
    pytest.param("folder", marks=pytest.mark.long),
    *(pytest.param(name, marks=pytest.mark.stack) for name in ("lite", "milvus")),
]


class Open(Protocol):
    """Opens a store of a space, which reads at most so many rows at once."""

    async def __call__(self, space: SpaceInfo, most_rows: int = MOST_ROWS) -> MomentStore: ...


@pytest.fixture(scope="session")
def lite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lite") / "moments.db"


@pytest.fixture(scope="session")
def scan_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"faiss:{tmp_path_factory.mktemp('scan')}"


@pytest.fixture(scope="session")
def servers() -> dict[str, Held]:
    """What three shards in memory hold."""
    return {f"http://{name}": {} for name in "abc"}


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def endpoint(kind: str, request: pytest.FixtureRequest) -> str:
    """Where the store is; empty for one in memory."""
    fixture = {"folder": "scan_folder", "lite": "lite_file", "milvus": "milvus"}.get(kind)
    return str(request.getfixturevalue(fixture)) if fixture else ""


@pytest.fixture
async def opened(kind: str, endpoint: str, servers: dict[str, Held]) -> AsyncIterator[Open]:
    def made(space: SpaceInfo, most_rows: int) -> MomentStore:
        if kind == "memory":
            return MemoryStore(space)
        if kind == "shards":
            shards = {name: MemoryShard(space, held) for name, held in servers.items()}
            return ShardedStore(space, MilvusSettings(endpoints=tuple(servers)), shards, most_rows)
        if kind == "folder":
            return ScanStore(space, MilvusSettings(endpoints=(endpoint,)), most_rows=most_rows)
        return MilvusStore(space, MilvusSettings(endpoints=(endpoint,)), most_rows)

    async with AsyncExitStack() as stack:

        async def open_store(space: SpaceInfo, most_rows: int = MOST_ROWS) -> MomentStore:
            store = made(space, most_rows)
            await store.open()
            stack.push_async_callback(store.close)
            return store

        yield open_store


@pytest.fixture
async def store(opened: Open) -> MomentStore:
    return await opened(SPACE)


@pytest.fixture
def yard() -> str:
    """The name of a camera that no other test has."""
    return f"yard-{secrets.token_hex(6)}"
