from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from broker.kafka import FrameProducer
from index.memory import MemoryStore
from proto.errors import Late, Mismatch, Overloaded, Poison, Transient, WatchwordError
from proto.types import Moment, SpaceInfo, Vector
from proto.v1.events_pb2 import Frame
from stream.worker import StreamWorker
from tests.stream.rig import (
    SPACE,
    START_MS,
    Bench,
    Desk,
    SceneEncoder,
    broker_settings,
    desk,
    frame,
    script,
    until,
    working,
)


class SlowStore(MemoryStore):
    """Takes what it was sent when it may, also when the caller waits no longer: as a server does."""

    def __init__(self, space: SpaceInfo) -> None:
        super().__init__(space)
        self.under_way = 0
        self.may_write = asyncio.Event()

    async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        return await asyncio.shield(asyncio.create_task(self._take(moments)))

    async def _take(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
        self.under_way += 1
        await self.may_write.wait()
        failed = await super().upsert(moments)
        self.under_way -= 1
        return failed


async def test_frames_become_moments_with_their_pictures(tmp_path: Path) -> None:
    frames = script(cameras=3, frames=20)
    at = Bench(tmp_path)
    await at.publish(frames)
    async with working(at.worker(SceneEncoder())):
        await at.until_stored(frames)
    for moment in at.spans():
        assert at.thumbnails.get(moment.id).isdigit()


@pytest.mark.stack
async def test_a_new_moment_is_stored_within_a_second(broker: str, tmp_path: Path) -> None:
    async with desk(broker, tmp_path) as at, working(at.worker(SceneEncoder())):
        for number in range(5):
            began = asyncio.get_running_loop().time()
            await at.publish([frame(f"new-{number}", START_MS, 1, 0, after_gap=True)])
            await until(lambda number=number: len(at.spans()) == number + 1, "stored", 5)  # type: ignore[misc]
            assert asyncio.get_running_loop().time() - began < 1.0


@pytest.mark.parametrize(
    "trouble", [Transient("away"), Overloaded("full"), Late("slow")], ids=lambda e: type(e).__name__
)
async def test_an_encoder_in_trouble_is_waited_for(tmp_path: Path, trouble: WatchwordError) -> None:
    frames = script(cameras=2, frames=10)
    at = Bench(tmp_path)
    await at.publish(frames)
    encoder = SceneEncoder(trouble=[trouble] * 3)
    async with working(at.worker(encoder)):
        await at.until_stored(frames)
    assert encoder.trouble == []


async def test_every_frame_is_in_one_moment_or_a_dead_letter(tmp_path: Path) -> None:
    frames = script(cameras=3, frames=20, poison_every=7)
    at = Bench(tmp_path)
    letters, worker = at.letters, at.worker(SceneEncoder())
    await at.publish(frames)
    at.append(b"?", b"\xff not a frame")
    await at.publish([Frame(camera="no/name", captured_ms=1), Frame(camera="a", captured_ms=-5)])
    async with working(worker):
        await at.until_stored(frames)
        poison = [frame for frame in frames if frame.jpeg == b"poison"]
        await until(lambda: len(letters.letters) == len(poison) + 3, "dead letters")
    refused = [letter for letter in letters.letters if letter.reason == "not_an_image"]
    assert {Frame.FromString(letter.value).captured_ms for letter in refused} == {frame.captured_ms for frame in poison}
    assert sorted(letter.reason for letter in letters.letters if letter.reason != "not_an_image") == [
        "bad_frame",
        "bad_frame",
        "undecodable",
    ]


@pytest.mark.stack
@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_worker_that_dies_is_replaced_and_nothing_is_lost_or_stored_twice(
    broker: str, tmp_path: Path, partitions: int
) -> None:
    frames = script(cameras=4, frames=60)
    async with desk(broker, tmp_path, partitions) as at:
        await at.publish(frames[:120])
        for stored in (6, 14, 22):
            worker = at.worker(SceneEncoder())
            dying = asyncio.create_task(worker.run())
            # It dies in the middle of its work: with open moments, and frames taken that were not yet committed.
            await until(lambda least=stored: len(at.spans()) >= least, "some moments")  # type: ignore[misc]
            dying.cancel()
            await asyncio.gather(dying, return_exceptions=True)
        await at.publish(frames[120:])
        async with working(at.worker(SceneEncoder())):
            await at.until_stored(frames)


async def test_a_stopped_worker_hands_over_what_it_had_finished(tmp_path: Path) -> None:
    frames = script(cameras=2, frames=40)
    at = Bench(tmp_path, partitions=1)
    first, second = SceneEncoder(), SceneEncoder()
    await at.publish(frames[:60])
    async with working(at.worker(first)):
        await at.until_stored(frames[:60])
    await at.publish(frames[60:])
    async with working(at.worker(second)):
        await at.until_stored(frames)
    assert first.pictures == 60
    assert second.pictures < 20 + 2 * 8


@pytest.mark.stack
async def test_a_whole_topic_replayed_by_another_group_changes_nothing(broker: str, tmp_path: Path) -> None:
    frames = script(cameras=3, frames=30)
    async with desk(broker, tmp_path) as at:
        await at.publish(frames)
        at.settings = at.settings.model_copy(update={"silent_s": 0.5})
        async with working(at.worker(SceneEncoder())):
            await until(lambda: sum(span.frames for span in at.spans() if span.closed) == len(frames), "all closed")
        before = at.stored()
        for number in range(2):
            at.kafka = at.kafka.model_copy(update={"group": f"{at.kafka.group}-{number}"})
            encoder = SceneEncoder()
            worker = at.worker(encoder)
            async with working(worker):
                await until(lambda one=worker: one.frames_done == len(frames), "all frames seen")  # type: ignore[misc]
            assert at.stored() == before
            assert encoder.pictures == 0


@pytest.mark.stack
async def test_two_workers_share_the_partitions_and_one_takes_over(broker: str, tmp_path: Path) -> None:
    frames = script(cameras=6, frames=40)
    async with desk(broker, tmp_path, partitions=4) as at:
        first, second = SceneEncoder(), SceneEncoder()
        leaving = at.worker(first)
        async with working(leaving) as task:
            await at.publish(frames[:60])
            async with working(at.worker(second)):
                await at.publish(frames[60:180])
                await at.until_stored(frames[:180])
                leaving.stop()
                await task
                await at.publish(frames[180:])
                await at.until_stored(frames)
        assert first.pictures > 0
        assert second.pictures > 0


@pytest.mark.stack
async def test_partitions_are_given_back_once_what_was_being_written_is_written(
    apache_kafka: str, tmp_path: Path
) -> None:
    frames = script(cameras=6, frames=40)
    async with desk(apache_kafka, tmp_path, partitions=4) as at:
        # Long enough that only the write under way can hold the second worker up: heartbeats come every 3.6 s.
        at.kafka = at.kafka.model_copy(update={"session_s": 18.0})
        slow = at.store = SlowStore(SPACE)
        async with working(at.worker(SceneEncoder())):
            await at.publish(frames[:120])
            await until(lambda: slow.under_way > 0, "a write is under way")
            second = at.worker(SceneEncoder())
            releasing = asyncio.create_task(second_waits(second, slow))
            async with working(second):
                await releasing
                await at.publish(frames[120:])
                await at.until_stored(frames)


async def second_waits(second: StreamWorker, slow: SlowStore) -> None:
    await asyncio.sleep(4.5)
    waited = not second.ready
    slow.may_write.set()
    assert waited, "the second worker was given partitions while the first one wrote"


async def test_an_encoder_of_another_space_ends_the_worker(tmp_path: Path) -> None:
    at = Bench(tmp_path)
    with pytest.raises(Mismatch, match="runs space"):
        await at.worker(SceneEncoder(SpaceInfo("f" * 16, 8))).run()


async def test_an_encoder_that_changes_its_space_under_way_ends_the_worker(tmp_path: Path) -> None:
    at = Bench(tmp_path)
    await at.publish(script(cameras=1, frames=1))
    with pytest.raises(Mismatch, match="another"):
        await asyncio.wait_for(at.worker(SceneEncoder(trouble=[Mismatch("another space")])).run(), 30)
    assert await at.store.count() == 0


async def test_a_silent_camera_has_its_moment_closed_and_no_longer_holds_its_partition(tmp_path: Path) -> None:
    frames = script(cameras=2, frames=3)
    at = Bench(tmp_path, partitions=1)
    at.settings = at.settings.model_copy(update={"silent_s": 0.5})
    await at.publish(frames)
    async with working(at.worker(SceneEncoder())):
        await until(lambda: [m.closed for m in at.store._moments.values()] == [True, True], "closed")
    again = SceneEncoder()
    await at.publish([frame("last", START_MS, 1, 0, after_gap=True)])
    async with working(at.worker(again)):
        await until(lambda: len(at.store._moments) == 3, "the last camera")
    assert again.pictures == 1


async def test_a_worker_leaves_soon_although_the_encoder_is_away(tmp_path: Path) -> None:
    at = Bench(tmp_path)
    await at.publish(script(cameras=1, frames=1))
    encoder = SceneEncoder(trouble=[Transient("away")] * 10_000)
    async with working(at.worker(encoder)) as task:
        await until(lambda: len(encoder.trouble) < 10_000, "tried")
    assert task.done()


async def test_a_broker_that_is_not_there_ends_the_worker(tmp_path: Path) -> None:
    at = Desk(broker_settings("127.0.0.1:1"), FrameProducer(broker_settings("127.0.0.1:1")), tmp_path)
    with pytest.raises(Transient, match="the broker"):
        await asyncio.wait_for(at.worker(SceneEncoder()).run(), 20)


async def test_a_worker_in_which_nothing_moves_ends_so_that_it_is_started_again(tmp_path: Path) -> None:
    class Hanging(SceneEncoder):
        async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
            await asyncio.Event().wait()
            return []

    at = Bench(tmp_path)
    await at.publish(script(cameras=1, frames=1))
    at.settings = at.settings.model_copy(update={"stalled_s": 2.0})
    with pytest.raises(Transient, match="did not move"):
        await asyncio.wait_for(at.worker(Hanging()).run(), 30)
