from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from proto.errors import Overloaded, Transient
from tests.workers.batching import background, batching, images, numbers
from tests.workers.fakes import ApartEngine, FakeEngine, until
from workers.queued import Embedded
from workers.settings import EncoderSettings


async def test_answers_come_in_the_order_of_the_items() -> None:
    async with batching(FakeEngine(best_batch=2)) as batcher:
        assert numbers(await batcher.embed_images(images(5, 3, 9, 1, 7))) == [5, 3, 9, 1, 7]
        assert numbers(await batcher.embed_texts(["4", "2"])) == [4, 2]


async def test_nothing_asked_is_nothing_answered() -> None:
    async with batching(FakeEngine()) as batcher:
        assert await batcher.embed_images([]) == []


async def test_callers_share_a_batch() -> None:
    engine = FakeEngine(best_batch=4)
    async with batching(engine, setting=EncoderSettings(batch_wait_ms=1000)) as batcher:
        answers = await asyncio.gather(*(batcher.embed_images(images(number)) for number in range(4)))

    assert [numbers(answer) for answer in answers] == [[0], [1], [2], [3]]
    assert engine.calls == [("image", [0, 1, 2, 3])]


async def test_a_batch_that_does_not_fill_starts_when_its_first_picture_waited_long_enough() -> None:
    engine = FakeEngine(best_batch=4)
    async with batching(engine, setting=EncoderSettings(batch_wait_ms=30)) as batcher:
        assert numbers(await batcher.embed_images(images(1, 2))) == [1, 2]

    assert engine.calls == [("image", [1, 2])]


async def test_a_batch_is_no_larger_than_the_setting_and_the_engine_allow() -> None:
    for best, most in ((3, 16), (16, 3)):
        engine = FakeEngine(best)
        async with batching(engine, setting=EncoderSettings(batch_wait_ms=0, max_batch=most)) as batcher:
            await batcher.embed_images(images(*range(10)))
        assert max(len(batch) for _, batch in engine.calls) == 3


async def test_a_damaged_picture_fails_alone() -> None:
    engine = FakeEngine(best_batch=4)
    async with batching(engine) as batcher:
        found = await batcher.embed_images([b"1", b"damaged", b"3"])

    assert numbers(found) == [1, "not_an_image", 3]
    assert [batch for _, batch in engine.calls] == [[1, 3]]


async def test_a_batch_of_damaged_pictures_never_reaches_the_engine() -> None:
    engine = FakeEngine()
    async with batching(engine) as batcher:
        assert numbers(await batcher.embed_images([b"x", b"y"])) == ["not_an_image"] * 2
        assert numbers(await batcher.embed_texts(["", ""])) == ["text_empty"] * 2

    assert engine.calls == []


async def test_a_text_that_was_cut_says_so() -> None:
    async with batching(FakeEngine()) as batcher:
        first, second = await batcher.embed_texts(["1", "2…"])

    assert isinstance(first, Embedded)
    assert isinstance(second, Embedded)
    assert (first.truncated, second.truncated) == (False, True)


async def test_one_thread_owns_the_engine() -> None:
    engine = FakeEngine(best_batch=1)
    async with batching(engine) as batcher:
        await asyncio.gather(batcher.embed_images(images(1, 2, 3)), batcher.embed_texts(["4"]))

    assert len(engine.threads) == 1


async def test_beyond_the_queue_callers_are_refused_at_once() -> None:
    engine = FakeEngine(best_batch=1)
    async with batching(engine, setting=EncoderSettings(batch_wait_ms=0, queue_images=3)) as batcher:
        engine.hold()
        inside = background(batcher.embed_images(images(1, 2, 3)))
        await until(lambda: batcher.queued("image") == 3)

        with pytest.raises(Overloaded, match="3 images waiting") as met:
            await batcher.embed_images(images(4))
        engine.release()

        assert met.value.todo
        assert numbers(await inside) == [1, 2, 3]
        assert numbers(await batcher.embed_images(images(5))) == [5]


async def test_full_of_pictures_is_still_open_for_texts() -> None:
    engine = FakeEngine()
    async with batching(engine, setting=EncoderSettings(batch_wait_ms=0, queue_images=1)) as batcher:
        engine.hold()
        picture = background(batcher.embed_images(images(1)))
        await until(lambda: engine.calls)
        text = background(batcher.embed_texts(["2"]))
        await until(lambda: batcher.queued("text"))
        engine.release()

        assert numbers(await picture) == [1]
        assert numbers(await text) == [2]


async def test_a_text_passes_every_picture_that_waits() -> None:
    engine = FakeEngine(best_batch=1)
    async with batching(engine) as batcher:
        engine.hold()
        pictures = background(batcher.embed_images(images(1, 2, 3, 4)))
        await until(lambda: engine.calls == [("image", [1])])
        text = background(batcher.embed_texts(["9"]))
        await until(lambda: batcher.queued("text"))
        engine.release()
        await asyncio.gather(pictures, text)

    assert engine.calls[:2] == [("image", [1]), ("text", [9])]


async def test_pictures_go_on_under_a_stream_of_texts() -> None:
    engine = FakeEngine(best_batch=1)
    async with batching(engine) as batcher:
        engine.hold()
        texts = [background(batcher.embed_texts([str(number)] * 32)) for number in range(4)]
        await until(lambda: engine.calls)
        picture = background(batcher.embed_images(images(9)))
        await until(lambda: batcher._lanes[0]._running)
        engine.release()
        await asyncio.gather(picture, *texts)

    assert "image" in [kind for kind, _ in engine.calls[:3]]
    assert len(engine.calls) == 5


