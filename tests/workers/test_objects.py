from __future__ import annotations

import asyncio
from functools import partial

import numpy as np
import pytest
from prometheus_client import REGISTRY

from proto.errors import Overloaded, Poison, Transient
from proto.types import MOST_OBJECT_CROPS
from tests.workers.batching import QUICK, background, batching, images, numbers
from tests.workers.fakes import WORDS, FakeEngine, SightedEngine, until
from workers.batcher import Batcher
from workers.queued import Detected
from workers.settings import EncoderSettings

looking = partial(batching, detector=WORDS)


def counts(answers: list[Detected | Poison]) -> list[int | str]:
    return [answer.reason if isinstance(answer, Poison) else len(answer.objects) for answer in answers]


async def _enter(batcher: Batcher, engine: FakeEngine, number: int) -> asyncio.Task[list[Detected | Poison]]:
    """Start looking into a picture, and wait until the engine has it."""
    asked = background(batcher.detect_objects(images(number)))
    await until(lambda: ("object", [number]) in engine.calls)
    return asked


async def test_the_objects_of_each_picture_come_in_order() -> None:
    async with looking(SightedEngine(detects=2)) as batcher:
        assert counts(await batcher.detect_objects(images(3, 0, 5, 1))) == [3, 0, 5, 1]
        assert await batcher.detect_objects([]) == []


async def test_a_damaged_picture_fails_alone() -> None:
    async with looking(SightedEngine(detects=3)) as batcher:
        assert counts(await batcher.detect_objects([b"1", b"damaged", b"2"])) == [1, "not_an_image", 2]


async def test_an_object_has_the_vector_of_its_part_of_the_picture() -> None:
    async with looking(SightedEngine()) as batcher:
        (found,) = await batcher.detect_objects(images(3))
    assert isinstance(found, Detected)
    directions = [vector[1] / vector[0] for _, vector in found.objects]
    assert directions == pytest.approx([100, 101, 102])
    assert [np.linalg.norm(vector) for _, vector in found.objects] == pytest.approx([1, 1, 1])


async def test_only_the_surest_objects_cost_a_crop_and_the_others_take_the_whole_picture() -> None:
    engine = SightedEngine(best_batch=16, detects=8)
    async with looking(engine) as batcher:
        (found,) = await batcher.detect_objects(images(9))
    assert isinstance(found, Detected)
    (crops,) = [items for kind, items in engine.calls if kind == "image"]
    whole = crops[-1]
    assert crops == [100, 101, 102, 103, 104, 105, whole]
    assert [vector[1] / vector[0] for _, vector in found.objects[MOST_OBJECT_CROPS:]] == pytest.approx([whole] * 3)


async def test_no_step_on_the_engine_is_longer_than_one_detection() -> None:
    engine = SightedEngine(best_batch=16, detects=1)
    async with looking(engine) as batcher:
        await batcher.detect_objects(images(8, 8))
    assert max(len(items) for _, items in engine.calls) <= 2


async def test_pictures_to_embed_pass_every_picture_that_waits_to_be_looked_into() -> None:
    engine = SightedEngine(best_batch=1)
    async with looking(engine) as batcher:
        engine.hold_detecting()
        first = await _enter(batcher, engine, 0)
        behind = background(batcher.detect_objects(images(1)))
        await until(lambda: batcher.queued("object") == 2)
        embedding = background(batcher.embed_images(images(5, 6)))
        await until(lambda: batcher.queued("image") == 2)
        engine.release()
        assert numbers(await embedding) == [5, 6]
        assert counts(await first + await behind) == [0, 1]
    assert [call for call in engine.calls if call[1] != [100]] == [
        ("object", [0]),
        ("image", [5]),
        ("image", [6]),
        ("object", [1]),
    ]


async def test_a_picture_to_look_into_has_its_turn_under_a_stream_of_pictures_to_embed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.waiting._LATE_S", 0.0)
    engine = SightedEngine(best_batch=1)
    async with looking(engine) as batcher:
        engine.hold()
        stream = background(batcher.embed_images(images(*range(10, 30))))
        await until(lambda: engine.calls)
        asked = background(batcher.detect_objects(images(0)))
        await until(lambda: batcher.queued("object") == 1)
        engine.release()
        await asyncio.gather(stream, asked)
    assert engine.calls.index(("object", [0])) < len(engine.calls) - 1


async def test_a_text_on_an_engine_whose_towers_are_not_apart_waits_for_one_detection_only() -> None:
    engine = SightedEngine()
    async with looking(engine) as batcher:
        engine.hold_detecting()
        first = await _enter(batcher, engine, 0)
        behind = background(batcher.detect_objects(images(1)))
        text = background(batcher.embed_texts(["7"]))
        await until(lambda: batcher.queued("text") == 1 and batcher.queued("object") == 2)
        engine.release()
        assert numbers(await text) == [7]
        assert counts(await first + await behind) == [0, 1]


