"""Frames that a worker passes over when it is behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from catalog.coverage import Gap, Reason
from proto.errors import Broken
from stream.frames import NEW, PASSED
from stream.memory import MemoryLog
from stream.settings import StreamSettings
from tests.stream.bench import FRESH, LATE_S, PER_S, Bench, bounds, made, passed
from tests.stream.rig import LOG, START_MS, Notes, span


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
    assert passed(await at.pipeline.in_turn(waiting, late_s, PER_S)) == []
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
    items = await at.pipeline.in_turn(waiting, LATE_S, per_s=1e-9)
    assert [item.arrived.record.offset for item in items if item.known is NEW] == [0, 3, 6]


async def test_a_frame_of_a_camera_whose_moment_is_open_is_no_opening_and_after_its_end_it_is(tmp_path: Path) -> None:
    at = Bench(tmp_path, [made(number, novelty=0.2 if number == 3 else 0.1) for number in range(5)])
    await at.build(await at.waiting(most=1))
    waiting = await at.waiting()
    assert passed(await at.pipeline.in_turn(waiting, LATE_S, per_s=1e-9)) == [1, 2, 4]
    await at.pipeline.tick(lambda _: START_MS + 3_600_000)
    assert passed(await at.pipeline.in_turn(waiting, LATE_S, per_s=1e-9)) == [2, 3, 4]


async def test_a_moment_reaches_across_frames_that_were_passed_over(tmp_path: Path) -> None:
    log = MemoryLog(LOG)
    for number, novelty in enumerate([0.1, 0.0, 0.2]):
        one = made(number, novelty=novelty)
        log.append(0, b"gate", one.SerializeToString(), START_MS + 20_000 * number)
    at = Bench(tmp_path, log)
    await at.build(await at.waiting(most=1))
    items = await at.pipeline.in_turn(await at.waiting(), LATE_S, per_s=1e-9)
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


async def test_a_camera_with_a_scene_that_begins_goes_first_and_its_frames_stay_in_order(tmp_path: Path) -> None:
    frames = [made(number, camera="gate") for number in range(3)]
    frames += [made(3, camera="yard"), made(4, camera="yard", novelty=1.0)]
    at = Bench(tmp_path, frames, settings=FRESH)
    await at.build(await at.waiting(most=1))
    waiting = await at.waiting()
    offsets = [item.arrived.mark.offset for item in await at.pipeline.in_turn(waiting, 0.0, PER_S)]
    assert offsets == [3, 4, 1, 2]


async def test_what_needs_no_encoder_does_not_wait_behind_what_does(tmp_path: Path) -> None:
    frames = [made(number, camera=camera) for number in range(3) for camera in ("gate", "yard")]
    at = Bench(tmp_path, frames, settings=FRESH)
    waiting = await at.waiting()
    assignment = at.life.assignment
    # Of the yard all but the first is passed over, of the gate the middle one.
    going = {2, 3, 5}
    assignment._waiting.extend(
        one._replace(known=PASSED) if place in going else one for place, one in enumerate(waiting)
    )
    assignment._some_are_free = True
    first = assignment._next(1)
    assert [item.arrived.mark.offset for item in first] == [0, 2]
    second = assignment._next(1)
    assert [item.arrived.mark.offset for item in second] == [1, 3, 5]
    assert [item.arrived.mark.offset for item in assignment._next(1)] == [4]
