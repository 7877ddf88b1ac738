"""Frames through the steps of one assignment: recall, shed, embed, build."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from catalog.coverage import Looked
from index.memory import MemoryStore
from proto.errors import Invalid, Transient, WatchwordError
from proto.types import Moment
from stream.memory import MemoryLog
from stream.settings import StreamSettings
from tests.stream.bench import Bench, bounds, made
from tests.stream.rig import LOG, SPACE, START_MS, Box, Life, filled, frame, span, until


async def test_a_picture_that_can_have_no_vector_is_buried_and_done_and_the_others_go_on(tmp_path: Path) -> None:
    frames = [made(0), frame("gate", START_MS + 500, b"poison", 1, run=7), made(2), made(3, scene=1)]
    at = Bench(tmp_path, frames)
    await at.build(await at.waiting())
    assert [(letter.offset, letter.reason) for letter in at.box.letters] == [(1, "not_an_image")]
    assert bounds(at.store) == [(0, 1, 2, True), (1.5, 1.5, 1, False)]
    assert at.committable == 3


async def test_a_record_that_is_no_frame_is_buried_and_holds_nothing_up(tmp_path: Path) -> None:
    log = MemoryLog(LOG)
    log.append(0, b"?", b"\xff no frame", START_MS)
    at = Bench(tmp_path, log)
    assert await at.waiting() == []
    assert [letter.reason for letter in at.box.letters] == ["undecodable"]
    assert at.committable == 1


async def test_frames_of_one_batch_are_finished_only_when_their_moments_are_stored(tmp_path: Path) -> None:
    at = Bench(tmp_path, [made(0), made(1), made(2, scene=1)])
    await at.build(await at.waiting(most=2))
    assert at.committable is None
    await at.build(await at.waiting())
    assert at.committable == 2


async def test_frames_of_a_moment_that_the_index_never_takes_become_letters_and_are_done(tmp_path: Path) -> None:
    class Strict(MemoryStore):
        async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
            odd = {one.id: Invalid("no moments of odd", todo="none") for one in moments if one.camera == "odd"}
            return {**odd, **await super().upsert([one for one in moments if one.id not in odd])}

    frames = [
        frame(camera, START_MS + 500 * number, number // 3, number) for number in range(4) for camera in ("odd", "gate")
    ]
    log, box = filled(frames), Box()
    settings = StreamSettings(catch_up="all", batch_wait_ms=0, refresh_s=1e-9)
    life = Life(log, Strict(SPACE), tmp_path, letters=box, settings=settings)
    while await life.read(2):
        pass
    await life.stored()
    await life.commit()
    await life.die()
    assert [(letter.reason, letter.offset, letter.key) for letter in box.letters] == [
        ("not_storable", offset, b"odd") for offset in (0, 2, 4)
    ]
    assert log.committed == {0: 6}


class TwoShards(MemoryStore):
    """Cameras live in the shard of their name's first letter; one of them may be away."""

    away = ""

    def shard_of(self, camera: str) -> str:
        return camera[0]

    async def between(self, cameras: frozenset[str], start_ms: int, end_ms: int) -> list[Moment]:
        if any(self.shard_of(camera) == self.away for camera in cameras):
            raise Transient(f"shard {self.away} is away")
        return await super().between(cameras, start_ms, end_ms)


async def test_after_a_restart_a_shard_that_is_away_holds_up_only_its_own_cameras(tmp_path: Path) -> None:
    both = [frame(camera, START_MS + 500 * number, 0, number) for number in range(8) for camera in ("ann", "bob")]
    log, store = filled(both), TwoShards(SPACE)
    before = Life(log, store, tmp_path)
    await before.read(10)
    await before.stored()
    await before.die()
    store.away = "b"
    after = Life(log, store, tmp_path)
    assert await after.read(12) == 12
    await after.stored()
    assert {(moment.camera, moment.frames) for moment in store._moments.values()} == {("ann", 1), ("bob", 1)}
    await after.assignment.pipeline.refresh()
    await after.stored()
    assert {(moment.camera, moment.frames) for moment in store._moments.values()} == {("ann", 6), ("bob", 1)}
    store.away, after.assignment._ask_again_s = "", 0.0
    await after.read(4)
    await after.quiet(31)
    await after.stored()
    assert {(moment.camera, moment.frames, moment.closed) for moment in store._moments.values()} == {
        ("ann", 8, True),
        ("bob", 8, True),
    }
    assert after.assignment.committable() == {0: 16}
    await after.die()


async def test_a_frame_sent_twice_counts_once_also_when_its_moment_was_closed_before_a_restart(tmp_path: Path) -> None:
    frames = [made(0), made(1), made(1)]
    at = Bench(tmp_path, frames)
    await at.build(await at.waiting(most=2))
    await at.pipeline.tick(lambda _: START_MS + 3_600_000)
    await at.build(await at.waiting())
    assert bounds(at.store) == [(0, 0.5, 2, True)]
    assert at.committable == 3
    await at.life.die()

    again = Bench(tmp_path, at.log, store=at.store)
    await again.build(await again.waiting())
    assert bounds(at.store) == [(0, 0.5, 2, True)]
    assert again.committable == 3


