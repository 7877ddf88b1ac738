from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from models.bundle import CALIBRATION, Bundle
from proto.errors import Broken, Invalid, Mismatch, Overloaded, Poison, Transient
from proto.v1 import encoder_pb2, encoder_pb2_grpc
from tests.models.detectors import add_toy_detector
from tests.models.parts import frames, jpeg
from tests.models.toy import toy_bundle
from tests.workers.test_client import SPACE, Worker, standing, talking
from workers.client import EncoderClient, Seen
from workers.service import EncoderServer, serve_encoder
from workers.settings import EncoderSettings

ONE_THREAD = EncoderSettings(threads=1, engine="onnxruntime")


@asynccontextmanager
async def serving(bundle: Bundle) -> AsyncIterator[tuple[EncoderServer, EncoderClient]]:
    server = await serve_encoder(bundle, ONE_THREAD, "127.0.0.1:0")
    async with EncoderClient(server.address, timeout_s=20) as client:
        try:
            yield server, client
        finally:
            await server.stop(0)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    def add(folder: Path) -> None:
        add_toy_detector(folder, word_share=0.0)
        calibrated = {"version": 1, "features": ["z"], "weights": [1.0], "bias": 0.0, "threshold": 0.5}
        (folder / CALIBRATION).write_text(json.dumps(calibrated))

    return toy_bundle(tmp_path_factory.mktemp("toys") / "toy", add=add)


def _spot() -> bytes:
    """A grey picture of 128 x 64 with a white square at the left and a black one at the right."""
    pixels = np.full((64, 128, 3), 128, np.uint8)
    pixels[16:32, 16:32], pixels[32:48, 96:112] = 255, 0
    return jpeg(pixels, quality=100)


async def test_a_worker_says_which_objects_it_knows_and_what_finding_them_costs(toy: Bundle) -> None:
    async with serving(toy) as (_, client):
        info = await client.describe()
    assert (info.kinds, info.detect_cost) == (("light", "dark"), 2.0)
    assert json.loads(info.calibration)["features"] == ["z"]


async def test_objects_are_found_where_they_are_with_vectors_of_the_space(toy: Bundle) -> None:
    async with serving(toy) as (_, client):
        found, damaged, again = await client.detect_objects([_spot(), b"nothing", _spot()])
    assert isinstance(damaged, Poison)
    assert damaged.reason == "not_an_image"
    assert isinstance(found, list)
    assert isinstance(again, list)
    assert [one.box for one in found] == [one.box for one in again]
    assert {one.kind for one in found} == {"light", "dark"}
    for one in found:
        middle = (one.box.left + one.box.right) / 2
        assert middle < 0.3 if one.kind == "light" else middle > 0.7
        assert one.vector.shape == (toy.dimension,)
        assert np.linalg.norm(one.vector) == pytest.approx(1, abs=1e-5)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


async def test_where_the_word_has_no_share_an_objects_vector_is_that_of_its_crop_embedded_alone(toy: Bundle) -> None:
    from models.detector import crop_of
    from models.engines.opening import open_engine
    from models.preprocess import Preprocessor

    async with serving(toy) as (_, client):
        (found,) = await client.detect_objects([_spot()])
    assert isinstance(found, list)
    read = Preprocessor(toy.preprocess, max_bytes=10**7, max_pixels=10**7)
    engine = open_engine(toy, threads=1)
    crop = crop_of(read.pixels(_spot(), 1280), found[0].box, 0.1)
    (alone,) = engine.embed_images(read.fitted(crop, np.empty(read.shape, np.float32))[None])
    engine.close()
    assert np.allclose(found[0].vector, alone, atol=1e-5)


