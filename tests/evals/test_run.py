from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from evals.answers import FEATURES_KEY
from evals.dataset import Dataset, Relevant, Video
from evals.run import Settling, ask_questions, camera_of, check_cameras, cpu_name, replay
from proto.errors import Invalid, Late, Transient, Unknown
from proto.types import Camera
from proto.v1 import query_pb2
from tests.evals.small import GATE, START_MS, VIDEOS, question

SAID: list[str] = []


@dataclass
class Stack:
    """A service and its cameras. Each look at a camera's mark moves it by ten seconds until its recording is over."""

    lasts_ms: int = 60_000
    added: list[Camera] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    asked: list[query_pb2.SearchRequest] = field(default_factory=list)
    failures: int = 0

    async def ask(self, request: query_pb2.SearchRequest) -> tuple[query_pb2.SearchReply, dict[str, str]]:
        self.asked.append(request)
        if self.failures:
            self.failures -= 1
            raise Transient("the index is away")
        for name in request.cameras:
            self.marks[name] = min(self.marks.get(name, START_MS) + 10_000, START_MS + self.lasts_ms)
        told = [query_pb2.Watermark(camera=name, looked_ms=self.marks[name]) for name in request.cameras]
        hits = [
            query_pb2.Hit(camera=request.cameras[0], start_ms=START_MS, peak_ms=START_MS, end_ms=START_MS, score=0.5)
        ]
        reply = query_pb2.SearchReply(hits=hits, coverage=query_pb2.Coverage(watermarks=told), space="s")
        return reply, {FEATURES_KEY: '[{"z": 1}]'}

    async def cameras(self) -> list[query_pb2.CameraInfo]:
        return [query_pb2.CameraInfo(name=camera.name) for camera in self.added]

    def add(self, camera: Camera) -> None:
        self.added.append(camera)

    def ended(self, camera: str) -> int | None:
        end_ms = START_MS + self.lasts_ms
        return end_ms if self.marks.get(camera, 0) >= end_ms - 10_000 else None


async def at_once(_: float) -> None:
    """A pause that takes no time."""


def dataset(*questions: object, videos: Sequence[Video] = tuple(VIDEOS.values())) -> Dataset:
    return Dataset(Path("small"), "small", {video.name: video for video in videos}, tuple(questions))  # type: ignore[arg-type]


async def test_recordings_are_replayed_at_their_own_time_and_waited_for() -> None:
    stack = Stack()
    await replay(dataset(), stack, stack, part="test", settle_s=3, say=SAID.append, pause=at_once)
    assert stack.added == [
        Camera("gate", "gate.mp4", speed=0.0, start_ms=START_MS),
        Camera("dock", "dock.mp4", speed=0.0, start_ms=START_MS),
    ]
    assert set(stack.marks.values()) == {START_MS + 60_000}


async def test_only_the_recordings_of_the_part_are_replayed() -> None:
    stack = Stack()
    videos = [GATE, replace(GATE, name="yard", part="train")]
    await replay(dataset(videos=videos), stack, stack, part="train", settle_s=3, say=SAID.append, pause=at_once)
    assert [camera.name for camera in stack.added] == ["yard"]


async def test_a_later_group_of_recordings_waits_for_the_one_before() -> None:
    videos = [replace(GATE, name=f"gate-{number:02}") for number in range(20)]
    stack = Stack()
    unfinished: list[int] = []

    def add(camera: Camera) -> None:
        unfinished.append(sum(stack.ended(other.name) is None for other in stack.added))
        stack.added.append(camera)

    stack.add = add  # type: ignore[method-assign]
    await replay(dataset(videos=videos), stack, stack, part=None, settle_s=3, say=SAID.append, pause=at_once)
    assert len(stack.added) == 20
    assert max(unfinished) == 7


async def test_a_recording_that_is_never_looked_at_is_named() -> None:
    class Blind(Stack):
        def ended(self, camera: str) -> int | None:
            return None if camera == "dock" else super().ended(camera)

    stack = Blind()
    with pytest.raises(Late, match="1 recordings are not done: dock"):
        await replay(dataset(), stack, stack, part="test", settle_s=3, say=SAID.append, pause=at_once)


def test_marks_have_settled_when_none_moved_for_so_many_looks() -> None:
    settling = Settling(["a", "b"], 2, 10)
    ended = {"a": 5, "b": 5}
    assert not settling.over({"a": 1, "b": 1}, ended)
    assert not settling.over({"a": 1, "b": 2}, ended)
    assert not settling.over({"a": 1, "b": 2}, ended)
    assert settling.over({"a": 1, "b": 2}, ended)


async def test_every_question_is_asked_where_it_belongs_and_its_answer_kept() -> None:
    stack = Stack()
    questions = (
        question("1", Relevant("gate", 1, 2)),
        question("2", videos=("dock",)),
        question("3", part="train"),
    )
    run = await ask_questions(dataset(*questions), stack, {"commit": "c"}, part="test", say=SAID.append, limit=7)
    assert [(one.text, list(one.cameras), one.limit) for one in stack.asked] == [
        ("question 1", ["dock", "gate"], 7),
        ("question 2", ["dock"], 7),
    ]
    assert [one.qid for one in run.dataset.questions] == ["1", "2"]
    assert run.answers["1"].hits[0].features == {"z": 1.0}
    assert (run.about["space"], run.about["commit"], run.about["limit"]) == ("s", "c", 7)


async def test_a_service_that_is_away_for_a_moment_is_asked_again() -> None:
    stack = Stack(failures=2)
    run = await ask_questions(
        dataset(question("1")), stack, {}, part=None, say=SAID.append, pause=at_once
    )  # fmt: skip
    assert len(run.answers) == 1
    with pytest.raises(Transient):
        await ask_questions(
            dataset(question("1")), Stack(failures=99), {}, part=None, say=SAID.append, pause=at_once
        )  # fmt: skip


async def test_cameras_that_a_service_does_not_know_are_named() -> None:
    stack = Stack(added=[camera_of(GATE)])
    with pytest.raises(Unknown, match="no cameras there: dock") as refused:
        await check_cameras(dataset(), stack, part=None, say=SAID.append)
    assert "watchword eval cameras" in refused.value.todo


def test_a_live_camera_cannot_be_replayed() -> None:
    with pytest.raises(Invalid, match="--address"):
        camera_of(Video("gate", None, 0))


def test_the_processor_is_named_where_it_is_known(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Some CPU"
    assert cpu_name(tmp_path / "none") == ""
