from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from catalog.coverage import MOST_ROWS, TOGETHER_MS, Coverage, Gap, Looked, Reason
from catalog.progress import Progress, Progresses
from catalog.store import Catalog
from tests.catalog.shared import opened, run_together
from tests.histories import examples

LOG, OTHER_LOG = "a" * 32, "b" * 32
HOUR = 3_600_000
NOON = 1_767_268_800_000


@pytest.fixture
def coverage(url: str) -> Coverage:
    return Coverage(opened(url))


def shed(first: int, last: int, *, camera: str = "gate", at_ms: int = NOON, log: str = LOG, partition: int = 0) -> Gap:
    """Offsets `first` to `last`, one frame each, two a second."""
    return Gap(
        camera, Reason.SHED, at_ms + 500 * first, at_ms + 500 * last, last - first + 1, log, partition, first, last
    )


def told(gap: Gap) -> Gap:
    """As an answer tells it: without its place."""
    return replace(gap, log="", partition=-1, first_offset=-1, last_offset=-1)


def test_where_nothing_was_declared_there_is_no_gap(coverage: Coverage) -> None:
    assert coverage.gaps(None, None, None) == []
    assert coverage.declared(LOG, 0, 0) == []
    assert coverage.marks() == []
    assert coverage.partition_mark(LOG, 0) is None
    coverage.declare([])
    coverage.looked([], {})


def test_what_one_process_declares_another_one_tells(coverage: Coverage, url: str) -> None:
    coverage.declare([shed(0, 3)])
    assert Coverage(opened(url)).gaps(None, None, None) == [told(shed(0, 3))]


def test_only_the_asked_cameras_and_frames_of_any_camera_are_told(coverage: Coverage) -> None:
    expired = Gap("", Reason.EXPIRED, NOON, NOON + 1000, 5, LOG, 0, 0, 9)
    coverage.declare([shed(0, 3), shed(0, 3, camera="dock"), expired])
    found = coverage.gaps(frozenset({"gate", "yard"}), None, None)
    assert [(gap.camera, gap.reason, gap.frames) for gap in found] == [("", "expired", 5), ("gate", "shed", 4)]
    assert coverage.gaps(frozenset(), None, None) == []


def test_many_asked_cameras_are_told_apart_from_the_others_too(coverage: Coverage) -> None:
    coverage.declare([shed(0, 3), shed(0, 3, camera="dock")])
    many = frozenset({"gate", *(f"cam-{number}" for number in range(2000))})
    assert [gap.camera for gap in coverage.gaps(many, None, None)] == ["gate"]
    coverage.looked([Looked("gate", NOON, LOG, 0, 3), Looked("dock", NOON, LOG, 0, 3)], {})
    assert [mark.camera for mark in coverage.marks(many)] == ["gate"]


@given(
    length=st.sampled_from([0, 1, 59_999, 60_000, 240_000, HOUR, 30 * 24 * HOUR, 10 * 365 * 24 * HOUR]),
    before=st.integers(-2, 2),
    after=st.integers(-2, 2),
)
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_gap_of_any_length_is_told_exactly_where_it_overlaps(
    coverage: Coverage, length: int, before: int, after: int
) -> None:
    gap = Gap("gate", Reason.LOST, NOON, NOON + length)
    with coverage._catalog.writing() as connection:
        connection.exec_driver_sql("DELETE FROM declared_gaps")
    coverage.declare([gap])
    # Both its ends are included, the end that was asked for is not.
    starts_in_time = before <= 0
    ends_in_time = after > 0
    assert coverage.gaps(None, NOON + length + before, None) == ([gap] if starts_in_time else [])
    assert coverage.gaps(None, None, NOON + after) == ([gap] if ends_in_time else [])
    found = coverage.gaps(None, NOON + length + before, NOON + length + 3)
    assert found == ([gap] if starts_in_time else [])


def test_neighbours_are_told_as_one_and_others_apart(coverage: Coverage) -> None:
    first = Gap("gate", Reason.LOST, NOON, NOON + 1000, 2)
    near = Gap("gate", Reason.LOST, NOON + 1000 + TOGETHER_MS, NOON + 62_000, 3)
    far = Gap("gate", Reason.LOST, near.end_ms + TOGETHER_MS + 1, near.end_ms + TOGETHER_MS + 2, 4)
    coverage.declare([far, near, first, Gap("gate", Reason.AWAY, NOON, NOON + 1)])
    assert coverage.gaps(None, None, None) == [
        Gap("gate", Reason.AWAY, NOON, NOON + 1),
        Gap("gate", Reason.LOST, NOON, NOON + 62_000, 5),
        far,
    ]


def test_a_gap_that_goes_on_grows(coverage: Coverage) -> None:
    for seconds in (1, 30, 3600):
        coverage.declare([Gap("gate", Reason.AWAY, NOON, NOON + seconds * 1000)])
    assert coverage.gaps(None, None, None) == [Gap("gate", Reason.AWAY, NOON, NOON + HOUR)]


