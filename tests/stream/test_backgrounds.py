from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog.backgrounds import MOST_SAMPLES, Background, Backgrounds
from proto.errors import Broken
from proto.types import WHOLE, Moment, Region
from stream.backgrounds import EVERY_S, Sampler
from stream.consumer import Mark
from stream.moments import Write
from stream.settings import StreamSettings
from tests.catalog.shared import opened
from tests.contracts.moments import NOON, SPACE, moment
from tests.stream.rig import Bench, SceneEncoder, script, working


def closed(number: int, camera: str = "gate", view: int = 0, regions: int = 0) -> Write:
    told = moment(camera, NOON + 1000 * number, closed=True)
    region = Region(told.start_ms, WHOLE, told.vector)
    return Write(replace(told, regions=(region,) * regions), None, (Mark(0, number),), view=view)


def flushed(sampler: Sampler) -> None:
    while taken := sampler.take():
        sampler.learn(sampler.flush(taken))


def kept(backgrounds: Backgrounds, camera: str = "gate") -> Background:
    [found] = backgrounds.get(SPACE.id, frozenset({camera}))
    return found


def ids(writes: list[Write]) -> set[str]:
    return {write.moment.id for write in writes}


@pytest.fixture
def backgrounds(tmp_path: Path) -> Backgrounds:
    return Backgrounds(opened(tmp_path))


def test_a_closed_moment_is_sampled_with_the_vectors_of_all_its_rows(backgrounds: Backgrounds) -> None:
    sampler = Sampler(backgrounds, SPACE.id)
    sampler.offer([closed(1, view=3, regions=2)])
    flushed(sampler)
    found = kept(backgrounds)
    assert (found.view, [sample.shape for sample in found.samples]) == (3, [(3, SPACE.dimension)])
    np.testing.assert_allclose(found.samples[0][0], closed(1).moment.vector, atol=1e-3)


def test_moments_that_go_on_and_those_that_were_only_closed_for_others_are_not_sampled() -> None:
    sampler = Sampler(Failing(), SPACE.id)
    going_on: Moment = moment("gate", NOON, closed=False)
    sampler.offer([Write(going_on, None, ()), replace(closed(2), finishes=())])
    assert sampler.take() == []


def test_the_sample_is_the_same_however_often_it_is_written_and_whoever_writes_it(tmp_path: Path) -> None:
    writes = [closed(number) for number in range(200)]
    found = []
    for every in (1000, 50, 7):
        backgrounds = Backgrounds(opened(tmp_path / str(every)))
        for first in range(0, len(writes), every):
            sampler = Sampler(backgrounds, SPACE.id)  # as a worker that was just given the partition
            for one in writes[first : first + every]:
                sampler.offer([one])
            flushed(sampler)
        found.append(kept(backgrounds).moments)
    assert len(found[0]) == MOST_SAMPLES
    assert found[0] == found[1] == found[2]


def test_one_worker_that_learns_what_cannot_matter_keeps_the_same_sample(backgrounds: Backgrounds) -> None:
    writes = [closed(number) for number in range(200)]
    sampler, at_once = Sampler(backgrounds, SPACE.id), Sampler(backgrounds, "f" * 16)
    for first in range(0, 200, 10):
        sampler.offer(writes[first : first + 10])
        flushed(sampler)
    at_once.offer(writes)
    flushed(at_once)
    [other] = backgrounds.get("f" * 16)
    assert set(kept(backgrounds).moments) == set(other.moments)


def test_a_long_day_is_represented_evenly(backgrounds: Backgrounds) -> None:
    writes = [closed(number) for number in range(2000)]
    sampler = Sampler(backgrounds, SPACE.id)
    sampler.offer(writes)
    flushed(sampler)
    places = [number for number, write in enumerate(writes) if write.moment.id in kept(backgrounds).moments]
    assert sum(place < 1000 for place in places) in range(8, 25)


