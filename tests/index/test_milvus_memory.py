"""A real Milvus that may have few of its buckets in memory at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from pymilvus import AsyncMilvusClient

from index.milvus import MilvusStore
from index.places import bucket_of, collection_name
from index.settings import MilvusSettings
from index.store import Ask
from proto.types import Moment, SpaceInfo
from tests.contracts.moments import DAY, HOUR, NOON, ids, moment, ranked, unit, until_found

pytestmark = pytest.mark.stack

SPACE_IN_MEMORY = SpaceInfo("c01dc01dc01dc01d", 64)
DAYS = 6
ROWS = 200
A_DAY = ROWS * (4 * 64 + 512)


def a_day(number: int) -> list[Moment]:
    return [
        moment("gate", NOON + number * DAY + n * 1000, vector=unit(1000 * number + n, 64), space=SPACE_IN_MEMORY)
        for n in range(ROWS)
    ]


MOMENTS = [one for number in range(DAYS) for one in a_day(number)]


def of_day(number: int, limit: int = 10) -> Ask:
    start_ms = NOON + number * DAY - HOUR
    return Ask(unit(7, 64), limit, start_ms=start_ms, end_ms=start_ms + 2 * HOUR)


async def opened(stack: AsyncExitStack, address: str, **settings: float) -> MilvusStore:
    store = MilvusStore(
        SPACE_IN_MEMORY, MilvusSettings.model_validate({"endpoints": (address,), "timeout_s": 30, **settings})
    )
    await store.open()
    stack.push_async_callback(store.close)
    return store


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def client(milvus: str, stack: AsyncExitStack) -> AsyncMilvusClient:
    client = AsyncMilvusClient(milvus)
    stack.push_async_callback(client.close)
    return client


async def filled(milvus: str, client: AsyncMilvusClient) -> None:
    """Have the moments stored and found, and the number of rows known: Milvus counts what is flushed."""
    # Closed before anything is released: what it still counts in the background would load it again.
    async with AsyncExitStack() as stack:
        store = await opened(stack, milvus)
        if await store.count() < len(MOMENTS):
            assert await store.upsert(MOMENTS) == {}
            for number in range(DAYS):
                await client.flush(collection_name(SPACE_IN_MEMORY.id, bucket_of(NOON + number * DAY, 24)))
        for number in range(DAYS):
            await until_found(store, of_day(number, ROWS), ROWS)


async def loaded(client: AsyncMilvusClient) -> set[int]:
    """The days that are in memory."""
    states = [
        await client.get_load_state(collection_name(SPACE_IN_MEMORY.id, bucket_of(NOON + number * DAY, 24)))
        for number in range(DAYS)
    ]
    return {number for number, state in enumerate(states) if state["state"].name == "Loaded"}


async def test_days_are_loaded_when_they_are_asked_for_and_released_to_make_room(
    milvus: str, stack: AsyncExitStack, client: AsyncMilvusClient
) -> None:
    await filled(milvus, client)
    assert await loaded(client) == set(range(DAYS))
    store = await opened(stack, milvus, most_loaded_bytes=3 * A_DAY)

    # Everything is more than fits: the newest answer, and the rest is told as a whole.
    answer = await store.search(Ask(unit(7, 64), 50))
    first, end = bucket_of(NOON, 24).start_ms, bucket_of(NOON + (DAYS - 2) * DAY, 24).start_ms
    assert [(part.start_ms, part.end_ms, part.cold) for part in answer.unsearched] == [(first, end, True)]
    assert ids(answer.hits) == ranked([one for day in (4, 5) for one in a_day(day)], unit(7, 64))[:50]
    assert await loaded(client) == {3, 4, 5}

    # A question about one old day has all of it, after it was loaded.
    answer = await store.search(of_day(1))
    assert ids(answer.hits) == ranked(a_day(1), unit(7, 64))[:10]
    assert answer.loading_s > 0
    assert answer.unsearched == []
    assert await loaded(client) == {1, 4, 5}  # the third day was not asked for

    again = await store.search(of_day(1))
    assert ids(again.hits) == ids(answer.hits)
    assert again.loading_s == 0


async def test_answers_are_whole_while_two_processes_release_what_the_other_loaded(
    milvus: str, stack: AsyncExitStack, client: AsyncMilvusClient
) -> None:
    await filled(milvus, client)
    stores = [await opened(stack, milvus, most_loaded_bytes=2 * A_DAY) for _ in range(2)]

    async def asks(store: MilvusStore, days: list[int]) -> None:
        for number in days:
            answer = await store.search(of_day(number))
            assert ids(answer.hits) == ranked(a_day(number), unit(7, 64))[:10], number
            assert answer.unsearched == []

    await asyncio.gather(asks(stores[0], [0, 3, 1]), asks(stores[1], [4, 1, 0]))
    # Moments that are written to a day, or read from it, are there whether it is in memory or not.
    late = moment("gate", NOON + 2 * DAY + HOUR, vector=unit(7, 64), space=SPACE_IN_MEMORY)
    assert await stores[0].upsert([late]) == {}
    assert [one.id for one in await stores[1].fetch([late.id])] == [late.id]


async def test_a_day_begins_and_another_is_dropped_where_few_are_in_memory(
    milvus: str, stack: AsyncExitStack, client: AsyncMilvusClient
) -> None:
    other = SpaceInfo("c01dbe91c01dbe91", 64)
    settings = MilvusSettings.model_validate({"endpoints": (milvus,), "timeout_s": 30, "most_loaded_bytes": A_DAY})
    store = MilvusStore(other, settings)
    await store.open()
    stack.push_async_callback(store.close)
    for number in range(3):
        new = moment("gate", NOON + number * DAY, vector=unit(7, 64), space=other)
        assert await store.upsert([new]) == {}
        await until_found(store, of_day(number), 1)
    await client.drop_collection(collection_name(other.id, bucket_of(NOON, 24)))
    assert ids((await store.search(of_day(2))).hits) == [new.id]
    assert (await store.search(of_day(0))).hits == []