async def test_the_next_batch_is_decoded_while_one_runs_and_no_more() -> None:
    engine = FakeEngine(best_batch=2)
    async with batching(engine) as batcher:
        engine.hold()
        work = background(batcher.embed_images(images(*range(8))))
        await until(lambda: engine.calls and batcher._lanes[0]._decoded)

        assert batcher._waiting.untaken("image") == 4
        engine.release()
        assert len(await work) == 8


async def test_a_caller_that_goes_away_costs_the_engine_nothing() -> None:
    engine = FakeEngine(best_batch=1)
    async with batching(engine, setting=EncoderSettings(batch_wait_ms=0, queue_images=8)) as batcher:
        engine.hold()
        first = background(batcher.embed_images(images(1)))
        await until(lambda: engine.calls)
        gone = [background(batcher.embed_images(images(number))) for number in range(2, 9)]
        await until(lambda: batcher.queued("image") == 8)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)

        assert batcher.queued("image") == 1
        assert not batcher._waiting.untaken("image")
        engine.release()
        await first
        assert numbers(await batcher.embed_images(images(10))) == [10]

    assert [batch for _, batch in engine.calls] == [[1], [10]]


async def test_where_the_towers_are_apart_a_text_waits_for_no_picture() -> None:
    engine = ApartEngine()
    async with batching(engine) as batcher:
        engine.hold_images()
        picture = background(batcher.embed_images(images(1)))
        await until(lambda: engine.calls)
        assert numbers(await batcher.embed_texts(["2"])) == [2]
        engine.release_images()

        assert numbers(await picture) == [1]
    assert len(engine.threads) == 2


async def test_pictures_beyond_the_bytes_that_may_wait_are_refused() -> None:
    engine = FakeEngine(best_batch=1)
    large = b"0" * 700_000
    async with batching(engine, setting=EncoderSettings(batch_wait_ms=0, queue_bytes=1024 * 1024)) as batcher:
        engine.hold()
        inside = background(batcher.embed_images([large]))
        await until(lambda: batcher.queued("image"))
        with pytest.raises(Overloaded, match="bytes of pictures"):
            await batcher.embed_images([large])
        engine.release()
        await inside

        assert len(await batcher.embed_images([large, large])) == 2


async def test_a_closed_door_lets_finish_what_is_inside() -> None:
    engine = FakeEngine(best_batch=1)
    async with batching(engine) as batcher:
        engine.hold()
        inside = background(batcher.embed_images(images(1, 2, 3)))
        await until(lambda: engine.calls)
        batcher.close_door()

        with pytest.raises(Transient, match="stopping"):
            await batcher.embed_images(images(4))
        engine.release()
        assert numbers(await inside) == [1, 2, 3]


async def test_stopping_gives_up_what_is_left_and_closes_the_engine() -> None:
    engine = FakeEngine(best_batch=1)
    async with batching(engine) as batcher:
        engine.hold()
        inside = background(batcher.embed_images(images(1, 2, 3)))
        await until(lambda: engine.calls)
        stopping = background(batcher.stop())
        with pytest.raises(Transient, match="stopping"):
            await inside
        engine.release()
        await stopping

    assert engine.closed
    assert engine.calls == [("image", [1])]


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def test_items_and_refusals_are_counted() -> None:
    names = [("image", "ok"), ("image", "not_an_image"), ("text", "ok")]
    before = [sample("watchword_encoder_items_total", kind=kind, outcome=outcome) for kind, outcome in names]
    refused = sample("watchword_encoder_refused_total", kind="text")
    async with batching(FakeEngine(), setting=EncoderSettings(batch_wait_ms=0, queue_texts=1)) as batcher:
        await batcher.embed_images([b"1", b"2", b"x"])
        await batcher.embed_texts(["1"])
        with pytest.raises(Overloaded):
            await batcher.embed_texts(["1", "2"])

    after = [sample("watchword_encoder_items_total", kind=kind, outcome=outcome) for kind, outcome in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [2, 1, 1]
    assert sample("watchword_encoder_refused_total", kind="text") == refused + 1
    assert sample("watchword_encoder_queued_items", kind="image") == 0


ITEMS = st.lists(st.one_of(st.integers(0, 99).map(lambda number: str(number).encode()), st.just(b"bad")), max_size=12)


@settings(max_examples=30, deadline=None)
@given(st.lists(ITEMS, max_size=6), st.integers(1, 5), st.sets(st.integers(0, 5)))
def test_whoever_asks_and_whoever_leaves_everybody_else_gets_his_own(
    calls: list[list[bytes]], best: int, leaving: set[int]
) -> None:
    async def play() -> None:
        async with batching(FakeEngine(best)) as batcher:
            tasks = [background(batcher.embed_images(call)) for call in calls]
            await asyncio.sleep(0)
            for number in leaving & set(range(len(calls))):
                tasks[number].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for number, (task, call) in enumerate(zip(tasks, calls, strict=True)):
                if number not in leaving:
                    expected = ["not_an_image" if item == b"bad" else int(item) for item in call]
                    assert numbers(task.result()) == expected
            assert batcher.queued("image") == 0

    asyncio.run(play())