def test_a_camera_that_turns_out_not_to_have_been_away_takes_its_gap_back(coverage: Coverage) -> None:
    other = Gap("gate", Reason.AWAY, NOON + HOUR, NOON + HOUR + 5000)
    coverage.declare([Gap("gate", Reason.AWAY, NOON, NOON + 7000), other])
    coverage.declare([Gap("gate", Reason.AWAY, NOON, NOON)])
    assert coverage.gaps(None, None, None) == [other]
    # Also within one call the last word counts.
    coverage.declare([Gap("gate", Reason.AWAY, NOON, NOON), Gap("gate", Reason.AWAY, NOON, NOON + 1)])
    assert coverage.gaps(None, NOON, NOON + HOUR) == [Gap("gate", Reason.AWAY, NOON, NOON + 1)]


def test_one_frame_that_was_lost_is_a_gap_of_no_length(coverage: Coverage) -> None:
    gap = Gap("gate", Reason.LOST, NOON, NOON, 1)
    coverage.declare([gap])
    assert coverage.gaps(None, NOON, NOON + 1) == [gap]


def test_when_cameras_were_opened_is_what_their_processes_noted(coverage: Coverage) -> None:
    Progresses(coverage._catalog).put(Progress("gate", "live", NOON, 0, 1.0, 0, ended=False))
    assert coverage.opened(frozenset({"gate", "dock"})) == {"gate": NOON}
    assert coverage.opened(frozenset(f"cam-{number}" for number in range(1000)) | {"gate"}) == {"gate": NOON}


def test_a_gap_that_is_declared_again_counts_its_frames_once(coverage: Coverage) -> None:
    for gap in (shed(0, 9), shed(0, 9), shed(0, 19), shed(0, 4), shed(10, 14)):
        coverage.declare([gap])
    assert coverage.gaps(None, None, None) == [told(shed(0, 19))]


def test_the_same_offsets_of_another_incarnation_or_partition_are_other_frames(coverage: Coverage) -> None:
    coverage.declare([shed(0, 9), shed(0, 9, log=OTHER_LOG), shed(0, 9, partition=1), shed(0, 9, camera="dock")])
    assert [(gap.camera, gap.frames) for gap in coverage.gaps(None, None, None)] == [("dock", 10), ("gate", 30)]


def test_a_worker_that_starts_learns_what_must_not_be_looked_at_again(coverage: Coverage) -> None:
    gaps = [shed(0, 4), shed(5, 9), shed(12, 12, camera="dock"), shed(10, 14)]
    other = [shed(20, 24, partition=1), shed(20, 24, log=OTHER_LOG), Gap("", Reason.EXPIRED, 0, 1, 5, LOG, 0, 30, 34)]
    coverage.declare([*gaps, *other, Gap("gate", Reason.AWAY, NOON, NOON + 1)])
    assert coverage.declared(LOG, 0, 9) == [shed(5, 9), shed(10, 14), shed(12, 12, camera="dock")]


def test_gaps_below_the_committed_offset_are_merged_and_still_told(coverage: Coverage, url: str) -> None:
    gaps = [shed(first, first + 1) for first in range(0, 100, 4)]
    coverage.declare(gaps)
    coverage.looked([], {(LOG, 0): (50, NOON)})
    assert coverage.declared(LOG, 0, 0) == gaps  # A restart may still ask for them.
    coverage.looked([], {(LOG, 0): (70, NOON)})
    assert coverage.declared(LOG, 0, 0) == [gap for gap in gaps if gap.last_offset >= 50]
    assert coverage.gaps(None, None, None) == [replace(told(gaps[0]), end_ms=gaps[-1].end_ms, frames=50)]
    for _ in range(2):
        coverage.looked([], {(LOG, 0): (200, NOON)})
    assert coverage.declared(LOG, 0, 0) == []
    assert coverage.gaps(None, None, None) == [replace(told(gaps[0]), end_ms=gaps[-1].end_ms, frames=50)]
    with coverage._catalog.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM merged_gaps").scalar() == 1


def test_frames_that_are_shed_again_after_they_were_merged_count_once(coverage: Coverage) -> None:
    coverage.declare([shed(0, 9), shed(20, 29)])
    for _ in range(2):
        coverage.looked([], {(LOG, 0): (50, NOON)})
    # The group's offsets were lost: everything is read again.
    coverage.declare([shed(20, 29)])
    assert coverage.declared(LOG, 0, 0) == [shed(20, 29)]
    assert [gap.frames for gap in coverage.gaps(None, None, None)] == [20]
    for _ in range(2):
        coverage.looked([], {(LOG, 0): (50, NOON)})
    assert [gap.frames for gap in coverage.gaps(None, None, None)] == [20]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30)), min_size=1, max_size=12), st.integers(0, 230))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_merging_never_makes_a_told_span_smaller(
    coverage: Coverage, runs: list[tuple[int, int]], committed: int
) -> None:
    for table in ("declared_gaps", "merged_gaps", "partition_marks"):
        with coverage._catalog.writing() as connection:
            connection.exec_driver_sql(f"DELETE FROM {table}")
    coverage.declare([shed(200 * first, 200 * first + length) for first, length in runs])
    before = coverage.gaps(None, None, None)
    for _ in range(2):
        coverage.looked([], {(LOG, 0): (200 * committed, NOON)})
    assert coverage.gaps(None, None, None) == before


