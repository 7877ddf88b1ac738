from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from proto.errors import Broken, Invalid, Late, Mismatch, Overloaded, Transient
from proto.v1 import encoder_pb2, encoder_pb2_grpc
from workers.client import EncoderClient, pause_s

SPACE = "a" * 16


class Worker(encoder_pb2_grpc.EncoderServicer):
    """A worker that answers texts by their number, after going through a list of failures."""

    def __init__(self, *failures: grpc.StatusCode, max_items: int = 3) -> None:
        self.failures = list(failures)
        self.max_items = max_items
        self.space = SPACE
        self.dimension = 2
        self.lost = 0
        self.asked: list[list[str]] = []
        self.expected: list[str] = []

    async def Describe(self, request: Any, context: Any) -> encoder_pb2.DescribeReply:  # noqa: N802
        return encoder_pb2.DescribeReply(space=self.space, dimension=2, max_items=self.max_items)

    async def EmbedImages(self, request: Any, context: Any) -> encoder_pb2.EmbedReply:  # noqa: N802
        raise NotImplementedError

    async def EmbedTexts(self, request: Any, context: Any) -> encoder_pb2.EmbedReply:  # noqa: N802
        self.asked.append(list(request.texts))
        self.expected.append(request.space)
        if self.failures:
            await context.abort(self.failures.pop(0), "not now")
        items = [
            encoder_pb2.Embedding(vector=np.array([1, int(text)][: self.dimension], "<f4").tobytes())
            for text in request.texts
        ]
        return encoder_pb2.EmbedReply(space=self.space, items=items[self.lost :])


@asynccontextmanager
async def talking(worker: Worker, timeout_s: float = 10, space: str = "") -> AsyncIterator[EncoderClient]:
    server = grpc.aio.server()
    encoder_pb2_grpc.add_EncoderServicer_to_server(worker, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with EncoderClient(f"127.0.0.1:{port}", timeout_s=timeout_s, space=space) as client:
        yield client
    await server.stop(0)


async def ask(client: EncoderClient, *texts: str) -> list[int]:
    return [int(answer[1]) for answer in await client.embed_texts(texts) if isinstance(answer, np.ndarray)]


async def test_many_items_travel_in_parts_and_come_back_in_order() -> None:
    worker = Worker(max_items=3)
    async with talking(worker) as client:
        assert await ask(client, *map(str, range(8))) == list(range(8))

    assert [len(part) for part in worker.asked] == [3, 3, 2]


async def test_once_described_every_call_names_the_space() -> None:
    worker = Worker()
    async with talking(worker) as client:
        await ask(client, "1")

    assert worker.expected == [SPACE]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_a_full_or_absent_worker_is_asked_again(code: grpc.StatusCode) -> None:
    worker = Worker(code, code)
    async with talking(worker) as client:
        assert await ask(client, "7") == [7]

    assert len(worker.asked) == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Invalid),
        (grpc.StatusCode.FAILED_PRECONDITION, Mismatch),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Late),
        (grpc.StatusCode.INTERNAL, Broken),
    ],
)
async def test_what_repeating_cannot_mend_is_not_repeated(code: grpc.StatusCode, kind: type[Exception]) -> None:
    worker = Worker(code)
    async with talking(worker) as client:
        with pytest.raises(kind):
            await ask(client, "7")

    assert len(worker.asked) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [(grpc.StatusCode.UNAVAILABLE, Transient), (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded)],
)
async def test_repeating_ends_with_the_deadline_and_tells_the_last_error(
    code: grpc.StatusCode, kind: type[Exception]
) -> None:
    loop = asyncio.get_running_loop()
    async with talking(Worker(*[code] * 1000), timeout_s=0.4) as client:
        began = loop.time()
        with pytest.raises(kind):
            await ask(client, "7")

    assert loop.time() - began < 5


async def test_nobody_listening_is_transient(unused_tcp_port: int) -> None:
    async with EncoderClient(f"127.0.0.1:{unused_tcp_port}", timeout_s=0.3) as client:
        with pytest.raises(Transient):
            await client.describe()


async def test_a_worker_of_another_space_is_a_mismatch() -> None:
    async with talking(Worker(), space="b" * 16) as client:
        with pytest.raises(Mismatch, match="b" * 16):
            await client.describe()


async def test_a_worker_that_changed_its_space_is_a_mismatch() -> None:
    worker = Worker()
    async with talking(worker) as client:
        await ask(client, "1")
        worker.space = "b" * 16
        with pytest.raises(Mismatch):
            await ask(client, "1")


async def test_a_worker_that_loses_items_or_numbers_is_broken() -> None:
    worker = Worker()
    async with talking(worker) as client:
        worker.lost = 1
        with pytest.raises(Broken, match="1 of 2 items"):
            await ask(client, "1", "2")
        worker.lost, worker.dimension = 0, 1
        with pytest.raises(Broken, match="vector of 1 numbers"):
            await ask(client, "1")


async def test_nothing_asked_sends_nothing() -> None:
    worker = Worker()
    async with talking(worker) as client:
        assert await client.embed_texts([]) == []

    assert worker.asked == []


def test_pauses_grow_to_a_limit_and_are_jittered() -> None:
    assert [pause_s(attempt, 1.0) for attempt in range(4)] == [0.05, 0.1, 0.2, 0.4]
    assert pause_s(50, 1.0) == 1.0
    assert pause_s(50, 0.0) == 0.5
