"""Encoder workers that die under load, and callers that must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import numpy as np
import pytest

from loadtests.encoder_damage import REASONS, play
from loadtests.encoder_parts import WorkerProcess, frames, reader, worker
from models.bundle import Bundle
from models.engines.opening import open_engine
from proto.types import Vectors
from tests.models.parts import builtin  # noqa: F401 - a fixture
from tests.workers.fakes import until
from watchword.stack.ports import Port
from workers.client import EncoderClient

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]
IMAGES, CALLERS = 12, 8
SETTINGS = {"engine": "onnxruntime", "threads": 1}


class Callers:
    """Ask without pause, and compare every vector with the reference."""

    def __init__(self, client: EncoderClient, jpegs: list[bytes], reference: Vectors) -> None:
        self._client = client
        self._jpegs = jpegs
        self._reference = reference
        self.answered = 0
        self.wrong = 0
        self.longest_s = 0.0

    async def ask_for_ever(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        while True:
            chosen = chance.integers(0, len(self._jpegs), int(chance.integers(1, 4)))
            began = time.perf_counter()
            answers = await self._client.embed_images([self._jpegs[number] for number in chosen])
            self.longest_s = max(self.longest_s, time.perf_counter() - began)
            for number, answer in zip(chosen, answers, strict=True):
                assert isinstance(answer, np.ndarray), answer
                likeness = self._reference @ answer
                self.wrong += int(likeness[number] < 0.9999 or likeness.argmax() != number)
            self.answered += len(answers)


@pytest.fixture(scope="module")
def pictures(builtin: Bundle) -> tuple[list[bytes], Vectors]:  # noqa: F811 - the fixture
    """Frames that the model tells apart, and their vectors by an engine of our own."""
    jpegs, read = frames(60, builtin.image_side), reader(builtin)
    engine = open_engine(builtin, threads=1)
    vectors = engine.embed_images(np.stack([read(jpeg) for jpeg in jpegs]))
    engine.close()
    kept: list[int] = []
    for number, vector in enumerate(vectors):
        if all(vector @ vectors[other] < 0.999 for other in kept):
            kept.append(number)
    kept = kept[:IMAGES]
    assert len(kept) == IMAGES
    return [jpegs[number] for number in kept], vectors[kept]


async def test_a_worker_that_is_killed_under_load_costs_no_caller_more_than_a_retry(
    builtin: Bundle,  # noqa: F811
    pictures: tuple[list[bytes], Vectors],
    tmp_path: Path,
) -> None:
    ports = [Port(), Port()]
    for port in ports:
        port.settle()
    first, second = (port.address for port in ports)

    async def serving(address: str) -> WorkerProcess:
        return await closing.enter_async_context(worker(builtin, tmp_path, SETTINGS, address=address))

    async with contextlib.AsyncExitStack() as closing:
        victim, survivor = await asyncio.gather(serving(first), serving(second))
        client = await closing.enter_async_context(EncoderClient(f"{first},{second}", timeout_s=20))
        callers = Callers(client, *pictures)
        tasks = [asyncio.create_task(callers.ask_for_ever(seed)) for seed in range(CALLERS)]
        try:
            await _more(callers, tasks)
            assert victim.cpu_s > 0
            await victim.kill()
            await _more(callers, tasks)
            back = await serving(first)
            idle = back.cpu_s
            await until(lambda: back.cpu_s > idle + 0.5, "work for the worker that came back")
            await survivor.kill()
            await _more(callers, tasks)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []
    assert callers.wrong == 0
    assert callers.longest_s < 10


async def _more(callers: Callers, tasks: list[asyncio.Task[None]], count: int = 60) -> None:
    goal = callers.answered + count
    await until(lambda: callers.answered >= goal or any(task.done() for task in tasks), "answers", within_s=40)
    assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]


async def test_thousands_of_damaged_pictures_leave_a_worker_alive_and_each_gets_a_typed_answer(
    builtin: Bundle,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with worker(builtin, tmp_path) as remote:
        outcome = await play(remote, builtin.image_side, 5_000, seed=1)

        assert remote.alive
        assert outcome.count >= 5_000
        assert outcome.strange == []
        assert {name.split(": ")[1] for name in outcome.answers} == REASONS | {"vector"}
        assert max(outcome.memory_mb) < outcome.memory_mb[0] + 900
