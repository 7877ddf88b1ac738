"""What a request's trace shows of the encoder worker: the wait in the queue, and the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest

from proto import tracing
from proto.tracing import TraceSettings, traced
from tests.tools.otlp import Receiver, receiving
from tests.workers.batching import background, batching, images
from tests.workers.fakes import FakeEngine
from workers.batcher import Batcher

Ask = Callable[[Batcher], Awaitable[object]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver, traced(TraceSettings(endpoint=receiver.address), "worker"):
        yield receiver


@pytest.mark.parametrize(
    ("ask", "steps"),
    [
        (lambda batcher: batcher.embed_texts(["1", "2"]), ["queue", "tokens", "run", "answer"]),
        (lambda batcher: batcher.embed_images(images(1, 2)), ["queue", "decode", "engine busy", "run", "answer"]),
    ],
)
async def test_a_traced_request_has_a_span_for_each_step(receiver: Receiver, ask: Ask, steps: list[str]) -> None:
    async with batching(FakeEngine()) as batcher:
        with tracing.calling("question", begins=True):
            await ask(batcher)
    (root,) = receiver.wait_for("question")
    found = sorted((one for one in receiver.spans if one is not root), key=lambda one: one.end_ns)
    assert [one.name for one in found] == steps
    assert all((one.parent, one.attributes) == (root.id, {"items": 2}) for one in found)
    assert [one.begin_ns for one in found[1:]] == [one.end_ns for one in found[:-1]]


async def test_requests_of_one_batch_each_have_their_own_and_others_have_none(receiver: Receiver) -> None:
    async with batching(FakeEngine()) as batcher:

        async def asked(text: str, *, traced: bool) -> None:
            if traced:
                with tracing.calling(text, begins=True):
                    await batcher.embed_texts([text])
            else:
                await batcher.embed_texts([text])

        for task in [background(asked(text, traced=text != "3")) for text in ("1", "2", "3")]:
            await task
    roots = [receiver.wait_for(name)[0] for name in ("1", "2")]
    for root in roots:
        assert [one.name for one in receiver.of(root.trace) if one.parent == root.id] == [
            "queue",
            "tokens",
            "run",
            "answer",
        ]
    assert len({one.trace for one in receiver.spans}) == 2