async def test_no_moment_is_closed_for_silence_while_frames_of_its_partition_are_under_way(tmp_path: Path) -> None:
    log = filled([made(0)])
    at = Bench(tmp_path, log, settings=StreamSettings(catch_up="all", batch_wait_ms=0))
    await at.life.read(1)
    one = made(1)
    log.append(0, b"gate", one.SerializeToString(), one.captured_ms)
    assignment = at.life.assignment
    await assignment.take(log.read(0, 1, 1))
    batch = await assignment._gather(idle_s=0.0)
    for second in range(60):
        assignment.saw_ends(log.ends(), float(second))
    await at.pipeline.tick(lambda number: assignment.partitions[number].log_ms)
    await at.pipeline.flushed()
    assert bounds(at.store) == [(0, 0, 1, False)]
    assignment._tick_s = 0.0
    await assignment._settle(batch, asyncio.create_task(assignment._embed(batch)))
    await at.pipeline.flushed()
    assert bounds(at.store) == [(0, 0.5, 2, True)]


async def test_a_camera_that_fell_silent_no_longer_holds_its_partition_while_others_go_on(tmp_path: Path) -> None:
    frames = [made(0, camera="gone"), *[made(number, camera="busy", scene=number // 4) for number in range(1, 80)]]
    at = Bench(tmp_path, frames, settings=StreamSettings(catch_up="all", batch_wait_ms=0))
    while await at.life.read(16):
        pass
    await at.life.stored()
    assert [moment.closed for moment in at.store._moments.values() if moment.camera == "gone"] == [True]
    assert at.committable is not None
    assert at.committable > 70


async def test_how_far_a_camera_was_looked_at_is_told_once_it_is_stored(tmp_path: Path) -> None:
    class Held(MemoryStore):
        may_store = asyncio.Event()

        async def upsert(self, moments: Sequence[Moment]) -> Mapping[str, WatchwordError]:
            await self.may_store.wait()
            return await super().upsert(moments)

    at = Bench(tmp_path, [made(0), made(1)], store=Held(SPACE))
    waiting = await at.waiting()
    await at.pipeline.build(await at.pipeline.embed(waiting))
    assert at.pipeline.looked() == []
    Held.may_store.set()
    await at.pipeline.flushed()
    mark = Looked("gate", START_MS + 500, LOG, 0, 1)
    assert at.pipeline.looked() == [mark]
    assert at.pipeline.looked() == []
    at.pipeline.looked_again([mark])
    assert at.pipeline.looked() == [mark]


async def test_a_mark_that_is_given_back_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    at = Bench(tmp_path, [made(0), made(1)])
    await at.build(await at.waiting(most=1))
    old = at.pipeline.looked()
    await at.build(await at.waiting())
    at.pipeline.looked_again(old)
    assert [mark.offset for mark in at.pipeline.looked()] == [1]


@pytest.mark.parametrize("hop", ["consumed", "embedded", "written", "visible"])
async def test_every_hop_of_a_new_moment_is_timed(tmp_path: Path, hop: str) -> None:
    def seen() -> float:
        return REGISTRY.get_sample_value("watchword_hop_seconds_count", {"hop": hop}) or 0.0

    at = Bench(tmp_path, [made(0)])
    before = seen()
    await at.build(await at.waiting())
    await until(lambda: seen() == before + 1, f"hop {hop}")
    await at.life.die()


async def test_a_camera_whose_frames_are_held_since_its_shard_is_away_is_not_silent(tmp_path: Path) -> None:
    class Shards(MemoryStore):
        away = False

        def shard_of(self, camera: str) -> str:
            return camera

        async def between(self, cameras: frozenset[str], start_ms: int, end_ms: int) -> list[Moment]:
            if self.away and "held" in cameras:
                raise Transient("away")
            return await super().between(cameras, start_ms, end_ms)

    store, settings = Shards(SPACE), StreamSettings(catch_up="all", batch_wait_ms=0)
    frames = [
        made(10 * number, camera=camera)
        for number in range(150)
        for camera in (("held", "busy") if number % 4 == 0 else ("busy",))
    ]
    first = Bench(tmp_path, frames, store=store, settings=settings)
    while await first.life.read(16):
        pass
    await first.pipeline.refresh()
    await first.pipeline.flushed()
    before = {name: span(moment) for name, moment in store._moments.items()}
    await first.life.die()

    again = Bench(tmp_path, first.log, store=store, settings=settings)
    await again.life.read(16)
    store.away = True
    while await again.life.read(1):
        pass
    assert again.life.assignment._held
    await again.pipeline.flushed()
    assert {name: span(moment) for name, moment in store._moments.items()} == before
