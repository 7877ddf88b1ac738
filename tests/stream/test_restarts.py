"""Restarts in the middle, one kind after another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stream.memory import MemoryLog
from tests.stream.lives import Chapter, History, Look, a_log, a_log_of, tried
from tests.stream.rig import LOG, START_MS, SceneEncoder, span, vector


def test_a_history_in_which_something_is_passed_over_is_among_them(tmp_path: Path) -> None:
    history = [Look(camera=0, pause_ms=1_000, step_ms=0, scene=0, novelty=0.0) for _ in range(60)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "fresh")
    tried(one, [Chapter([(1, 0)], stored=True, commits=True), Chapter([(59, 0)], stored=True, commits=False)])
    assert sum(gap.frames for gap in one.coverage.gaps.values()) > 0


def test_the_same_picture_sent_twice_counts_once(tmp_path: Path) -> None:
    history = [Look(0, pause_ms=500, step_ms=0, scene=0, novelty=0.0, again=int(n in (1, 5))) for n in range(10)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    (last,) = one.log.read(0, 11, 1)
    one.log.append(0, last.key, last.value, last.at_ms)

    async def all_of_it() -> None:
        await one.lived(Chapter([(6, 0)], stored=True, commits=True))
        await one.ended()

    asyncio.run(all_of_it())
    assert [moment.frames for moment in one.moments] == [10]
    assert one.log.committed == {0: 13}


@pytest.mark.parametrize("closed", [True, False], ids=["in a moment that is closed", "in one that is open"])
async def test_pictures_sent_twice_with_a_restart_between_count_once(tmp_path: Path, closed: bool) -> None:
    history = [Look(0, 500, 0, 0, 0.0) for _ in range(10)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(10, 31 if closed else 0)], stored=True, commits=True))
    (told,) = one.moments
    assert told.closed is closed and one.log.committed == ({0: 10} if closed else {})
    first, second = one.log.read(0, 8, 2)
    for record in (first, second, first, second):
        one.log.append(0, record.key, record.value, record.at_ms + 2_000)
    await one.ended()
    assert [(moment.frames, moment.first_offset) for moment in one.moments] == [(10, 0)]
    assert one.log.committed == {0: 14}


async def test_what_comes_after_a_restart_is_new_although_its_moment_before_is_closed(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, 0, 0.0) for _ in range(20)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    all_of_it = one.log.read(0, 0, 20)
    one.log = MemoryLog(LOG)
    for record in all_of_it[:10]:
        one.log.append(0, record.key, record.value, record.at_ms)
    await one.lived(Chapter([(10, 31)], stored=True, commits=True))
    for record in all_of_it[9:]:  # one of them for the second time
        one.log.append(0, record.key, record.value, record.at_ms)
    await one.ended()
    assert [(moment.frames, moment.first_offset) for moment in one.moments] == [(10, 0), (10, 11)]


async def test_frames_of_closed_moments_are_not_embedded_again(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, number // 8, 1.0 if number % 8 == 0 else 0.0) for number in range(16)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.ended()
    one.log.committed.clear()
    one.encoder.pictures = 0
    await one.ended()
    assert one.encoder.pictures == 0
    assert one.log.committed == one.log.ends()


async def test_frames_that_an_open_moment_was_told_with_are_not_embedded_again(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, 0, 0.0) for _ in range(20)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(15, 0)], stored=True, commits=True))
    one.encoder.pictures = 0
    await one.ended()
    assert one.encoder.pictures == 5
    assert [moment.frames for moment in one.moments] == [20]
    assert np.allclose(one.moments[0].vector, vector(0))


async def test_a_moment_whose_frames_the_broker_dropped_is_closed(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, 0, 0.0) for _ in range(20)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(10, 0)], stored=True, commits=True))
    one.log.expire(0, 12)
    await one.ended()
    assert [(moment.frames, moment.closed) for moment in one.moments] == [(10, True), (8, True)]
    (gap,) = one.coverage.gaps.values()
    assert (gap.camera, gap.reason, gap.frames, gap.first_offset, gap.last_offset) == ("", "expired", 12, 0, 11)


async def test_a_moment_left_open_by_a_topic_that_was_made_anew_is_closed(tmp_path: Path) -> None:
    history = [Look(0, 500, 0, 0, 0.0) for _ in range(20)]
    one = History(a_log(history, busy=False), tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(10, 0)], stored=True, commits=True))
    one.log = a_log(history, busy=False)
    one.log.name = "1" * 32
    await one.ended()
    assert [(moment.log[0], moment.frames, moment.closed) for moment in one.moments] == [
        ("0", 10, True),
        ("1", 20, True),
    ]


@pytest.mark.parametrize("killed_after", [None, 15, 21, 22, 30])
def test_a_clock_that_steps_back_two_seconds_costs_no_frame_and_leaves_nothing_open(
    tmp_path: Path, killed_after: int | None
) -> None:
    before = [START_MS + 500 * number for number in range(21)]
    times = [*before, *(before[-1] - 2_000 + 500 * number for number in range(1, 20))]
    one = History(a_log_of(times, [1] * 40), tmp_path, SceneEncoder(), "all")
    tried(one, [Chapter([(killed_after, 0)], stored=True, commits=True)] if killed_after else [])
    assert [(moment.first_offset, moment.last_offset, moment.frames) for moment in one.moments] == [
        (0, 20, 21),
        (21, 39, 19),
    ]


def test_an_hour_back_and_a_restart_ten_minutes_later_every_frame_is_still_looked_at(tmp_path: Path) -> None:
    first = [START_MS + 5_000 * number for number in range(720)]
    second = [START_MS + 60_137 + 5_000 * number for number in range(720)]
    scenes = [number // 2 for number in range(720)]
    encoder = SceneEncoder()
    one = History(a_log_of([*first, *second], [*scenes, *scenes]), tmp_path, encoder, "all")
    tried(one, [Chapter([(840, 0)], stored=True, commits=True)])
    assert sum(moment.frames for moment in one.moments) == 1440
    assert 1440 <= encoder.pictures <= 1442


async def test_a_worker_that_read_one_frame_of_an_open_moment_takes_nothing_back(tmp_path: Path) -> None:
    one = History(
        a_log_of([START_MS + 500 * number for number in range(40)], [1] * 40), tmp_path, SceneEncoder(), "all"
    )
    await one.lived(Chapter([(30, 0)], stored=True, commits=True))
    told = [span(moment) for moment in one.moments]
    assert told[0][4] == 30
    await one.lived(Chapter([(1, 0)], stored=True, commits=True))
    assert [span(moment) for moment in one.moments] == told


async def test_a_broker_that_is_away_for_longer_than_silence_closes_nothing(tmp_path: Path) -> None:
    log = a_log_of([START_MS + 500 * number for number in range(40)], [1] * 40)
    one = History(log, tmp_path, SceneEncoder(), "all")
    life = one.life()
    await life.read(20)
    for second in (0.0, 1.0, 35.0, 36.0):
        life.assignment.saw_ends({0: 20} if second != 35.0 else {}, second)
    await life.read(20)
    await life.stored()
    await life.assignment.pipeline.refresh()
    await life.stored()
    assert [(moment.frames, moment.closed) for moment in one.moments] == [(40, False)]
    await life.die()


async def test_an_open_moment_whose_state_is_damaged_keeps_what_it_was_told_with(tmp_path: Path) -> None:
    log = a_log_of([START_MS + 500 * number for number in range(40)], [1] * 40)
    one = History(log, tmp_path, SceneEncoder(), "all")
    await one.lived(Chapter([(30, 0)], stored=True, commits=True))
    (told,) = one.moments
    one.store._moments[told.id] = replace(told, resume="damaged")
    await one.ended()
    assert [(moment.frames, moment.closed) for moment in one.moments] == [(30, True), (10, True)]


async def test_frames_that_the_broker_dropped_before_any_worker_was_there_are_declared(tmp_path: Path) -> None:
    one = History(
        a_log_of([START_MS + 500 * number for number in range(20)], [1] * 20), tmp_path, SceneEncoder(), "all"
    )
    one.log.expire(0, 12)
    await one.ended()
    (gap,) = one.coverage.gaps.values()
    assert (gap.camera, gap.reason, gap.frames, gap.first_offset, gap.last_offset) == ("", "expired", 12, 0, 11)
    assert [moment.frames for moment in one.moments] == [8]
