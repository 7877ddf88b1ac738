"""Several engines in one worker: who serves what, and what callers notice when one of them is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import numpy as np
import pytest

from models.bundle import Bundle
from models.engines.engine import Abilities, Engine
from models.engines.opening import open_engine
from models.preprocess import Pictures, Preprocessor
from models.tokens import Ids
from proto.errors import Transient
from proto.types import Vectors
from proto.v1 import encoder_pb2, encoder_pb2_grpc
from tests.models.parts import frames, jpeg
from tests.workers.batching import background, batching, images, numbers
from tests.workers.fakes import ApartEngine, FakeEngine, until
from workers.service import serve_encoder
from workers.settings import EncoderSettings

pytestmark = pytest.mark.long

FEW = EncoderSettings(batch_wait_ms=0, engine_hangs_s=0.2)


async def test_engines_run_side_by_side() -> None:
    first, second = FakeEngine(best_batch=2), FakeEngine(best_batch=2)
    async with batching(first, second) as batcher:
        first.hold()
        second.hold()
        work = background(batcher.embed_images(images(1, 2, 3, 4)))
        await until(lambda: first.calls and second.calls)
        first.release()
        second.release()

        assert numbers(await work) == [1, 2, 3, 4]
    assert len(first.threads) == len(second.threads) == 1
    assert first.threads != second.threads


async def test_a_batch_goes_to_the_engine_that_is_free() -> None:
    slow, fast = FakeEngine(), FakeEngine()
    async with batching(slow, fast) as batcher:
        slow.hold()
        stuck = [background(batcher.embed_images(images(number))) for number in range(2)]
        await until(lambda: slow.calls)
        for number in range(10, 20):
            assert numbers(await batcher.embed_images(images(number))) == [number]
        slow.release()
        await asyncio.gather(*stuck)

    assert len(slow.calls) == 1


async def test_a_slow_engine_holds_one_batch_beside_the_one_that_runs() -> None:
    slow, fast = FakeEngine(best_batch=1), FakeEngine(best_batch=1)
    async with batching(slow, fast) as batcher:
        slow.hold()
        work = [background(batcher.embed_images(images(number))) for number in range(30)]
        await until(lambda: sum(task.done() for task in work) == 28)
        slow.release()
        await asyncio.gather(*work)

    assert len(slow.calls) == 2


async def test_a_text_goes_to_an_engine_that_runs_no_pictures() -> None:
    busy, free = FakeEngine(), FakeEngine()
    async with batching(busy, free) as batcher:
        busy.hold()
        free.hold()
        picture = background(batcher.embed_images(images(1)))
        await until(lambda: busy.calls or free.calls)
        idle = free if busy.calls else busy
        idle.release()

        assert numbers(await batcher.embed_texts(["2"])) == [2]
        assert not picture.done()
        busy.release()
        free.release()
        await picture


async def test_what_one_engine_failed_on_another_does_and_no_caller_notices() -> None:
    dead, well, fresh = FakeEngine(best_batch=1), FakeEngine(best_batch=1), FakeEngine(best_batch=1)
    engines = [dead, fresh]
    states: list[bool] = []
    async with batching(lambda: engines.pop(0), well, states=states) as batcher:
        dead.fails = True
        assert numbers(await batcher.embed_images(images(*range(20)))) == list(range(20))
        await until(lambda: batcher.engines == 2)

        assert dead.closed
        assert fresh.calls or well.calls
    assert states == [True, False]  # the second when it was stopped


async def test_a_batch_that_breaks_two_engines_is_given_up() -> None:
    first, second, third = FakeEngine(), FakeEngine(), FakeEngine()
    opened = [first, second, third]
    async with batching(*[lambda: opened.pop(0)] * 3) as batcher:
        first.fails = second.fails = third.fails = True
        with pytest.raises(Transient, match="fell off the bus"):
            await batcher.embed_images(images(1))

    assert sum(len(engine.calls) for engine in (first, second, third)) == 2


async def test_an_engine_that_hangs_is_replaced_while_the_other_serves() -> None:
    stuck, well, fresh = ApartEngine(), ApartEngine(), ApartEngine()
    engines = [stuck, fresh]
    states: list[bool] = []
    async with batching(lambda: engines.pop(0), well, setting=FEW, states=states) as batcher:
        stuck.hold()
        work = background(batcher.embed_images(images(1)))
        await until(lambda: stuck.calls)
        for number in range(5):
            assert numbers(await batcher.embed_images(images(number))) == [number]
        assert numbers(await work) == [1]
        await until(lambda: not engines and batcher.engines == 2, "another engine")
        stuck.release()
        assert states == [True]


async def test_only_without_any_engine_callers_hear_that_it_is_starting() -> None:
    engines = [FakeEngine(), FakeEngine()]
    opened = iter(engines)

    def opener() -> Engine:
        return next(opened)  # from the third time on it fails

    states: list[bool] = []
    async with batching(opener, opener, states=states) as batcher:
        for engine in engines:
            engine.fails = True
        with pytest.raises(Transient):
            await batcher.embed_texts(["1"])
        await until(lambda: batcher.engines == 0)
        with pytest.raises(Transient, match="starting"):
            await batcher.embed_images(images(1))

        assert states == [True, False]
        assert batcher.engine_name == "starting"


async def test_stopping_closes_every_engine_and_a_closed_door_lets_all_finish() -> None:
    first, second = FakeEngine(best_batch=1), FakeEngine(best_batch=1)
    async with batching(first, second) as batcher:
        first.hold()
        second.hold()
        inside = background(batcher.embed_images(images(*range(6))))
        await until(lambda: first.calls and second.calls)
        batcher.close_door()
        first.release()
        second.release()

        assert numbers(await inside) == list(range(6))
    assert first.closed
    assert second.closed


class Faulty(Engine):
    """A real engine that can be made to fail, or to hang until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.best_batch = engine.best_batch
        self.abilities = Abilities(texts_apart=True)
        self.breaks = False
        self.wrapped = FakeEngine()

    def embed_images(self, pictures: Pictures) -> Vectors:
        if self.breaks:
            self.wrapped.embed_images(pictures)
        return self._engine.embed_images(pictures)

    def embed_texts(self, ids: Ids, mask: Ids) -> Vectors:
        return self._engine.embed_texts(ids, mask)

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_real_engine_is_lost_under_load_and_every_caller_gets_the_right_vector(
    builtin: Bundle, how: str
) -> None:
    opened: list[Faulty] = []

    def opener(bundle: Bundle) -> Engine:
        opened.append(Faulty(open_engine(bundle, threads=1)))
        return opened[-1]

    pictures = [jpeg(frame) for frame in frames("bikes", every=20)][:8]
    reference = _reference(builtin, pictures)
    setting = EncoderSettings(threads=2, devices=(0, 0), engine_hangs_s=5)
    server = await serve_encoder(builtin, setting, "127.0.0.1:0", engine=opener)
    answered = 0

    async def caller(stub: Any) -> None:
        nonlocal answered
        while len(opened) < 3 or answered < 200:
            for number, image in enumerate(pictures):
                # No client of ours: nothing is repeated.
                reply = await stub.EmbedImages(encoder_pb2.EmbedImagesRequest(images=[image]))
                found = np.frombuffer(reply.items[0].vector, "<f4")
                assert found @ reference[number] > 0.9999
                answered += 1

    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = encoder_pb2_grpc.EncoderStub(channel)
        assert (await stub.Describe(encoder_pb2.DescribeRequest())).engines == 2
        victim = opened[0]
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(caller(stub))
            await until(lambda: answered > 20, "answers", within_s=30)
            victim.wrapped.fails = True
            if how == "hangs":
                victim.wrapped.hold()
            victim.breaks = True
            await until(lambda: len(opened) == 3, "another engine", within_s=30)
        await until(lambda: server._batcher.engines == 2, "another engine at work", within_s=30)
        victim.wrapped.release()
        await server.stop(5)


def _reference(bundle: Bundle, pictures: list[bytes]) -> Vectors:
    read = Preprocessor(bundle.preprocess, max_bytes=8_000_000, max_pixels=50_000_000)
    engine = open_engine(bundle, threads=1)
    try:
        return engine.embed_images(np.stack([read(picture) for picture in pictures]))
    finally:
        engine.close()
