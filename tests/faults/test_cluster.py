"""What the drills of a whole cluster judge by."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.ledger import Sent
from loadtests.topics import Taken
from tests.faults.cluster import NotTogether, check_together, tree_of
from tests.faults.house import ROOT
from tests.faults.partitions import Death, watched_again
from tests.faults.upgrades import broken_runs, gaps_seen
from tests.faults.users import COLUMNS, Seen, Users


def taken(camera: str, *numbers: int, run: int = 1, recorded: bool = True) -> list[Taken]:
    return [Taken(Sent((0, number), camera, number * 500, number), run, recorded) for number in numbers]


def tree(folder: Path, rows: str, catalog: int) -> Path:
    texts = {"index/places.py": f'_SCHEME = "{rows}"\n', "catalog/tables.py": f'REVISION = "000{catalog}"\n'}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    return folder


def test_versions_that_share_rows_and_catalog_run_side_by_side(tmp_path: Path) -> None:
    check_together(ROOT)
    check_together(tree(tmp_path / "old", "rows3", 1), tree(tmp_path / "new", "rows3", 1))


@pytest.mark.parametrize(("rows", "catalog", "named"), [("rows4", 1, "rows3 and rows4"), ("rows3", 2, "0001 and 0002")])
def test_versions_that_do_not_are_refused_with_the_reason(tmp_path: Path, rows: str, catalog: int, named: str) -> None:
    with pytest.raises(NotTogether, match=named):
        check_together(tree(tmp_path / "old", "rows3", 1), tree(tmp_path / "new", rows, catalog))


def test_an_unknown_commit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotTogether, match="no commit"):
        tree_of("no-such-commit", tmp_path / "old")


def test_a_recording_of_which_a_frame_is_missing_is_told() -> None:
    assert broken_runs(taken("gate", 0, 1, 2)) == []
    (told,) = broken_runs(taken("gate", 0, 2, 3))
    assert "1 frames of gate (run 1) never reached the broker: 1" in told


def test_a_recording_that_began_anew_is_told() -> None:
    assert broken_runs([*taken("gate", 0, 1), *taken("gate", 0, run=2)]) == ["gate began anew: 2 runs"]


def test_a_live_camera_may_miss_frames_and_its_longest_gap_is_told() -> None:
    frames = [*taken("door", 0, 1, 9, recorded=False), *taken("gate", 0, 1)]
    assert broken_runs(frames) == []
    assert gaps_seen(frames) == {"longest gap of a live camera, s": 4.0, "of a recording, s": 0.5}


def seen_at(camera: str, *seconds: int) -> list[Taken]:
    return [Taken(Sent((0, at_s), camera, 0, at_s), 1, False, at_s * 1000) for at_s in seconds]


def test_it_is_told_how_soon_the_cameras_of_a_dead_host_produced_elsewhere() -> None:
    frames = [*seen_at("gate", 99, 101, 117, 118), *seen_at("door", 112), *seen_at("other", 101)]
    notes, wrong = watched_again(frames, [Death("b", 100_000, frozenset({"gate", "door"}))])
    assert wrong == []
    assert notes == {"b killed: its cameras": 2, "b killed: they produce after, s": 17.0}


def test_a_camera_of_a_dead_host_that_produced_too_late_is_told() -> None:
    _, wrong = watched_again(seen_at("gate", 99, 190), [Death("b", 100_000, frozenset({"gate", "door"}))])
    assert [told.split(" did")[0] for told in wrong] == ["door of b", "gate of b"]


def test_a_host_that_watched_nothing_shows_nothing_by_its_death() -> None:
    _, wrong = watched_again([], [Death("b", 100_000, frozenset())])
    assert wrong == ["no camera was watched on b before it was killed"]


def test_each_way_in_which_searches_failed_is_told_once_and_the_most_frequent_first() -> None:
    users = Users([], frozenset())
    users.phase("b killed").failed += ["gone", "late by 3 s", "late by 5 s"]
    assert users.complaints() == [
        "2 searches failed (b killed), such as: late by 3 s",
        "1 searches failed (b killed), such as: gone",
    ]


def test_each_column_of_what_users_saw_has_a_cell() -> None:
    seen = Seen("calm", asked=3, again=1, failed=["away"], partial=1, seconds=[0.1, 0.3], behind_s=[1.0, 2.0])
    assert dict(zip(COLUMNS, seen.cells(), strict=True)) == {
        "asked": "3",
        "again": "1",
        "failed": "1",
        "partial": "1",
        "p50 ms": "200",
        "p99 ms": "298",
        "behind s": "1.5",
        "most": "2.0",
    }
