from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameras.framing import cuts
from cameras.gate import NoveltyGate
from cameras.moved import COLUMNS, ROWS, Motion, Patch
from cameras.sketch import HEIGHT, WIDTH, halved, signature
from tests.cameras.scenes import Grey, Sensor, grey

STEP_S = 0.5
PLACES = ("street", "railing", "wall", "meadow")
places = pytest.mark.parametrize("place", PLACES)
Box = tuple[int, int, int, int]


def with_thing(picture: Grey, share: float, left: float, contrast: float = 60.0) -> tuple[Grey, Box]:
    """A striped thing, twice as high as wide, that covers this share of the picture; and where it is in the sketch."""
    high = round((2 * share * WIDTH * HEIGHT) ** 0.5)
    wide, top, begin = high // 2, HEIGHT // 2 - high // 2, round(left * WIDTH)
    seen = picture.copy()
    under = seen[top : top + high, begin : begin + wide]
    stripes = np.where(np.arange(high)[:, None] % 16 < 11, contrast, contrast / 3)
    under[:] = np.where(under.mean() > 128, under - stripes, under + stripes)
    return seen, (begin, top, begin + wide, top + high)


class Camera:
    """A camera whose pictures are looked at twice a second."""

    def __init__(self, noise: float = 2.0, seed: int = 3) -> None:
        self.motion, self.sensor, self.at_s = Motion(), Sensor(noise, seed), 0.0

    def sees(self, picture: Grey, *, after_gap: bool = False) -> tuple[Patch, ...]:
        self.at_s += STEP_S
        return self.motion.look(halved(self.sensor(picture)), self.at_s, after_gap=after_gap)

    def rests(self, picture: Grey, for_s: float) -> list[tuple[Patch, ...]]:
        return [self.sees(picture) for _ in range(round(for_s / STEP_S))]


def holds(patch: Patch, box: Box) -> bool:
    """Whether the patch lies over the middle of the box, and not far around it."""
    across, down = WIDTH / COLUMNS, HEIGHT / ROWS
    middle = (box[0] + box[2]) / 2 / across, (box[1] + box[3]) / 2 / down
    inside = patch.left <= middle[0] <= patch.right and patch.top <= middle[1] <= patch.bottom
    most = ((box[2] - box[0]) / across + 2) * ((box[3] - box[1]) / down + 2)
    return inside and (patch.right - patch.left) * (patch.bottom - patch.top) <= most


@places
@pytest.mark.parametrize("share", [0.005, 0.01, 0.02, 0.1])
def test_a_thing_is_found_where_it_is_now_in_every_picture_of_its_way(place: str, share: float) -> None:
    camera, picture = Camera(), grey(place)
    camera.rests(picture, 20)
    for step in range(20):
        seen, box = with_thing(picture, share, 0.05 + 0.035 * step)
        patches = camera.sees(seen)
        assert patches and holds(patches[0], box)
        assert len(patches) == 1


@places
@pytest.mark.parametrize("noise", [1.0, 3.0, 8.0])
def test_sensor_noise_moves_nothing(place: str, noise: float) -> None:
    assert not any(Camera(noise).rests(grey(place), 120))


@places
def test_lamps_that_flicker_and_exposure_that_is_set_anew_move_nothing(place: str) -> None:
    camera, picture = Camera(), 0.7 * grey(place)
    camera.rests(picture, 20)
    assert not any(camera.sees(picture * np.float32(1 + 0.04 * np.sin(at * 2.1))) for at in range(60))
    for gain in (1.2, 0.9, 1.3, 1.0):
        assert not any(camera.rests(picture * np.float32(gain), 10))


def test_a_thing_that_comes_to_rest_is_background_after_a_while_and_leaves_no_ghost() -> None:
    camera, picture = Camera(), grey("wall")
    camera.rests(picture, 20)
    standing, box = with_thing(picture, 0.02, 0.4)
    assert all(camera.rests(standing, 10))
    camera.rests(standing, 10)
    assert not any(camera.rests(standing, 10))
    walking, there = with_thing(picture, 0.02, 0.7)
    patches = camera.sees(walking)
    assert [holds(patch, there) for patch in patches] == [True]
    assert not any(holds(patch, box) for patch in patches)
    assert not any(camera.rests(picture, 10))


def test_what_the_first_picture_showed_leaves_a_ghost_for_seconds_only() -> None:
    camera = Camera()
    picture = grey("wall")
    camera.rests(with_thing(picture, 0.02, 0.4)[0], 3)
    after = camera.rests(picture, 10)
    assert not any(after[8:])


def test_a_tree_in_the_wind_fades_and_a_thing_beside_it_does_not() -> None:
    camera, picture = Camera(), grey("meadow")

    def in_wind(at: int, seen: Grey) -> Grey:
        moved = seen.copy()
        moved[:90, 40:140] = np.roll(seen, round(3 * np.sin(0.9 * at) + 2 * np.sin(0.37 * at)), axis=1)[:90, 40:140]
        return moved

    for at in range(240):
        camera.sees(in_wind(at, picture))
    swaying = [camera.sees(in_wind(at, picture)) for at in range(240, 300)]
    assert sum(map(bool, swaying)) <= 15
    seen, box = with_thing(picture, 0.01, 0.7)
    assert any(holds(patch, box) for patch in camera.sees(in_wind(300, seen))[:1])


