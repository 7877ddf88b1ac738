"""A batcher over engines of the test's choice, and what is asked of it in numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from models.detector import Detector
from models.engines.engine import Engine
from proto.errors import Poison
from tests.workers.fakes import FakeEngine, FakeTokenizer, read_image
from workers.batcher import Batcher, OpenEngine
from workers.queued import Embedded
from workers.settings import EncoderSettings

Result = TypeVar("Result")
QUICK = EncoderSettings(batch_wait_ms=0)


@asynccontextmanager
async def batching(
    *engines: FakeEngine | Callable[[], Engine],
    setting: EncoderSettings = QUICK,
    states: list[bool] | None = None,
    detector: Detector | None = None,
) -> AsyncIterator[Batcher]:
    """With an engine each time it is opened, or with what a function opens."""
    heard = states if states is not None else []
    batcher = Batcher(openers(engines), read_image, FakeTokenizer(), setting, detector=detector, on_ready=heard.append)
    await batcher.start()
    try:
        yield batcher
    finally:
        for engine in engines:
            if isinstance(engine, FakeEngine):
                engine.release()
        await batcher.stop()


def openers(engines: Sequence[FakeEngine | OpenEngine]) -> list[OpenEngine]:
    return [partial(_same, engine) if isinstance(engine, FakeEngine) else engine for engine in engines]


def _same(engine: FakeEngine) -> Engine:
    return engine


def images(*numbers: int) -> list[bytes]:
    return [str(number).encode() for number in numbers]


def numbers(answers: list[Embedded | Poison]) -> list[int | str]:
    return [answer.reason if isinstance(answer, Poison) else int(answer.vector[1]) for answer in answers]


def background(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    return asyncio.create_task(work)
