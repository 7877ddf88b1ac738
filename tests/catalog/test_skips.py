from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.skips import Skipped, Skips
from proto.errors import Broken


def frames(first: int, last: int, *, at_ms: int = 0) -> list[tuple[int, int]]:
    """Offsets with times, two a second."""
    return [(number, at_ms + 500 * number) for number in range(first, last + 1)]


def test_nothing_was_skipped_where_nothing_was_noted(tmp_path: Path) -> None:
    assert Skips(tmp_path / "not there").within(None, None, None) == []


def test_what_is_noted_is_told_by_another_process(tmp_path: Path) -> None:
    reader = Skips(tmp_path)
    for last in (3, 5):
        Skips(tmp_path).note("gate", frames(0, last))
        assert reader.within(None, None, None) == [Skipped("gate", 0, 500 * last, last + 1)]


def test_only_the_cameras_and_the_time_that_were_asked_for_count(tmp_path: Path) -> None:
    skips = Skips(tmp_path)
    skips.note("gate", [*frames(0, 3), *frames(4, 5, at_ms=100_000)])
    skips.note("dock", frames(0, 0))
    later = Skipped("gate", 102_000, 102_500, 2)
    assert [(one.camera, one.frames) for one in skips.within(None, None, None)] == [
        ("dock", 1),
        ("gate", 4),
        ("gate", 2),
    ]
    assert skips.within(frozenset({"gate", "yard"}), 1_501, None) == [later]
    assert skips.within(frozenset({"gate"}), 102_500, 102_501) == [later]
    assert skips.within(frozenset({"gate"}), 0, 0) == []
    assert skips.within(frozenset(), None, None) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_frames_that_a_restarted_worker_skips_again_count_once(tmp_path: Path, replays: list[tuple[int, int]]) -> None:
    (tmp_path / "gate.json").unlink(missing_ok=True)
    reached = 0
    for begin, length in replays:
        # A restart goes back, and never over what was not read yet.
        begun = min(begin, reached)
        Skips(tmp_path).note("gate", frames(begun, begun + length))
        reached = max(reached, begun + length + 1)
    assert sum(one.frames for one in Skips(tmp_path).within(None, None, None)) == reached


def test_a_topic_that_was_made_anew_and_a_clock_that_jumped_back_are_counted(tmp_path: Path) -> None:
    skips = Skips(tmp_path)
    skips.note("gate", frames(100, 109))
    skips.note("gate", frames(0, 9, at_ms=60_000))
    skips.note("gate", [(offset + 10, at_ms) for offset, at_ms in frames(0, 9)])
    assert sum(one.frames for one in skips.within(None, None, None)) == 30


def test_a_damaged_file_is_told_and_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text("{")
    with pytest.raises(Broken, match="damaged"):
        Skips(tmp_path).within(None, None, None)
