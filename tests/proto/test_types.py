from __future__ import annotations

import pytest

from proto.errors import Invalid
from proto.types import MOMENT_ID, camera_name, moment_id


@pytest.mark.parametrize("name", ["a", "Gate-1", "0.door_b", "x" * 64])
def test_a_good_camera_name_is_given_back(name: str) -> None:
    assert camera_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a\n", "a/b", "é", "x" * 65, 'a" or 1==1', "a\0"])
def test_a_name_that_could_break_a_path_a_key_or_a_filter_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="camera's name"):
        camera_name(name)


def test_a_moment_has_the_same_id_at_every_replay_and_another_in_every_other_place() -> None:
    first = moment_id("s", "gate", 1000)
    assert MOMENT_ID.fullmatch(first)
    assert first == moment_id("s", "gate", 1000)
    others = {moment_id("t", "gate", 1000), moment_id("s", "yard", 1000), moment_id("s", "gate", 1001)}
    assert first not in others
    assert len(others) == 3


def test_the_parts_of_an_id_cannot_run_into_each_other() -> None:
    assert moment_id("s", "a1", 11) != moment_id("s", "a", 111)
