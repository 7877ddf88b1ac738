from __future__ import annotations

import pytest

from loadtests.fleet import SCENES, Plan, picture, scene_of


def test_a_picture_tells_its_scene() -> None:
    assert [scene_of(picture(scene)) for scene in range(SCENES)] == list(range(SCENES))


def test_a_scene_begins_where_it_has_no_age() -> None:
    plan = Plan()
    begins = [number for number in range(40) if plan.begins_scene(2, number)]
    assert begins == [0, 8, 16, 24, 32]
    assert all(plan.scene(2, number) != plan.scene(2, number - 1) for number in begins[1:])


def test_without_a_gate_every_look_is_sent() -> None:
    assert all(Plan().keeps(camera, number) for camera in range(9) for number in range(50))


def test_the_gate_keeps_the_looks_at_the_beginning_of_a_scene() -> None:
    plan = Plan(moving=3)
    assert [number for number in range(16) if plan.keeps(2, number)] == [0, 1, 2, 8, 9, 10]


@pytest.mark.parametrize("moving", [0, 3, 40])
def test_what_is_kept_a_second_is_what_the_looks_say(moving: int) -> None:
    plan = Plan(cameras=3, moving=moving)
    looks = 6 * 7 * 8  # so many, that the scenes of each camera come out even
    kept = sum(plan.keeps(camera, number) for camera in range(plan.cameras) for number in range(looks))
    assert plan.kept_a_second == pytest.approx(2 * kept / looks)


def test_scenes_of_a_fixed_length_do_not_change_on_all_cameras_at_once() -> None:
    plan = Plan(cameras=3, scene_looks=10)
    begins = [[number for number in range(30) if plan.begins_scene(camera, number)] for camera in range(3)]
    assert begins == [[0, 10, 20], [9, 19, 29], [8, 18, 28]]