async def test_beyond_the_queue_callers_are_refused_at_once_and_pictures_to_embed_are_not() -> None:
    engine = SightedEngine()
    setting = EncoderSettings(batch_wait_ms=0, queue_objects=2)
    async with looking(engine, setting=setting) as batcher:
        engine.hold_detecting()
        inside = background(batcher.detect_objects(images(1, 2)))
        await until(lambda: batcher.queued("object") == 2)
        with pytest.raises(Overloaded, match="room for 2"):
            await batcher.detect_objects(images(3))
        embedding = background(batcher.embed_images(images(5)))
        await until(lambda: batcher.queued("image") == 1)
        engine.release()
        assert numbers(await embedding) == [5]
        assert counts(await inside) == [1, 2]


async def test_their_bytes_are_bounded_apart_from_those_of_pictures_to_embed() -> None:
    engine = SightedEngine()
    setting = EncoderSettings(batch_wait_ms=0, queue_bytes=1024 * 1024)
    large = b"7".rjust(700_000, b"0")
    async with looking(engine, setting=setting) as batcher:
        engine.hold_detecting()
        inside = background(batcher.detect_objects([large]))
        await until(lambda: batcher.queued("object") == 1)
        with pytest.raises(Overloaded, match="bytes of pictures"):
            await batcher.detect_objects([large])
        embedding = background(batcher.embed_images([large]))
        await until(lambda: batcher.queued("image") == 1)
        engine.release()
        assert numbers(await embedding) == [7]
        assert counts(await inside) == [7]


async def test_an_engine_that_fails_while_it_looks_answers_transient_and_is_opened_again() -> None:
    engines = [SightedEngine(), SightedEngine()]
    engines[0].fails = True
    opened = iter(engines)
    states: list[bool] = []
    async with looking(lambda: next(opened), states=states) as batcher:
        with pytest.raises(Transient, match="fell off the bus"):
            await batcher.detect_objects(images(1))
        await until(lambda: batcher.engines == 1)
        assert counts(await batcher.detect_objects(images(1))) == [1]
    assert states[:3] == [True, False, True]


async def test_where_one_engine_fails_another_looks() -> None:
    bad, good = SightedEngine(), SightedEngine()
    bad.fails = True
    fresh = iter([bad])

    def again() -> SightedEngine:
        return next(fresh, good)

    async with looking(again, good) as batcher:
        answers = await asyncio.gather(*(batcher.detect_objects(images(number)) for number in (1, 2, 3)))
        assert [counts(answer) for answer in answers] == [[1], [2], [3]]


async def test_an_engine_that_hangs_while_it_looks_is_left_behind() -> None:
    stuck, fresh = SightedEngine(), SightedEngine()
    stuck.hold_detecting()
    opened = iter([stuck, fresh])
    setting = EncoderSettings(batch_wait_ms=0, engine_hangs_s=0.1)
    async with looking(lambda: next(opened), setting=setting) as batcher:
        with pytest.raises(Transient, match="did not answer within"):
            await batcher.detect_objects(images(1))
        await until(lambda: batcher.engines == 1)
        assert counts(await batcher.detect_objects(images(1))) == [1]
        stuck.release()


@pytest.mark.parametrize("fault", ["blind", "dreams"])
async def test_an_answer_that_is_no_answer_counts_as_a_failed_engine(fault: str) -> None:
    bad = SightedEngine()
    setattr(bad, fault, True)
    opened = iter([bad, SightedEngine()])
    async with looking(lambda: next(opened)) as batcher:
        with pytest.raises(Transient):
            await batcher.detect_objects(images(1))
        await until(lambda: batcher.engines == 1)
        assert counts(await batcher.detect_objects(images(1))) == [1]


async def test_a_caller_that_goes_away_costs_the_engine_nothing() -> None:
    engine = SightedEngine()
    async with looking(engine) as batcher:
        engine.hold_detecting()
        first = await _enter(batcher, engine, 0)
        gone = background(batcher.detect_objects(images(2)))
        await until(lambda: batcher.queued("object") == 2)
        gone.cancel()
        await until(lambda: batcher.queued("object") == 1)
        engine.release()
        assert counts(await first) == [0]
    assert ("object", [2]) not in engine.calls


async def test_stopping_gives_up_what_waits() -> None:
    engine = SightedEngine()
    async with looking(engine) as batcher:
        engine.hold_detecting()
        first = await _enter(batcher, engine, 0)
        behind = background(batcher.detect_objects(images(1)))
        await until(lambda: batcher.queued("object") == 2)
        batcher.close_door()
        with pytest.raises(Transient, match="stopping"):
            await batcher.detect_objects(images(2))
        stopping = background(batcher.stop())
        for asked in (first, behind):
            with pytest.raises(Transient, match="stopping"):
                await asked
        engine.release()
        await stopping
    assert engine.closed


async def test_detections_are_counted() -> None:
    def counted() -> tuple[float, float, float]:
        labels = [{"kind": "object", "outcome": outcome} for outcome in ("ok", "not_an_image")]
        answered = [REGISTRY.get_sample_value("watchword_encoder_items_total", label) or 0.0 for label in labels]
        return answered[0], answered[1], REGISTRY.get_sample_value("watchword_encoder_objects_total") or 0.0

    before = counted()
    async with looking(SightedEngine(), setting=QUICK) as batcher:
        await batcher.detect_objects([b"3", b"damaged", b"2"])
    assert np.subtract(counted(), before).tolist() == [2, 1, 5]
