from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.bundle import Bundle
from models.engines.engine import Engine
from models.engines.opening import open_engine
from proto.errors import Broken, Late, Mismatch, Overloaded, Poison, Transient
from proto.types import Vector, Vectors
from proto.v1 import encoder_pb2, encoder_pb2_grpc
from tests.clips import CLIPS
from tests.models.parts import frames, jpeg, picture
from tests.models.small import CONFIGS, export
from tests.workers.fakes import FakeEngine, until
from workers.client import EncoderClient
from workers.service import EncoderServer, serve_encoder
from workers.settings import EncoderSettings

pytestmark = pytest.mark.long

LOCAL = "127.0.0.1:0"
ONE_THREAD = EncoderSettings(threads=1)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of random weights, which opens sooner than the built-in one."""
    return export(tmp_path_factory.mktemp("small"), CONFIGS["clip"])


class SlowEngine(FakeEngine):
    """A FakeEngine with the dimension of `small`."""

    def _answer(self, kind: str, numbers: np.ndarray) -> Vectors:
        ones = super()._answer(kind, numbers * 0)[:, :1]
        return np.tile(ones / np.float32(np.sqrt(32)), (1, 32))


@asynccontextmanager
async def serving(
    bundle: Bundle,
    setting: EncoderSettings = ONE_THREAD,
    engine: Callable[[Bundle], Engine] | None = None,
    timeout_s: float = 20,
) -> AsyncIterator[tuple[EncoderServer, EncoderClient]]:
    server = await serve_encoder(bundle, setting, LOCAL, engine=engine)
    async with EncoderClient(server.address, timeout_s=timeout_s) as client:
        try:
            yield server, client
        finally:
            await server.stop(0)


@asynccontextmanager
async def stub(server: EncoderServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield encoder_pb2_grpc.EncoderStub(channel)


def vectors(answers: list[Vector | Poison]) -> np.ndarray:
    assert all(isinstance(answer, np.ndarray) for answer in answers)
    return np.stack([answer for answer in answers if isinstance(answer, np.ndarray)])


async def test_an_engine_that_normalises_answers_pictures_as_one_that_does_not(small: Bundle) -> None:
    pictures = [jpeg(picture(*size, seed=seed)) for seed, size in enumerate([(320, 180), (90, 200), (64, 64)])]
    found = []
    for name in ("onnxruntime", "torch"):
        async with serving(small, EncoderSettings(engine=name)) as (_, client):
            assert (await client.describe()).engine.startswith(name)
            found.append(vectors(await client.embed_images(pictures)))
    assert np.sum(found[0] * found[1], axis=1).min() > 0.9999


async def test_real_frames_are_found_by_words(builtin: Bundle) -> None:
    async with serving(builtin) as (_, client):
        (asked,) = vectors(await client.embed_texts(["a man in a suit and tie"]))
        best = {
            clip: float((vectors(await client.embed_images([jpeg(frame) for frame in frames(clip)])) @ asked).max())
            for clip in CLIPS
        }

    assert max(best, key=lambda clip: best[clip]) == "carphone_pristine"


async def test_a_worker_says_what_it_runs(builtin: Bundle) -> None:
    async with serving(builtin) as (_, client):
        info = await client.describe()

    assert info.space == builtin.space
    assert (info.bundle, info.licence, info.image_side) == ("builtin", builtin.licence, 260)
    assert info.engine == "onnxruntime/CPUExecutionProvider"
    assert (info.max_items, info.max_item_bytes) == (64, ONE_THREAD.max_item_bytes)


async def test_good_and_damaged_items_are_answered_each_for_itself(builtin: Bundle) -> None:
    good = jpeg(picture())
    async with serving(builtin) as (_, client):
        images = await client.embed_images([good, b"", b"hello", good[: len(good) // 2], good])
        texts = await client.embed_texts(["a dog", "", "a\0b", "x" * 3000])

    assert [item.reason for item in images if isinstance(item, Poison)] == ["empty", "not_an_image", "truncated"]
    assert all(item.todo for item in [*images, *texts] if isinstance(item, Poison))
    assert np.allclose(vectors(images[:1]), vectors(images[-1:]), atol=1e-5)
    assert [item.reason for item in texts[1:] if isinstance(item, Poison)] == [
        "text_empty",
        "text_invalid",
        "text_too_long",
    ]


async def test_a_text_that_was_cut_says_so_on_the_wire(small: Bundle) -> None:
    async with serving(small) as (server, _), stub(server) as encoder:
        reply = await encoder.EmbedTexts(encoder_pb2.EmbedTextsRequest(texts=["truck " * 300, "truck"]))

    assert [item.truncated for item in reply.items] == [True, False]
    assert reply.space == small.space.id


async def test_another_space_is_refused(small: Bundle) -> None:
    async with serving(small) as (server, _):
        async with EncoderClient(server.address, timeout_s=10, space="0" * 16) as other:
            with pytest.raises(Mismatch):
                await other.embed_texts(["a dog"])
        async with stub(server) as encoder:
            with pytest.raises(grpc.aio.AioRpcError) as met:
                await encoder.EmbedTexts(encoder_pb2.EmbedTextsRequest(texts=["a dog"], space="0" * 16))

    assert met.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_too_many_items_in_one_request_are_refused(small: Bundle) -> None:
    async with serving(small) as (server, _), stub(server) as encoder:
        with pytest.raises(grpc.aio.AioRpcError) as met:
            await encoder.EmbedTexts(encoder_pb2.EmbedTextsRequest(texts=["a"] * 65))

    assert met.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_client_splits_what_is_too_many_for_one_request(builtin: Bundle) -> None:
    setting = EncoderSettings(threads=1, queue_texts=4)
    async with serving(builtin, setting) as (_, client):
        answers = vectors(await client.embed_texts(["dog", "cat", "truck", "tree", "bike", "gate", "dog"]))

    assert np.allclose(answers[0], answers[-1], atol=1e-5)
    assert answers[0] @ answers[1] < 0.99


async def health(server: EncoderServer, service: str = "") -> int:
    async with grpc.aio.insecure_channel(server.address) as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        status: int = reply.status
        return status


@pytest.mark.parametrize("service", ["", "watchword.v1.Encoder"])
async def test_health_says_serving_when_ready(small: Bundle, service: str) -> None:
    async with serving(small) as (server, _):
        assert await health(server, service) == SERVING


async def test_until_the_engine_is_ready_callers_meet_unavailable(small: Bundle, unused_tcp_port: int) -> None:
    engine = SlowEngine()
    engine.hold()
    address = f"127.0.0.1:{unused_tcp_port}"
    starting = asyncio.create_task(serve_encoder(small, ONE_THREAD, address, engine=lambda _: engine))
    await until(lambda: engine.calls, "warm-up")
    async with grpc.aio.insecure_channel(address) as channel:
        checked = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert checked.status == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as met:
            await encoder_pb2_grpc.EncoderStub(channel).EmbedTexts(encoder_pb2.EmbedTextsRequest(texts=["a"]))
    engine.release()
    await (await starting).stop(0)

    assert met.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_every_size_of_batch_is_warm_before_the_first_caller(small: Bundle) -> None:
    engine = SlowEngine(best_batch=6)
    async with serving(small, engine=lambda _: engine) as (server, _):
        sizes = [len(batch) for kind, batch in engine.calls if kind == "image"]
        async with stub(server) as encoder:
            told = await encoder.Describe(encoder_pb2.DescribeRequest())

    assert sizes == list(told.buckets) == [1, 2, 4, 6]


async def test_an_engine_that_cannot_be_opened_ends_the_worker(small: Bundle) -> None:
    def opener(_: Bundle) -> Engine:
        raise Broken("another processor", todo="use this one")

    with pytest.raises(Broken, match="another processor"):
        await serve_encoder(small, ONE_THREAD, LOCAL, engine=opener)


async def test_a_port_that_is_taken_is_broken(small: Bundle) -> None:
    async with serving(small) as (server, _):
        with pytest.raises(Broken, match="cannot listen"):
            await serve_encoder(small, ONE_THREAD, server.address)


async def test_a_full_worker_answers_overloaded(small: Bundle) -> None:
    engine = SlowEngine()
    setting = EncoderSettings(queue_images=1, batch_wait_ms=0)
    async with serving(small, setting, lambda _: engine, timeout_s=4) as (server, client):
        await client.describe()
        engine.hold()
        async with EncoderClient(server.address, timeout_s=20) as patient:
            inside = asyncio.create_task(patient.embed_images([jpeg(picture())]))
            await until(lambda: engine.calls[-1][0] == "image")
            with pytest.raises(Overloaded):
                await client.embed_images([jpeg(picture())])
            engine.release()
            assert vectors(await inside).shape == (1, 32)


async def test_the_deadline_ends_a_call_that_waits(small: Bundle) -> None:
    engine = SlowEngine()
    async with serving(small, engine=lambda _: engine, timeout_s=3) as (_, client):
        await client.describe()
        engine.hold()
        with pytest.raises(Late):
            await client.embed_texts(["a dog"])
        engine.release()


async def test_the_worker_ends_calls_that_have_no_deadline_of_their_own(small: Bundle) -> None:
    engine = SlowEngine()
    async with (
        serving(small, EncoderSettings(timeout_s=0.2), lambda _: engine) as (server, _),
        stub(server) as encoder,
    ):
        engine.hold()
        with pytest.raises(grpc.aio.AioRpcError) as met:
            await encoder.EmbedTexts(encoder_pb2.EmbedTextsRequest(texts=["a"]))
        engine.release()

    assert met.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_stopping_finishes_the_calls_inside(small: Bundle) -> None:
    engine = SlowEngine()
    async with serving(small, engine=lambda _: engine) as (server, client):
        await client.describe()
        before = len(engine.calls)
        engine.hold()
        inside = asyncio.create_task(client.embed_texts(["a dog"]))
        await until(lambda: len(engine.calls) > before)
        stopping = asyncio.create_task(server.stop(20))
        async with EncoderClient(server.address, timeout_s=2) as late:
            with pytest.raises(Transient):
                await late.embed_texts(["a cat"])
        engine.release()

        assert vectors(await inside).shape == (1, 32)
        await stopping


async def test_a_stopped_worker_lets_go_of_calls_beyond_its_grace(small: Bundle) -> None:
    engine = SlowEngine()
    async with serving(small, engine=lambda _: engine, timeout_s=2) as (server, client):
        await client.describe()
        before = len(engine.calls)
        engine.hold()
        inside = asyncio.create_task(client.embed_texts(["a dog"]))
        await until(lambda: len(engine.calls) > before)
        stopping = asyncio.create_task(server.stop(0.05))
        with pytest.raises(Transient):
            await inside
        engine.release()
        await stopping


async def test_a_worker_whose_engine_failed_serves_again(small: Bundle) -> None:
    dead, fresh = SlowEngine(), open_engine(small, threads=1)
    engines: list[Engine] = [dead, fresh]
    async with serving(small, engine=lambda _: engines.pop(0)) as (server, client):
        dead.fails = True
        assert vectors(await client.embed_texts(["a dog"])).shape == (1, 32)
        assert dead.closed
        assert await health(server) == SERVING


async def test_a_worker_whose_engine_hangs_says_so_and_serves_again(small: Bundle) -> None:
    stuck, fresh = SlowEngine(), SlowEngine()
    engines: list[Engine] = [stuck, fresh]
    setting = EncoderSettings(engine_hangs_s=0.3)
    async with serving(small, setting, engine=lambda _: engines.pop(0)) as (server, client):
        await client.describe()
        fresh.hold()
        stuck.hold()
        asked = asyncio.create_task(client.embed_texts(["a dog"]))
        await until(lambda: fresh.calls, "another engine")
        assert await health(server) == NOT_SERVING
        fresh.release()

        assert vectors(await asked).shape == (1, 32)
        assert await health(server) == SERVING
        stuck.release()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7), st.booleans()), min_size=1, max_size=6))
def test_damaged_pictures_among_good_ones_always_get_a_typed_answer(
    small: Bundle, damages: list[tuple[int, int, bool]]
) -> None:
    good = jpeg(picture(96, 64))
    items = []
    for place, bit, cut in damages:
        damaged = bytearray(good)
        damaged[place % len(good)] ^= 1 << bit
        items += [bytes(damaged[: place % len(good)]) if cut else bytes(damaged), good]

    async def play() -> list[Vector | Poison]:
        async with serving(small, engine=lambda _: SlowEngine()) as (_, client):
            return await client.embed_images(items)

    answers = asyncio.run(play())

    assert len(answers) == len(items)
    assert all(isinstance(answer, np.ndarray) for answer in answers[1::2])
    assert {answer.reason for answer in answers if isinstance(answer, Poison)} <= {
        "empty",
        "not_an_image",
        "truncated",
        "too_large",
    }