def test_a_new_view_starts_the_sample_anew(backgrounds: Backgrounds) -> None:
    sampler = Sampler(backgrounds, SPACE.id)
    sampler.offer([closed(number) for number in range(MOST_SAMPLES)])
    flushed(sampler)
    after = [closed(number, view=1) for number in range(100, 103)]
    sampler.offer(after)
    flushed(sampler)
    assert kept(backgrounds).view == 1
    assert set(kept(backgrounds).moments) == ids(after)


def test_what_an_old_view_taught_does_not_keep_moments_of_a_new_one_out(backgrounds: Backgrounds) -> None:
    sampler = Sampler(backgrounds, SPACE.id)
    sampler.offer([closed(number) for number in range(500)])
    limits = sampler.flush(sampler.take())
    after = [closed(number, view=1) for number in range(1000, 1000 + MOST_SAMPLES)]
    sampler.offer(after)
    sampler.learn(limits)
    flushed(sampler)
    assert set(kept(backgrounds).moments) == ids(after)


def test_a_moment_that_is_stored_twice_counts_once(backgrounds: Backgrounds) -> None:
    sampler = Sampler(backgrounds, SPACE.id)
    for _ in range(2):
        sampler.offer([closed(1)])
        flushed(sampler)
    assert kept(backgrounds).moments == (closed(1).moment.id,)


def test_a_batch_is_bounded_and_every_camera_has_its_turn(backgrounds: Backgrounds) -> None:
    sampler = Sampler(backgrounds, SPACE.id)
    sampler.offer([closed(number, camera=f"cam-{number}") for number in range(20)])
    first, second = sampler.take(), sampler.take()
    assert (len(first), len(second)) == (16, 4)
    assert {name for name, _, _ in (*first, *second)} == {f"cam-{number}" for number in range(20)}


def test_what_waits_is_bounded_however_many_cameras_there_are(backgrounds: Backgrounds) -> None:
    sampler = Sampler(backgrounds, SPACE.id)
    sampler.offer([closed(number, camera=f"cam-{number}") for number in range(600)])
    waiting = 0
    while taken := sampler.take():
        waiting += len(taken)
    assert waiting == 512


class Failing:
    """A catalog that cannot be used."""

    def put(self, space: str, background: Background) -> None:
        raise Broken("the disk is full", todo="free some space")

    def get(self, space: str, cameras: frozenset[str] | None = None) -> list[Background]:
        return []


def test_a_catalog_that_fails_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    sampler = Sampler(Failing(), SPACE.id)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            sampler.offer([closed(number)])
            flushed(sampler)
    assert [one.getMessage() for one in caplog.records] == [
        "backgrounds are not kept up from now on: the disk is full: free some space"
    ]


async def test_a_worker_that_leaves_keeps_what_it_sampled(tmp_path: Path, backgrounds: Backgrounds) -> None:
    bench = Bench(tmp_path)
    bench.settings = StreamSettings(refresh_s=0.05, catch_up="all")
    frames = script(cameras=2, frames=20)
    await bench.publish(frames)
    async with working(bench.worker(SceneEncoder(), backgrounds=backgrounds)):
        await bench.until_stored(frames)
    found = {one.camera: set(one.moments) for one in backgrounds.get(bench.store.space.id)}
    done = [one for one in bench.spans() if one.closed]
    assert found == {camera: {one.id for one in done if one.camera == camera} for camera in ("cam-0", "cam-1")}


async def test_a_worker_writes_everything_that_it_sampled_each_time(
    tmp_path: Path, backgrounds: Backgrounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, ticks = Bench(tmp_path), [EVERY_S]

    async def tick(seconds: float) -> None:
        if not ticks:
            raise asyncio.CancelledError
        assert ticks.pop() == seconds

    worker = bench.worker(SceneEncoder(), backgrounds=backgrounds)
    worker._fence.passes = lambda work: work()  # type: ignore[assignment, method-assign]
    worker._sampler = Sampler(backgrounds, SPACE.id)
    worker._sampler.offer([closed(number, camera=f"cam-{number}") for number in range(40)])
    monkeypatch.setattr("stream.worker.asyncio.sleep", tick)
    with pytest.raises(asyncio.CancelledError):
        await worker._keep_backgrounds_for_ever()
    assert len(backgrounds.get(SPACE.id)) == 40