@pytest.mark.parametrize("after_gap", [False, True])
def test_a_picture_that_is_new_as_a_whole_holds_nothing_that_moved(after_gap: bool) -> None:
    camera = Camera()
    camera.rests(grey("wall"), 20)
    other = grey("wall") if after_gap else grey("meadow")
    assert camera.sees(with_thing(other, 0.02, 0.4)[0], after_gap=after_gap) == ()


def kept(camera: Camera, gate: NoveltyGate, picture: Grey, *, told: bool = True) -> bool:
    """Whether the next picture is kept; `told`: also for what comes and goes."""
    camera.at_s += STEP_S
    half = halved(camera.sensor(picture))
    camera.motion.look(half, camera.at_s, after_gap=False)
    came_or_went = told and (camera.motion.arrived() or camera.motion.departed())
    judgement = gate.judge(signature(half), camera.at_s, after_gap=False, told=came_or_went)
    if judgement.keep:
        camera.motion.kept()
    return judgement.keep


@places
@pytest.mark.parametrize("share", [0.005, 0.02])
def test_a_small_thing_that_the_signature_misses_is_a_reason_to_keep_the_picture(place: str, share: float) -> None:
    faint = {0.005: 24.0, 0.02: 9.0}[share]
    found = []
    for told in (False, True):
        camera, gate, picture = Camera(1.0), NoveltyGate(0.05, heartbeat_s=1000), grey(place)
        for _ in range(40):
            kept(camera, gate, picture, told=told)
        way = [with_thing(picture, share, 0.3 + 0.02 * step, faint)[0] for step in range(5)]
        found.append(sum(kept(camera, gate, seen, told=told) for seen in way) > 0)
    assert found == [False, True]


@places
@pytest.mark.parametrize("noise", [1.5, 6.0])
def test_a_quiet_scene_keeps_no_more_pictures_for_what_comes_and_goes(place: str, noise: float) -> None:
    counts = []
    for told in (False, True):
        camera, gate = Camera(noise), NoveltyGate(0.02, heartbeat_s=10)
        counts.append(sum(kept(camera, gate, grey(place), told=told) for _ in range(240)))
    assert counts[0] == counts[1] == 12


def test_a_thing_that_stays_arrives_once() -> None:
    camera, gate, picture = Camera(), NoveltyGate(1.0, heartbeat_s=1000), grey("wall")
    for _ in range(40):
        kept(camera, gate, picture)
    standing = with_thing(picture, 0.02, 0.4)[0]
    assert sum(kept(camera, gate, standing) for _ in range(20)) == 1


def test_a_picture_without_what_the_last_one_kept_shows_is_kept_once() -> None:
    camera, gate, picture = Camera(), NoveltyGate(1.0, heartbeat_s=1000), grey("wall")
    for _ in range(40):
        kept(camera, gate, picture)
    for step in range(6):
        kept(camera, gate, with_thing(picture, 0.02, 0.3 + 0.04 * step)[0])
    gone = [kept(camera, gate, picture) for _ in range(20)]
    assert gone == [False, True] + [False] * 18


def test_a_thing_that_is_not_seen_in_one_picture_has_not_gone() -> None:
    camera, gate, picture = Camera(), NoveltyGate(1.0, heartbeat_s=1000), grey("wall")
    for _ in range(40):
        kept(camera, gate, picture)
    standing = with_thing(picture, 0.02, 0.4)[0]
    assert [kept(camera, gate, seen) for seen in (standing, picture, standing, standing)] == [True] + [False] * 3


def patch(left: int, top: int, right: int, bottom: int, telling: float = 1.0) -> Patch:
    return Patch(left, top, right, bottom, (right - left) * (bottom - top), telling, 2.0)


def test_a_cut_has_some_context_and_the_least_size_where_the_source_has_it() -> None:
    (large,) = cuts([patch(10, 6, 20, 18)], 1920, 1080, 3)
    assert (large.width, large.height) == (round(1.25 * 480), round(1.25 * 540))
    (small,) = cuts([patch(0, 0, 2, 2)], 640, 360, 3)
    assert (small.left, small.top, small.width, small.height) == (0, 0, 96, 96)
    (tiny,) = cuts([patch(0, 0, 2, 2)], 80, 60, 3)
    assert (tiny.width, tiny.height) == (80, 60)


def test_cuts_that_overlap_are_one_and_the_most_telling_come_first() -> None:
    near = [patch(2, 2, 6, 6, 3.0), patch(6, 3, 10, 7, 4.0), patch(30, 15, 33, 19, 5.0), patch(20, 2, 23, 5, 1.0)]
    found = cuts(near, 640, 360, 2)
    assert [one.left > 320 for one in found] == [False, True]
    assert len(cuts(near, 640, 360, 3)) == 3
    assert cuts(near, 640, 360, 0) == []


sides = st.tuples(st.integers(0, COLUMNS - 1), st.integers(0, ROWS - 1), st.integers(1, 20), st.integers(1, 20))


@given(found=st.lists(sides, max_size=12), width=st.integers(2, 4000), height=st.integers(2, 4000))
def test_cuts_lie_inside_the_picture(found: list[tuple[int, int, int, int]], width: int, height: int) -> None:
    patches = [patch(left, top, min(COLUMNS, left + wide), min(ROWS, top + high)) for left, top, wide, high in found]
    for cut in cuts(patches, width, height, 3):
        assert 0 <= cut.left < cut.right <= width
        assert 0 <= cut.top < cut.bottom <= height
