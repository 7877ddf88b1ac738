"""Frames through the steps of one assignment: recall, shed, embed, build."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from catalog.coverage import Gap, Looked, Reason
from index.memory import MemoryStore
from proto.errors import Broken, Invalid, Transient, WatchwordError
from proto.types import Moment
from proto.v1.events_pb2 import Frame
from stream.frames import NEW, PASSED, Recalled
from stream.memory import MemoryLog
from stream.pipeline import Pipeline
from stream.settings import StreamSettings
from tests.stream.rig import LOG, SPACE, START_MS, Box, Life, Notes, SceneEncoder, filled, frame, span, until

FRESH = StreamSettings(catch_up="fresh", batch_wait_ms=0)
LATE_S, PER_S = 2.0, 8.0
"""So late, and so slow, that four frames stay."""


def made(number: int, scene: int = 0, *, camera: str = "gate", **more: object) -> Frame:
    return frame(camera, START_MS + 500 * number, scene, number, **{"run": 7, "usual": 0.05, **more})


def bounds(store: MemoryStore) -> list[tuple[float, float, int, bool]]:
    """Start and end in seconds, frames, closed."""
    moments = sorted(store._moments.values(), key=lambda one: (one.camera, one.first_offset))
    return [((m.start_ms - START_MS) / 1000, (m.end_ms - START_MS) / 1000, m.frames, m.closed) for m in moments]


class Bench:
    """One worker, of which each step is taken by hand."""

    def __init__(
        self,
        folder: Path,
        frames: Sequence[Frame] | MemoryLog,
        *,
        settings: StreamSettings = FRESH,
        store: MemoryStore | None = None,
        coverage: Notes | None = None,
    ) -> None:
        self.log = frames if isinstance(frames, MemoryLog) else filled(frames)
        self.store, self.box, self.encoder = store or MemoryStore(SPACE), Box(), SceneEncoder()
        self.life = Life(
            self.log,
            self.store,
            folder,
            encoder=self.encoder,
            settings=settings,
            letters=self.box,
            coverage=coverage,
        )
        self.coverage = self.life.coverage

    @property
    def pipeline(self) -> Pipeline:
        return self.life.assignment.pipeline

    async def waiting(self, most: int = 1000) -> list[Recalled]:
        """The frames that the log holds, and what is known of them."""
        await self.life.begin()
        records = self.log.read(0, self.life.at[0], most)
        self.life.at[0] += len(records)
        arrived = [one for record in records if (one := await self.life.assignment._taken(record))]
        recalled, unknown = await self.pipeline.recall(arrived)
        assert unknown == []
        return recalled

    async def shed(self, waiting: Sequence[Recalled]) -> list[Recalled]:
        return await self.pipeline.shed(waiting, LATE_S, PER_S)

    async def build(self, items: Sequence[Recalled]) -> None:
        """Embed and build them, and wait until all is stored."""
        await self.pipeline.build(await self.pipeline.embed(items))
        await self.pipeline.flushed()

    @property
    def committable(self) -> int | None:
        return self.life.assignment.committable().get(0)


def passed(items: Sequence[Recalled]) -> list[int]:
    return [item.arrived.record.offset for item in items if item.known is PASSED]


async def test_frames_that_are_passed_over_are_declared_done_and_not_looked_at(tmp_path: Path) -> None:
    at = Bench(tmp_path, [made(number, novelty=0.01 * number) for number in range(8)])
    before = REGISTRY.get_sample_value("watchword_stream_frames_shed_total") or 0.0
    items = await at.shed(await at.waiting())
    assert passed(items) == [1, 2, 3, 4]
    assert list(at.coverage.gaps.values()) == [
        Gap("gate", Reason.SHED, START_MS + 500, START_MS + 2000, 4, LOG, 0, 1, 4),
    ]
    assert REGISTRY.get_sample_value("watchword_stream_frames_shed_total") == before + 4
    await at.build(items)
    assert at.encoder.pictures == 4
    assert bounds(at.store) == [(0, 0, 1, False)]
    await at.pipeline.refresh()
    await at.pipeline.flushed()
    assert bounds(at.store) == [(0, 3.5, 4, False)]


@pytest.mark.parametrize(
    ("settings", "late_s"),
    [(StreamSettings(catch_up="all"), 1e6), (FRESH, FRESH.behind_s)],
    ids=["all", "in time"],
)
async def test_nothing_is_passed_over_unless_asked_for_and_behind(
    tmp_path: Path, settings: StreamSettings, late_s: float
) -> None:
    at = Bench(tmp_path, [made(number) for number in range(8)], settings=settings)
    waiting = await at.waiting()
    assert passed(await at.pipeline.shed(waiting, late_s, PER_S)) == []
    assert at.coverage.gaps == {}


async def test_runs_of_passed_frames_are_declared_apart_and_by_camera(tmp_path: Path) -> None:
    novelty = [0.2, 0.0, 0.0, 0.2, 0.0]
    frames = [
        made(number, camera=camera, novelty=novelty[number]) for number in range(5) for camera in ("gate", "yard")
    ]
    at = Bench(tmp_path, frames)
    assert passed(await at.shed(await at.waiting())) == [2, 3, 4, 5, 8, 9]
    declared = [(gap.camera, gap.first_offset, gap.last_offset, gap.frames) for gap in at.coverage.gaps.values()]
    assert sorted(declared) == [("gate", 2, 4, 2), ("gate", 8, 8, 1), ("yard", 3, 5, 2), ("yard", 9, 9, 1)]


async def test_the_first_of_a_camera_one_after_a_gap_and_one_with_much_that_is_new_are_openings(
    tmp_path: Path,
) -> None:
    frames = [made(number, novelty=0.3 if number == 6 else 0.2, after_gap=number == 3) for number in range(12)]
    at = Bench(tmp_path, frames)
    waiting = await at.waiting()
    items = await at.pipeline.shed(waiting, LATE_S, per_s=1e-9)
    assert [item.arrived.record.offset for item in items if item.known is NEW] == [0, 3, 6]


async def test_a_frame_of_a_camera_whose_moment_is_open_is_no_opening_and_after_its_end_it_is(tmp_path: Path) -> None:
    at = Bench(tmp_path, [made(number, novelty=0.2 if number == 3 else 0.1) for number in range(5)])
    await at.build(await at.waiting(most=1))
    waiting = await at.waiting()
    assert passed(await at.pipeline.shed(waiting, LATE_S, per_s=1e-9)) == [1, 2, 4]
    await at.pipeline.tick(lambda _: START_MS + 3_600_000)
    assert passed(await at.pipeline.shed(waiting, LATE_S, per_s=1e-9)) == [2, 3, 4]


async def test_a_moment_reaches_across_frames_that_were_passed_over(tmp_path: Path) -> None:
    log = MemoryLog(LOG)
    for number, novelty in enumerate([0.1, 0.0, 0.2]):
        one = made(number, novelty=novelty)
        log.append(0, b"gate", one.SerializeToString(), START_MS + 20_000 * number)
    at = Bench(tmp_path, log)
    await at.build(await at.waiting(most=1))
    items = await at.pipeline.shed(await at.waiting(), LATE_S, per_s=1e-9)
    assert passed(items) == [1]
    await at.build(items)
    await at.pipeline.refresh()
    await at.pipeline.flushed()
    assert bounds(at.store) == [(0, 1, 2, False)]


async def test_a_recording_is_looked_at_whole(tmp_path: Path) -> None:
    log = MemoryLog(LOG)
    for number in range(8):
        one = made(number)
        log.append(0, b"gate", one.SerializeToString(), one.captured_ms + 3_600_000)
    at = Bench(tmp_path, log)
    assert passed(await at.shed(await at.waiting())) == []


class Full(Notes):
    def declare(self, gaps: Sequence[Gap]) -> None:
        raise Broken("the disk is full", todo="make room")


async def test_what_cannot_be_declared_is_not_passed_over_and_that_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at = Bench(tmp_path, [made(number) for number in range(8)], coverage=Full())
    waiting = await at.waiting()
    for _ in range(3):
        assert passed(await at.shed(waiting)) == []
    assert caplog.text.count("no frame is passed over") == 1
    await at.build(waiting)
    assert at.encoder.pictures == 8


async def test_a_worker_without_its_lease_declares_nothing_and_passes_nothing_over(tmp_path: Path) -> None:
    at = Bench(tmp_path, [made(number) for number in range(8)])
    waiting = await at.waiting()
    at.life.consumer.lease.revoked()
    assert passed(await at.shed(waiting)) == []
    assert at.coverage.gaps == {}


async def test_what_was_passed_over_stays_so_after_a_restart_and_the_moments_are_the_same(tmp_path: Path) -> None:
    frames = [
        made(number, scene=number // 6, novelty=0.5 if number % 6 == 0 else 0.02 * (number % 6)) for number in range(18)
    ]
    at = Bench(tmp_path, frames)
    await at.build(await at.shed(await at.waiting()))
    await at.pipeline.refresh()
    await at.pipeline.flushed()
    before = {name: span(moment) for name, moment in at.store._moments.items()}
    assert sum(gap.frames for gap in at.coverage.gaps.values()) == 14
    await at.life.die()

    again = Bench(tmp_path, at.log, store=at.store, coverage=at.coverage)
    waiting = await again.waiting()
    assert passed(waiting) == [
        offset for gap in at.coverage.gaps.values() for offset in range(gap.first_offset, gap.last_offset + 1)
    ]
    await again.build(waiting)
    assert again.encoder.pictures == 0
    assert {name: span(moment) for name, moment in at.store._moments.items()} == before


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
