from __future__ import annotations

import pytest

from stream.scene import Departure, Scene


def restless(noise: float, frames: int = 10) -> Scene:
    scene = Scene(0.15)
    for _ in range(frames):
        scene.keeps(Departure(noise, 0.0, 0.0))
    return scene


def test_a_distance_that_ends_a_quiet_scene_does_not_end_a_restless_one() -> None:
    change = Departure(distance=0.3, novelty=0.5, usual=0.4)
    assert restless(0.02).ends_with(change, young=False)
    assert not restless(0.2).ends_with(change, young=False)


def test_one_odd_frame_does_not_make_a_scene_restless() -> None:
    scene = restless(0.02)
    scene.keeps(Departure(0.6, 0.0, 0.0))
    assert scene.noise == pytest.approx(0.02)


def test_a_picture_that_moves_no_more_than_usual_needs_a_distance_that_speaks_alone() -> None:
    scene = restless(0.03)
    assert not scene.ends_with(Departure(0.2, novelty=0.6, usual=0.6), young=False)
    assert scene.ends_with(Departure(0.25, novelty=0.6, usual=0.6), young=False)


def test_much_that_is_new_in_the_picture_needs_little_distance() -> None:
    assert Scene(0.15).ends_with(Departure(0.06, novelty=0.5, usual=0.1), young=False)
    assert not Scene(0.15).ends_with(Departure(0.04, novelty=0.5, usual=0.1), young=False)


def test_something_small_that_changes_the_meaning_of_a_still_scene_ends_it() -> None:
    assert restless(0.005).ends_with(Departure(0.16, novelty=0.02, usual=0.0), young=False)


def test_a_young_moment_ends_at_a_flash_only() -> None:
    motion, flash = Departure(0.4, novelty=0.7, usual=0.1), Departure(0.4, novelty=0.95, usual=0.1)
    assert not Scene(0.15).ends_with(motion, young=True)
    assert Scene(0.15).ends_with(flash, young=True)
    assert Scene(0.15).ends_with(motion, young=False)


def test_a_camera_on_the_move_is_not_cut_at_every_picture() -> None:
    assert not Scene(0.15).ends_with(Departure(0.4, novelty=0.95, usual=0.92), young=True)


def test_a_scene_that_is_gone_on_with_judges_by_the_distances_it_had() -> None:
    before = restless(0.2)
    after = Scene(0.15, list(before.distances))
    assert after.noise == before.noise
    assert not after.ends_with(Departure(distance=0.3, novelty=0.5, usual=0.4), young=False)


def test_only_the_latest_distances_count_as_noise() -> None:
    scene = restless(0.2, frames=32)
    for _ in range(32):
        scene.keeps(Departure(0.02, 0.0, 0.0))
    assert scene.noise == pytest.approx(0.02)
    assert len(scene.distances) == 32


@pytest.mark.parametrize(
    ("novelty", "usual", "plain"), [(0.3, 0.05, True), (0.29, 0.0, False), (0.6, 0.45, False), (0.6, 0.35, True)]
)
def test_much_that_is_new_and_unusual_is_plainly_something_new(novelty: float, usual: float, plain: bool) -> None:
    assert Departure(0.0, novelty, usual).is_plain is plain
