"""Areas in which movement says nothing, and cameras that are changed while they are watched."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import simplejpeg

from cameras.gate import SIDE, difference
from cameras.looking import Look, Looking
from cameras.sketch import HEIGHT, WIDTH
from cameras.view import ViewWatch
from proto.types import Area, Camera
from tests.cameras.rig import SETTINGS, START_MS, Facts, Register, Sink, hosting, until
from tests.cameras.scenes import Grey, Sensor, grey
from tests.clips import CLIPS

LEFT: Area = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
MOST: Area = ((0.0, 0.0), (0.8, 0.0), (0.8, 1.0), (0.0, 1.0))
BIKES = str(CLIPS["bikes"])


class Eye:
    """Looks at pictures of a noisy camera, twice a second."""

    def __init__(self, *unwatched: Area) -> None:
        self.looking, self.sensor, self.number = Looking(SETTINGS, ViewWatch(), unwatched), Sensor(2.0, 3), 0
        self.picture: Any = None

    def look(self, picture: Grey) -> Look:
        sketch = self.sensor(picture)
        self.picture = SimpleNamespace(
            captured_ms=START_MS + 500 * self.number,
            after_gap=self.number == 0,
            size=(WIDTH, HEIGHT),
            sketch=lambda: sketch,
            crop=lambda cut, longest, quality: b"",
        )
        self.number += 1
        return self.looking.look(self.picture)

    def rest(self, picture: Grey, looks: int) -> None:
        for _ in range(looks):
            self.look(picture)


def with_thing(picture: Grey, left: int) -> Grey:
    seen = picture.copy()
    seen[60:120, left : left + 40] = 255 - seen[60:120, left : left + 40]
    return seen


@pytest.mark.parametrize("areas", [(LEFT,), (MOST,)])
def test_what_moves_in_an_ignored_area_keeps_no_picture_and_is_not_cut_out(areas: tuple[Area, ...]) -> None:
    eye, other, picture = Eye(*areas), Eye(), grey("street")
    eye.rest(picture, 40)
    other.rest(picture, 40)
    kept = 0
    for step in range(15):
        seen = with_thing(picture, 5 + 7 * step)
        judged = eye.look(seen).judgement
        kept += judged.keep
        assert judged.novelty < 0.02
        assert not eye.looking.crops(eye.picture)
        other.look(seen)
        assert other.looking.crops(other.picture)
    assert kept <= 1  # the heartbeat


@pytest.mark.parametrize("areas", [(LEFT,), (MOST,)])
def test_what_moves_beside_it_is_kept_and_cut_out(areas: tuple[Area, ...]) -> None:
    eye, picture = Eye(*areas), grey("street")
    eye.rest(picture, 41)
    assert eye.look(with_thing(picture, 275)).judgement.keep
    (crop,) = eye.looking.crops(eye.picture)
    assert crop.right > 0.85


@pytest.mark.parametrize("areas", [(LEFT,), (MOST,), (LEFT, MOST)])
def test_a_picture_that_becomes_brighter_shows_no_movement_beside_an_ignored_area(areas: tuple[Area, ...]) -> None:
    eye, picture = Eye(*areas), grey("wall")
    eye.rest(picture, 40)
    for step in range(8):
        eye.look(np.clip(picture.astype(float) * (1 + 0.02 * step), 0, 255).astype(picture.dtype))
        assert not eye.looking.crops(eye.picture)


def test_a_picture_that_is_ignored_whole_is_kept_by_the_heartbeat_alone() -> None:
    eye, picture = Eye(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))), grey("street")
    kept = [eye.look(with_thing(picture, 10 * (step % 20))).judgement.keep for step in range(61)]
    assert kept == [step % 20 == 0 for step in range(61)]


def test_a_difference_counts_where_it_is_watched_only() -> None:
    before, after = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    after[:, :16] = 200
    watched = np.ones((SIDE, SIDE), np.bool_)
    assert difference(before, after, watched) == difference(before, after)
    watched[:, :16] = False
    assert difference(before, after, watched).largest == 0
    assert difference(before, after, ~watched).share == 1
    assert difference(before, after, np.zeros_like(watched)).share == 0


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


def hides_left(jpeg: bytes) -> bool:
    pixels = simplejpeg.decode_jpeg(jpeg)
    return bool(pixels[:, : pixels.shape[1] // 2 - 16].max() <= 8)


async def test_masks_and_pace_change_while_a_camera_is_watched_and_it_stays_the_same(facts: Facts) -> None:
    camera = Camera("gate", BIKES, loop=True, novelty=0.0)
    sink, register = Sink(), Register(camera)
    async with hosting(register, sink, facts) as host:
        await until(lambda: len(sink.frames) >= 2, "frames")
        register.cameras = [replace(camera, groups=("yard",))]
        asked = register.asked
        await until(lambda: register.asked > asked + 1, "the groups are read")
        before = len(sink.frames)
        register.cameras = [replace(camera, masks=(LEFT,), fps=10.0)]
        await until(lambda: hides_left(sink.frames[-1].jpeg), "masked", 5)
        changed = len(sink.frames)
        await until(lambda: len(sink.frames) > changed + 10, "frames at their new pace")
        assert host.states()["gate"].now == "open"
    assert not any(hides_left(frame.jpeg) for frame in sink.frames[:before])
    assert all(hides_left(frame.jpeg) for frame in sink.frames[changed:])
    assert len({frame.run for frame in sink.frames}) == 1
    assert [frame.sequence for frame in sink.frames] == list(range(len(sink.frames)))
    times = [frame.captured_ms for frame in sink.frames[changed + 1 :]]
    assert max(later - time for time, later in itertools.pairwise(times)) < 250


async def test_a_camera_that_is_disabled_is_let_go_and_goes_on_where_it_was(facts: Facts) -> None:
    camera = Camera("gate", BIKES, loop=True, novelty=0.0)
    sink, register = Sink(), Register(camera)
    async with hosting(register, sink, facts) as host:
        await until(lambda: len(sink.frames) >= 2, "frames")
        register.cameras = [replace(camera, enabled=False)]
        await until(lambda: not host.states(), "let go")
        await until(lambda: facts.holder("camera/gate", 0) is None, "the lease is given back")
        seen = len(sink.frames)
        asked = register.asked
        await until(lambda: register.asked > asked + 2, "time passes")
        assert len(sink.frames) == seen
        register.cameras = [camera]
        await until(lambda: len(sink.frames) > seen, "watched again")
    assert len({frame.run for frame in sink.frames}) == 1
    assert [frame.sequence for frame in sink.frames] == list(range(len(sink.frames)))
