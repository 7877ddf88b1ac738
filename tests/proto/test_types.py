from __future__ import annotations

import pytest

from index.store import LATEST_MS
from proto.errors import Invalid
from proto.types import MOMENT_ID, camera_name, moment_id, start_of


@pytest.mark.parametrize("name", ["a", "Gate-1", "0.door_b", "x" * 64])
def test_a_good_camera_name_is_given_back(name: str) -> None:
    assert camera_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a b", "a\n", "a/b", "é", "x" * 65, 'a" or 1==1', "a\0"])
def test_a_name_that_could_break_a_path_a_key_or_a_filter_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="camera's name"):
        camera_name(name)


LOG, OTHER = "0" * 32, "f" * 32


def test_a_moment_has_the_same_id_at_every_replay_and_another_in_every_other_place() -> None:
    first = moment_id("gate", 1000, LOG, 3, 7)
    assert MOMENT_ID.fullmatch(first)
    assert first == moment_id("gate", 1000, LOG, 3, 7)
    others = {
        moment_id("yard", 1000, LOG, 3, 7),
        moment_id("gate", 1001, LOG, 3, 7),
        moment_id("gate", 1000, OTHER, 3, 7),
        moment_id("gate", 1000, LOG, 4, 7),
        moment_id("gate", 1000, LOG, 3, 8),
    }
    assert len(others | {first}) == 6


def test_the_parts_of_an_id_cannot_run_into_each_other() -> None:
    assert moment_id("gate", 1000, LOG, 1, 11) != moment_id("gate", 1000, LOG, 11, 1)


def test_an_id_tells_its_start_and_ids_sort_by_time() -> None:
    times = [0, 1, 999, 1_767_225_600_000, LATEST_MS]
    ids = [moment_id(f"cam-{9 - number}", at_ms, LOG, 0, number) for number, at_ms in enumerate(times)]
    assert [start_of(name) for name in ids] == times
    assert sorted(ids) == ids
