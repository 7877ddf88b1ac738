"""The cache saves time and is never in the way: against a real Redis, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from index.memory import MemoryStore
from proto.errors import Broken
from proto.types import SpaceInfo
from query.asking import Question
from query.cache import VectorCache
from query.settings import RedisSettings
from tests.contracts.moments import SPACE, unit
from tests.query.fakes import MOMENTS, WordEncoder, searcher

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def settings(url: str, timeout_s: float = 2.0) -> RedisSettings:
    return RedisSettings(url=SecretStr(url), timeout_s=timeout_s)


class Clock:
    """A clock that stands still until it is moved."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server in the place of Redis."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[VectorCache]:
    cache = VectorCache(settings(redis_url))
    yield cache
    await cache.close()


@pytest.fixture
def words() -> str:
    return f"a red truck {secrets.token_hex(6)}"


@pytest.mark.stack
async def test_a_vector_comes_back_as_it_was_put(cache: VectorCache, words: str) -> None:
    assert await cache.get(SPACE, words) is None
    await cache.put(SPACE, words, unit(1))
    found = await cache.get(SPACE, words)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, unit(1))


@pytest.mark.stack
async def test_texts_that_differ_in_white_space_only_are_one(cache: VectorCache, words: str) -> None:
    await cache.put(SPACE, words, unit(1))
    assert await cache.get(SPACE, f"  {words.replace(' ', '  ')}\n") is not None
    assert await cache.get(SPACE, words.upper()) is None


@pytest.mark.stack
async def test_spaces_never_share_a_vector(cache: VectorCache, words: str) -> None:
    await cache.put(SPACE, words, unit(1))
    assert await cache.get(SpaceInfo("f" * 16, SPACE.dimension), words) is None
    assert await cache.get(SpaceInfo(SPACE.id, 8), words) is None


@pytest.mark.stack
async def test_a_search_asks_the_encoder_once_for_the_same_words(
    cache: VectorCache, words: str, tmp_path: Path
) -> None:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    encoder = WordEncoder()
    first = await searcher(store, tmp_path, encoder=encoder, cache=cache).search(Question(text=words), timeout_s=5)
    again = await searcher(store, tmp_path, encoder=encoder, cache=cache).search(Question(text=words), timeout_s=5)
    assert encoder.asked == [words]
    assert (first.vector_cached, again.vector_cached) == (False, True)
    assert again.answer.hits == first.answer.hits


async def test_without_a_url_the_cache_is_always_empty() -> None:
    cache = VectorCache(RedisSettings())
    await cache.put(SPACE, "dog", unit(1))
    assert await cache.get(SPACE, "dog") is None
    await cache.close()


def test_a_url_that_cannot_be_read_is_broken_and_keeps_its_password() -> None:
    with pytest.raises(Broken) as error:
        VectorCache(settings("http://user:hunter2@host"))
    assert "hunter2" not in str(error.value)


async def test_a_redis_that_is_gone_is_passed_by_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    cache = VectorCache(settings("redis://127.0.0.1:1/0"), clock=clock)
    with caplog.at_level(logging.WARNING, "watchword.query"):
        for _ in range(3):
            clock.seconds += 10
            assert await cache.get(SPACE, "dog") is None
            await cache.put(SPACE, "dog", unit(1))
    assert [record.message.split(":")[0] for record in caplog.records] == ["the cache does not answer and is passed by"]
    await cache.close()


async def test_a_redis_that_never_answers_costs_its_timeout_once_and_not_at_every_search() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as url:
        cache = VectorCache(settings(url, timeout_s=0.1))
        begun = time.monotonic()
        for _ in range(20):
            assert await cache.get(SPACE, "dog") is None
        assert time.monotonic() - begun < 1.0
        await cache.close()


async def test_an_answer_that_comes_too_late_is_nobodys() -> None:
    """The first reply is held back until its reader gave up; on a reused connection the next would get it."""
    late = unit(1).astype("<f4").tobytes()
    given_up = asyncio.Event()
    gets = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal gets
        while command := await reader.read(4096):
            if b"GET" in command:
                gets += 1
                if gets == 1:
                    await given_up.wait()
                    writer.write(b"$%d\r\n%b\r\n" % (len(late), late))
                else:
                    writer.write(b"$-1\r\n")
            else:
                writer.write(b"+OK\r\n" * command.count(b"*"))
            await writer.drain()

    async with serving(handler) as url:
        clock = Clock()
        cache = VectorCache(settings(url, timeout_s=0.2), clock=clock)
        assert await cache.get(SPACE, "first") is None
        given_up.set()
        clock.seconds += 10
        assert await cache.get(SPACE, "second") is None
        assert gets == 2
        await cache.close()


