"""Engines that fail or hang, alone and beside others."""

from __future__ import annotations

import pytest

from models.engines.engine import Engine
from proto.errors import Broken, Transient
from tests.workers.batching import QUICK, background, batching, images, numbers
from tests.workers.fakes import FakeEngine, FakeTokenizer, read_image, until
from workers.batcher import Batcher
from workers.settings import EncoderSettings


async def test_an_engine_that_fails_answers_transient_and_is_opened_again() -> None:
    dead, fresh = FakeEngine(), FakeEngine()
    engines = [dead, fresh]
    states: list[bool] = []
    async with batching(lambda: engines.pop(0), states=states) as batcher:
        dead.fails = True
        with pytest.raises(Transient, match="fell off the bus"):
            await batcher.embed_images(images(1))
        await until(lambda: states == [True, False, True])

        assert numbers(await batcher.embed_images(images(2))) == [2]
        assert dead.closed


async def test_while_no_engine_is_open_callers_hear_transient() -> None:
    dead, opens = FakeEngine(), 0

    def opener() -> Engine:
        nonlocal opens
        opens += 1
        if opens > 1:
            raise Broken("no device", todo="plug it in")
        return dead

    async with batching(opener) as batcher:
        dead.fails = True
        waiting = background(batcher.embed_texts(["1"]))
        with pytest.raises(Transient):
            await batcher.embed_texts(["2"])
        await until(lambda: opens > 1)

        with pytest.raises(Transient):
            await waiting
        with pytest.raises(Transient, match="starting"):
            await batcher.embed_images(images(3))


async def test_vectors_that_are_not_numbers_count_as_a_failed_engine() -> None:
    engine = FakeEngine()
    engine.dreams = True
    async with batching(lambda: engine) as batcher:
        with pytest.raises(Transient, match="not numbers"):
            await batcher.embed_texts(["1"])


async def test_an_engine_that_hangs_is_left_behind_and_another_is_opened() -> None:
    stuck, fresh = FakeEngine(), FakeEngine()
    engines = [stuck, fresh]
    states: list[bool] = []
    async with batching(
        lambda: engines.pop(0), setting=EncoderSettings(batch_wait_ms=0, engine_hangs_s=0.1), states=states
    ) as batcher:
        stuck.hold()
        with pytest.raises(Transient, match="did not answer within"):
            await batcher.embed_images(images(1))
        await until(lambda: states == [True, False, True])

        assert numbers(await batcher.embed_images(images(2))) == [2]
        assert not stuck.closed
        stuck.release()
        await until(lambda: stuck.closed, "closing, once it woke")


async def test_when_engine_after_engine_hangs_the_worker_stays_out_of_service() -> None:
    engines = [FakeEngine() for _ in range(3)]
    states: list[bool] = []
    opened = iter(engines)
    async with batching(
        lambda: next(opened), setting=EncoderSettings(batch_wait_ms=0, engine_hangs_s=0.05), states=states
    ) as batcher:
        for engine in engines:
            engine.hold()
            await until(lambda: states[-1])
            with pytest.raises(Transient):
                await batcher.embed_texts(["1"])
        for engine in engines:
            engine.release()

        assert states == [True, False] * 3
        with pytest.raises(Transient):
            await batcher.embed_texts(["1"])


async def test_stopping_does_not_wait_for_an_engine_that_hangs() -> None:
    engine = FakeEngine()
    async with batching(engine, setting=EncoderSettings(batch_wait_ms=0, engine_hangs_s=0.2)) as batcher:
        engine.hold()
        inside = background(batcher.embed_images(images(1)))
        await until(lambda: engine.calls)
        await batcher.stop()
        with pytest.raises(Transient, match="stopping"):
            await inside


async def test_an_engine_that_never_opened_ends_the_start_with_its_error() -> None:
    def opener() -> Engine:
        raise Broken("another processor", todo="use this one")

    batcher = Batcher([opener], read_image, FakeTokenizer(), QUICK)
    with pytest.raises(Broken, match="another processor"):
        await batcher.start()
    await batcher.stop()