def test_a_mark_takes_the_place_of_the_cameras_mark_before(coverage: Coverage) -> None:
    coverage.looked([Looked("gate", NOON, LOG, 0, 7), Looked("dock", NOON - 1, LOG, 0, 5)], {})
    # Also backwards: a worker that replays has looked at less than the one before.
    coverage.looked([Looked("gate", NOON - 2, LOG, 0, 3)], {(LOG, 0): (3, NOON + 5)})
    assert coverage.marks() == [Looked("gate", NOON - 2, LOG, 0, 3), Looked("dock", NOON - 1, LOG, 0, 5)]
    assert coverage.marks(frozenset({"dock", "yard"})) == [Looked("dock", NOON - 1, LOG, 0, 5)]
    assert coverage.partition_mark(LOG, 0) == (3, NOON + 5)
    assert coverage.partition_mark(OTHER_LOG, 0) is None


def test_an_answer_that_would_be_made_of_very_many_gaps_tells_each_camera_and_reason_once(coverage: Coverage) -> None:
    days = MOST_ROWS // 2 + 1
    coverage.declare(
        [
            Gap(camera, Reason.AWAY, NOON + day * 24 * HOUR, NOON + day * 24 * HOUR + 1000, 1)
            for camera in ("gate", "dock")
            for day in range(days)
        ]
    )
    last = NOON + (days - 1) * 24 * HOUR + 1000
    assert coverage.gaps(None, None, None) == [
        Gap(camera, Reason.AWAY, NOON, last, days) for camera in ("dock", "gate")
    ]
    assert len(coverage.gaps(None, NOON, NOON + 10 * 24 * HOUR)) == 20


def plans(catalog: Catalog, ask: object) -> list[str]:
    """How SQLite goes about each question that `ask` asks."""
    asked: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(catalog._engine, "before_cursor_execute", note)
    assert callable(ask)
    ask()
    event.remove(catalog._engine, "before_cursor_execute", note)
    found = []
    with catalog.reading() as connection:
        for statement, parameters in asked:
            if statement.startswith("SELECT"):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
                found += [row[3] for row in rows]
    return found


def test_no_question_reads_a_whole_table_of_gaps(tmp_path: Path) -> None:
    coverage = Coverage(opened(tmp_path))
    coverage.declare([shed(0, 1)])
    steps = plans(
        coverage._catalog,
        lambda: (
            coverage.gaps(None, NOON, NOON + HOUR),
            coverage.gaps(None, NOON, None),
            coverage.gaps(frozenset({"gate"}), NOON, NOON + HOUR),
            coverage.declared(LOG, 0, 7),
            coverage.partition_mark(LOG, 0),
            coverage.marks(frozenset({"gate"})),
        ),
    )
    assert any("by_time (length_class=? AND start_ms>? AND start_ms<?)" in step for step in steps)
    assert any("by_place (log=? AND partition=? AND last_offset>?)" in step for step in steps)
    assert [step for step in steps if step.startswith("SCAN")] == []


_DECLARES = f"""
import sys
from catalog.coverage import Coverage, Gap, Looked, Reason
from catalog.store import Catalog
catalog = Catalog(sys.argv[1], 60)
number = int(sys.argv[2])
input()
catalog.open()
coverage = Coverage(catalog)
for n in range(20):
    coverage.declare([Gap(f"cam-{{number}}", Reason.SHED, n * 100_000, n * 100_000, 1, {LOG!r}, number, n, n)])
    coverage.looked([Looked(f"cam-{{number}}", n, {LOG!r}, number, n)], {{({LOG!r}, number): (n, n)}})
    coverage.looked([], {{({LOG!r}, number): (n, n)}})  # Reads before it writes.
"""


def test_processes_that_write_at_once_lose_nothing(url: str) -> None:
    run_together(_DECLARES, [(url, str(number)) for number in range(4)])
    coverage = Coverage(opened(url))
    frames = Counter[str]()
    for gap in coverage.gaps(None, None, None):
        frames[gap.camera] += gap.frames
    assert frames == {f"cam-{number}": 20 for number in range(4)}
    assert [(mark.camera, mark.offset) for mark in coverage.marks()] == [(f"cam-{number}", 19) for number in range(4)]