@pytest.mark.parametrize(
    "reply",
    [b"$3\r\nabc\r\n", b"-ERR no\r\n", b":7\r\n", b"$64\r\n" + b"\0" * 64 + b"\r\n", b"?!\r\n"],
    ids=["short", "error", "number", "zeros", "nonsense"],
)
async def test_a_value_that_is_no_vector_of_the_space_is_a_miss(reply: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(4096):
            writer.write(reply if b"GET" in command else b"+OK\r\n" * command.count(b"*"))
            await writer.drain()

    async with serving(handler) as url:
        cache = VectorCache(settings(url, timeout_s=1.0))
        assert await cache.get(SPACE, "dog") is None
        await cache.close()


async def test_a_cache_that_is_back_is_used_again(caplog: pytest.LogCaptureFixture) -> None:
    value = unit(1).astype("<f4").tobytes()
    answers = {"now": b"-LOADING it is starting\r\n"}

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(4096):
            writer.write(answers["now"] if b"GET" in command else b"+OK\r\n" * command.count(b"*"))
            await writer.drain()

    async with serving(handler) as url:
        clock = Clock()
        cache = VectorCache(settings(url), clock=clock)
        with caplog.at_level(logging.INFO, "watchword.query"):
            assert await cache.get(SPACE, "dog") is None
            answers["now"] = b"$%d\r\n%b\r\n" % (len(value), value)
            assert await cache.get(SPACE, "dog") is None
            clock.seconds += 10
            assert await cache.get(SPACE, "dog") is not None
        assert [message.split(":")[0] for message in caplog.messages] == [
            "the cache does not answer and is passed by",
            "the cache answers again",
        ]
        await cache.close()


Answer = Callable[[], Awaitable[bytes]]


def replying(to_get: Answer) -> Handler:
    """A Redis that answers each GET with what `to_get` gives, once it gives it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(4096):
            writer.write(await to_get() if b"GET" in command else b"+OK\r\n" * command.count(b"*"))
            await writer.drain()

    return handler


async def test_two_hundred_searches_at_once_all_find_what_the_cache_holds() -> None:
    value = unit(1).astype("<f4").tobytes()
    together = asyncio.Event()
    asked = 0

    async def to_get() -> bytes:
        """Nobody is answered until every connection is in use."""
        nonlocal asked
        asked += 1
        if asked == 64:
            together.set()
        await together.wait()
        return b"$%d\r\n%b\r\n" % (len(value), value)

    async with serving(replying(to_get)) as url:
        cache = VectorCache(settings(url, timeout_s=10.0))
        found = await asyncio.gather(*(cache.get(SPACE, f"dog {number}") for number in range(200)))
        assert sum(vector is not None for vector in found) == 200
        await cache.close()


async def test_a_look_up_that_must_queue_and_gets_no_answer_does_not_pass_the_cache_by(
    caplog: pytest.LogCaptureFixture,
) -> None:
    value = unit(1).astype("<f4").tobytes()
    asked = 0
    all_inside, queued, never = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def to_get() -> bytes:
        """64 are answered when one more waits for its turn; that one never is, and those after it are."""
        nonlocal asked
        asked += 1
        number = asked
        if number == 64:
            all_inside.set()
        await (never if number == 65 else queued).wait()
        return b"$%d\r\n%b\r\n" % (len(value), value)

    async with serving(replying(to_get)) as url:
        cache = VectorCache(settings(url))
        inside = [asyncio.create_task(cache.get(SPACE, f"dog {number}")) for number in range(64)]
        await asyncio.wait_for(all_inside.wait(), 10)
        late = asyncio.create_task(cache.get(SPACE, "one more"))
        await asyncio.sleep(0)
        queued.set()
        with caplog.at_level(logging.WARNING, "watchword.query"):
            assert all(vector is not None for vector in await asyncio.gather(*inside))
            assert await late is None
            assert await cache.get(SPACE, "dog") is not None
        assert caplog.messages == []
        await cache.close()
