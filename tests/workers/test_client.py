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
from tests.workers.fakes import until
from workers.client import EncoderClient

SPACE = "a" * 16


class Worker(encoder_pb2_grpc.EncoderServicer):
    """A worker that answers texts by their number, after going through a list of failures."""

    def __init__(self, *failures: grpc.StatusCode, max_items: int = 3) -> None:
        self.failures = list(failures)
        self.max_items = max_items
        self.space = SPACE
        self.dimension = 2
        self.lost = 0
        self.objects: list[encoder_pb2.Object] = []
        self.asked: list[list[str]] = []
        self.expected: list[str] = []
        self.go = asyncio.Event()
        """Unset, its answers wait."""
        self.go.set()

    async def Describe(self, request: Any, context: Any) -> encoder_pb2.DescribeReply:  # noqa: N802
        kinds = [one.kind for one in self.objects]
        return encoder_pb2.DescribeReply(space=self.space, dimension=2, max_items=self.max_items, kinds=kinds)

    async def EmbedImages(self, request: Any, context: Any) -> encoder_pb2.EmbedReply:  # noqa: N802
        raise AssertionError("nobody asks for this here")

    async def DetectObjects(self, request: Any, context: Any) -> encoder_pb2.DetectObjectsReply:  # noqa: N802
        items = [encoder_pb2.Detection(objects=self.objects) for _ in request.images]
        return encoder_pb2.DetectObjectsReply(space=self.space, items=items)

    async def EmbedTexts(self, request: Any, context: Any) -> encoder_pb2.EmbedReply:  # noqa: N802
        self.asked.append(list(request.texts))
        self.expected.append(request.space)
        await self.go.wait()
        if self.failures:
            await context.abort(self.failures.pop(0), "not now")
        items = [
            encoder_pb2.Embedding(vector=np.array([1, int(text)][: self.dimension], "<f4").tobytes())
            for text in request.texts
        ]
        return encoder_pb2.EmbedReply(space=self.space, items=items[self.lost :])


@asynccontextmanager
async def standing(worker: Worker, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    encoder_pb2_grpc.add_EncoderServicer_to_server(worker, server)
    port = server.add_insecure_port(address)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@asynccontextmanager
async def talking(worker: Worker, timeout_s: float = 10, space: str = "") -> AsyncIterator[EncoderClient]:
    async with standing(worker) as address, EncoderClient(address, timeout_s=timeout_s, space=space) as client:
        yield client


@asynccontextmanager
async def talking_to_two(
    first: Worker, second: Worker, timeout_s: float = 10, space: str = ""
) -> AsyncIterator[EncoderClient]:
    async with (
        standing(first) as one,
        standing(second) as other,
        EncoderClient(f"{one},{other}", timeout_s=timeout_s, space=space) as client,
    ):
        yield client


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


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED]
)
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


@pytest.mark.parametrize(
    "odd", [{"kind": "Person!"}, {"kind": ""}, {"score": 1.5}, {"score": float("nan")}, {"right": 0.0}], ids=str
)
async def test_an_object_that_no_moment_could_keep_is_an_error_of_the_encoder(odd: dict[str, Any]) -> None:
    worker, vector = Worker(), np.array([1, 0], "<f4").tobytes()
    sound: dict[str, Any] = {
        "kind": "person",
        "score": 0.5,
        "left": 0.1,
        "top": 0.1,
        "right": 0.2,
        "bottom": 0.2,
        "vector": vector,
    }
    worker.objects = [encoder_pb2.Object(**sound)]
    async with talking(worker) as client:
        ((seen,),) = await client.detect_objects([b"1"])  # type: ignore[misc]
        assert seen.kind == "person"
        worker.objects = [encoder_pb2.Object(**sound | odd)]
        with pytest.raises(Broken, match="report this"):
            await client.detect_objects([b"1"])


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


async def test_calls_go_to_the_worker_that_has_least_to_do() -> None:
    first, second = Worker(), Worker()
    async with talking_to_two(first, second) as client:
        await client.describe()
        first.go.clear()
        second.go.clear()
        calls = []
        for number, texts in enumerate((["1", "2"], ["3"], ["4"]), start=1):
            calls.append(asyncio.create_task(ask(client, *texts)))
            await until(lambda number=number: len(first.asked + second.asked) == number)  # type: ignore[misc]

        assert sorted([first.asked, second.asked]) == [[["1", "2"]], [["3"], ["4"]]]
        first.go.set()
        second.go.set()
        assert await asyncio.gather(*calls) == [[1, 2], [3], [4]]


