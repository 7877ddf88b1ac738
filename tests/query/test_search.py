"""What a Searcher does before and after the index."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from index.memory import MemoryStore
from proto.errors import Transient
from query.search import Question
from tests.contracts.moments import SPACE, until
from tests.query.fakes import MOMENTS, WordEncoder, searcher


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    return store


async def test_identical_questions_in_flight_are_embedded_once(store: MemoryStore, tmp_path: Path) -> None:
    encoder = WordEncoder()
    asker = searcher(store, tmp_path, encoder=encoder)
    found = await asyncio.gather(*(asker.search(Question(text=" red  truck"), timeout_s=5) for _ in range(10)))
    assert encoder.asked == ["red truck"]
    assert all(one.answer.hits == found[0].answer.hits for one in found)


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(store: MemoryStore, tmp_path: Path) -> None:
    encoder = WordEncoder()
    go = asyncio.Event()
    encoder.before = go.wait  # type: ignore[assignment]
    asker = searcher(store, tmp_path, encoder=encoder)
    first, second = (asyncio.create_task(asker.search(Question(text="dog"), timeout_s=5)) for _ in range(2))
    await until(lambda: encoder.asked == ["dog"])
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert (await second).answer.hits[0].span.id == MOMENTS[1].id
    assert first.cancelled()
    assert encoder.asked == ["dog"]


async def test_a_failure_is_not_kept(store: MemoryStore, tmp_path: Path) -> None:
    encoder = WordEncoder()

    async def away() -> None:
        raise Transient("away")

    encoder.before = away
    asker = searcher(store, tmp_path, encoder=encoder)
    with pytest.raises(Transient):
        await asker.search(Question(text="dog"), timeout_s=5)
    encoder.before = lambda: asyncio.sleep(0)
    assert (await asker.search(Question(text="dog"), timeout_s=5)).answer.hits