async def test_a_bundle_without_a_detector_refuses_and_says_what_to_do(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    async with serving(bundle) as (server, client):
        assert (await client.describe()).kinds == ()
        with pytest.raises(Invalid, match="has no detector") as met:
            await client.detect_objects([_spot()])
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = encoder_pb2_grpc.EncoderStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.DetectObjects(encoder_pb2.DetectObjectsRequest(images=[_spot()]))
        assert len(await client.embed_images([_spot()])) == 1
    assert met.value.todo
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "watchword-todo" in {key for key, _ in refused.value.trailing_metadata() or ()}


async def test_another_space_and_too_many_pictures_are_refused(toy: Bundle) -> None:
    async with serving(toy) as (server, _), grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = encoder_pb2_grpc.EncoderStub(channel)
        for request, code in (
            (encoder_pb2.DetectObjectsRequest(images=[_spot()], space="b" * 16), grpc.StatusCode.FAILED_PRECONDITION),
            (encoder_pb2.DetectObjectsRequest(images=[_spot()] * 65), grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as met:
                await stub.DetectObjects(request)
            assert met.value.code() == code


@pytest.mark.long
async def test_people_and_cars_of_real_clips_are_found_by_their_words(builtin: Bundle) -> None:
    async with serving(builtin) as (_, client):
        street = await client.detect_objects([jpeg(pixels) for pixels in frames("bikes", every=25)])
        words = await client.embed_texts(["a person", "an elephant"])
    person, animal = (word for word in words if isinstance(word, np.ndarray))
    seen = [one for objects in street if isinstance(objects, list) for one in objects]
    assert {"person", "car"} <= {one.kind for one in seen}
    people = [one.vector for one in seen if one.kind == "person"]
    assert all(float(vector @ person) > float(vector @ animal) + 0.2 for vector in people)


class Finder(Worker):
    """A Worker that finds in a picture as many objects as its number says."""

    box = (0.1, 0.2, 0.3, 0.4)

    async def Describe(self, request: Any, context: Any) -> encoder_pb2.DescribeReply:  # noqa: N802
        return encoder_pb2.DescribeReply(
            space=self.space, dimension=2, max_items=self.max_items, kinds=["person"], detect_cost=1.5, calibration="{}"
        )

    async def DetectObjects(self, request: Any, context: Any) -> encoder_pb2.DetectObjectsReply:  # noqa: N802
        self.asked.append([content.decode() for content in request.images])
        self.expected.append(request.space)
        if self.failures:
            await context.abort(self.failures.pop(0), "not now")
        left, top, right, bottom = self.box
        one = encoder_pb2.Object(
            kind="person",
            score=0.5,
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            vector=np.array([1, 0][: self.dimension], "<f4").tobytes(),
        )
        items = [encoder_pb2.Detection(objects=[one] * int(content)) for content in request.images]
        return encoder_pb2.DetectObjectsReply(space=self.space, items=items[self.lost :])


def _counts(answers: list[list[Seen] | Poison]) -> list[int]:
    return [len(answer) for answer in answers if isinstance(answer, list)]


async def test_many_pictures_travel_in_parts_and_come_back_in_order() -> None:
    worker = Finder(max_items=2)
    async with talking(worker) as client:
        assert _counts(await client.detect_objects([b"1", b"0", b"3", b"2", b"1"])) == [1, 0, 3, 2, 1]
        assert await client.detect_objects([]) == []
    assert max(map(len, worker.asked)) == 2
    assert set(worker.expected) == {SPACE}


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_a_full_or_absent_worker_is_asked_again(code: grpc.StatusCode) -> None:
    worker = Finder(code)
    async with talking(worker) as client:
        assert _counts(await client.detect_objects([b"1"])) == [1]
    assert len(worker.asked) == 2


async def test_where_one_worker_is_full_another_looks() -> None:
    full, free = Finder(*[grpc.StatusCode.RESOURCE_EXHAUSTED] * 50), Finder()
    async with (
        standing(full) as one,
        standing(free) as other,
        EncoderClient(f"{one},{other}", timeout_s=10) as client,
    ):
        answers = await asyncio.gather(*(client.detect_objects([b"2"]) for _ in range(4)))
    assert [_counts(answer) for answer in answers] == [[2]] * 4


@pytest.mark.parametrize(
    ("fault", "value"), [("lost", 1), ("dimension", 1), ("box", (0.5, 0.0, 0.2, 1.0)), ("box", (0.0, 0.0, 1.5, 1.0))]
)
async def test_a_worker_that_loses_pictures_numbers_or_places_is_broken(fault: str, value: Any) -> None:
    worker = Finder()
    setattr(worker, fault, value)
    async with talking(worker) as client:
        with pytest.raises(Broken):
            await client.detect_objects([b"1"])


async def test_a_worker_that_changed_its_space_is_a_mismatch() -> None:
    worker = Finder()
    async with talking(worker) as client:
        await client.describe()
        worker.space = "b" * 16
        with pytest.raises(Mismatch):
            await client.detect_objects([b"1"])


async def test_a_worker_that_stays_full_is_overloaded_and_one_that_stays_away_transient() -> None:
    for code, kind in ((grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded), (grpc.StatusCode.UNAVAILABLE, Transient)):
        async with talking(Finder(*[code] * 1000), timeout_s=0.5) as client:
            with pytest.raises(kind):
                await client.detect_objects([b"1"])