async def test_the_parts_of_one_call_are_spread_over_the_workers() -> None:
    first, second = Worker(max_items=2), Worker(max_items=3)
    async with talking_to_two(first, second) as client:
        assert await ask(client, *map(str, range(40))) == list(range(40))

    assert first.asked
    assert second.asked
    assert max(len(part) for part in first.asked + second.asked) == 2


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_where_one_worker_is_full_or_away_another_is_asked_at_once(code: grpc.StatusCode) -> None:
    bad, good = Worker(*[code] * 100), Worker()
    async with talking_to_two(bad, good) as client:
        answers = await asyncio.gather(*(ask(client, str(number)) for number in range(20)))

    assert answers == [[number] for number in range(20)]
    assert len(good.asked) == 20


async def test_a_worker_that_came_back_is_asked_again() -> None:
    flaky, steady = Worker(grpc.StatusCode.UNAVAILABLE), Worker()
    async with talking_to_two(flaky, steady) as client:
        deadline = asyncio.get_running_loop().time() + 10
        while len(flaky.asked) < 2:
            assert await ask(client, "7") == [7]
            assert asyncio.get_running_loop().time() < deadline


async def test_workers_that_disagree_at_the_start_are_a_mismatch() -> None:
    ours, other = Worker(), Worker()
    other.space = "b" * 16
    async with talking_to_two(ours, other) as client:
        with pytest.raises(Mismatch, match="different spaces"):
            await ask(client, "1")

    assert ours.asked == other.asked == []


async def test_a_worker_of_another_space_is_left_alone_while_there_are_others() -> None:
    ours, other = Worker(), Worker()
    other.space = "b" * 16
    async with talking_to_two(ours, other, space=SPACE) as client:
        for number in range(20):
            assert await ask(client, str(number)) == [number]

    assert other.asked == []


async def test_a_worker_that_changes_its_space_is_left_alone_and_its_vectors_never_pass() -> None:
    ours, other = Worker(), Worker()
    async with talking_to_two(ours, other) as client:
        await ask(client, "1")
        other.space = "b" * 16
        other.asked.clear()
        for number in range(20):
            assert await ask(client, str(number)) == [number]

    assert len(other.asked) <= 1


async def test_a_worker_of_our_space_that_only_rests_is_waited_for() -> None:
    ours, changed = Worker(), Worker()
    async with (
        standing(ours) as one,
        standing(changed) as other,
        EncoderClient(f"{one},{other}", timeout_s=10) as client,
    ):
        await client.describe()
        changed.space = "b" * 16
        (resting,) = [worker for worker in await client._pool.workers() if worker.address == one]
        resting.rests_until = asyncio.get_running_loop().time() + 0.3
        assert await ask(client, "7") == [7]
    assert [len(worker.asked) for worker in (changed, ours)] == [1, 1]


async def test_when_no_worker_has_our_space_it_is_a_mismatch() -> None:
    first, second = Worker(), Worker()
    first.space = second.space = "b" * 16
    async with talking_to_two(first, second, space=SPACE) as client:
        with pytest.raises(Mismatch, match=SPACE):
            await ask(client, "1")


async def test_a_client_follows_its_name_to_other_workers() -> None:
    first, second = Worker(), Worker()
    async with standing(first) as one, standing(second) as other:
        here = [one]

        async def resolve(host: str, port: int) -> list[str]:
            return here

        async with EncoderClient("encoders:1", timeout_s=10, resolve=resolve, resolve_every_s=0) as client:
            assert await ask(client, "1") == [1]
            here[:] = [other]
            await until_answered_by(second, client)
            first.asked.clear()
            assert await ask(client, "2") == [2]

    assert first.asked == []


async def until_answered_by(worker: Worker, client: EncoderClient) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not worker.asked:
        await ask(client, "1")
        assert asyncio.get_running_loop().time() < deadline


async def test_when_most_calls_fail_repeats_end_before_the_deadline() -> None:
    worker = Worker()
    async with talking(worker, timeout_s=60) as client:
        await client.describe()
        worker.failures = [grpc.StatusCode.RESOURCE_EXHAUSTED] * 100_000
        results = await asyncio.gather(*(ask(client, "1") for _ in range(300)), return_exceptions=True)

    assert all(isinstance(result, Overloaded) for result in results)
    assert len(worker.asked) < 700
