from __future__ import annotations

from pathlib import Path

import pytest

from evals.dataset import Video
from evals.new import Making, Marked, ask_and_mark, parse_mark, parse_span, typed_questions
from evals.reading import read_dataset
from proto.errors import Invalid
from proto.v1 import query_pb2
from tests.evals.small import START_MS

HITS = [
    query_pb2.Hit(camera="gate", start_ms=START_MS, peak_ms=START_MS, end_ms=START_MS + 5000),
    query_pb2.Hit(camera="dock", start_ms=START_MS, peak_ms=START_MS, end_ms=START_MS),
]
TIMES = {"10:00": START_MS + 10_000, "10:05": START_MS + 20_000}


class Service:
    """Answers everything with HITS."""

    async def ask(self, request: query_pb2.SearchRequest) -> tuple[query_pb2.SearchReply, dict[str, str]]:
        assert request.text
        return query_pb2.SearchReply(hits=HITS), {}

    async def cameras(self) -> list[query_pb2.CameraInfo]:
        return []


def test_a_typed_line_marks_hits_spans_and_absent_questions() -> None:
    assert parse_mark("q", HITS, "", TIMES.__getitem__) is None
    assert parse_mark("q", HITS, "none", TIMES.__getitem__) == Marked("q")
    marked = parse_mark("q", HITS, "2 gate 10:00-10:05", TIMES.__getitem__)
    assert marked == Marked("q", (("dock", START_MS, START_MS + 1000), ("gate", START_MS + 10_000, START_MS + 20_000)))


@pytest.mark.parametrize("line", ["3", "0", "gate", "gate 10:05-10:00", "gate 10:00"])
def test_a_line_that_makes_no_sense_is_refused(line: str) -> None:
    with pytest.raises(Invalid):
        parse_mark("q", HITS, line, TIMES.__getitem__)


def test_a_span_over_days_is_written_with_two_dots() -> None:
    seen: list[str] = []

    def time_of(words: str) -> int:
        seen.append(words)
        return len(seen)

    assert parse_span("gate", "2026-05-01T10:00..2026-05-02T10:00", time_of) == ("gate", 1, 2)
    assert seen == ["2026-05-01T10:00", "2026-05-02T10:00"]


async def test_each_question_is_searched_and_marked_and_a_wrong_line_asked_again() -> None:
    said: list[str] = []
    typed = iter(["a truck", "7", "1", "a dog", "none", "a cat", "", ""])
    marks = await ask_and_mark(
        typed_questions(typed, said.append), typed, Service(), TIMES.__getitem__, lambda hit: hit.camera, said.append
    )
    assert marks == [Marked("a truck", (("gate", START_MS, START_MS + 5000),)), Marked("a dog")]
    assert any("there is no hit 7" in line for line in said)


async def test_no_more_than_twenty_questions_are_asked() -> None:
    said: list[str] = []
    lines = iter(["none"] * 30)
    marks = await ask_and_mark(
        (f"question {number}" for number in range(30)), lines, Service(), int, lambda hit: hit.camera, said.append
    )  # fmt: skip
    assert len(marks) == 20


def video_of(name: str) -> Video:
    return Video(name, None, START_MS - 1000)


def test_what_was_marked_is_a_dataset_and_more_can_be_added(tmp_path: Path) -> None:
    making = Making(tmp_path, video_of)
    making.add(Marked("a truck", (("gate", START_MS, START_MS + 5000), ("gate", START_MS + 4000, START_MS + 9000))))
    making.write(["gate", "dock"])
    more = Making(tmp_path, video_of, language="de")
    more.add(Marked("ein Hund"))
    dataset = more.write([])
    assert read_dataset(tmp_path, clips=False) == dataset
    truck, dog = dataset.questions
    assert [(one.start_s, one.end_s) for one in truck.relevant] == [(1.0, 10.0)]
    assert (dog.qid, dog.absent, dog.language) == ("2", True, "de")
    assert dataset.searched(dog) == ("dock", "gate")


def test_a_span_before_the_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="before the recording of gate"):
        Making(tmp_path, video_of).add(Marked("a truck", (("gate", START_MS - 5000, START_MS),)))
