from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.dataset import write_dataset
from evals.reading import read_dataset
from proto.errors import Invalid
from proto.types import Box
from tests.evals.small import START_MS, plain_question, write_lines, write_small


def refusal(folder: Path, **more: Any) -> list[str]:
    """The lines of the refusal."""
    with pytest.raises(Invalid) as refused:
        read_dataset(folder, **more)
    return str(refused.value).splitlines()


def test_a_dataset_is_read_with_every_field(tmp_path: Path) -> None:
    span = {
        "video": "gate",
        "start_s": 1,
        "end_s": 5.5,
        "box": [0.1, 0.2, 0.3, 0.6],
        "share": 0.08,
        "condition": "night",
    }
    asked = plain_question(7, language="de", group="truck", video="gate", relevant=[span], what="vehicle")
    folder = write_small(tmp_path, asked, plain_question(8, absent=True))
    write_lines(folder / "dataset.json", [{"name": "yard", "licence": "CC0", "notes": "small"}])
    dataset = read_dataset(folder)
    first, second = dataset.questions
    assert (dataset.name, dataset.licence) == ("yard", "CC0")
    assert (first.qid, first.language, first.group, first.what) == ("7", "de", "truck", "vehicle")
    assert first.relevant[0].box == Box(0.1, 0.2, 0.3, 0.6)
    assert (first.relevant[0].share, first.relevant[0].condition) == (0.08, "night")
    assert second.absent
    assert second.relevant == ()
    assert dataset.searched(first) == ("gate",)
    assert dataset.searched(second) == ("dock", "gate")
    assert dataset.videos["gate"].start_ms == START_MS


def test_lines_of_qvhighlights_are_read_with_their_recordings(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "_abc_60.0_210.0.mp4").touch()
    line = {"qid": 1, "query": "a dog", "vid": "_abc_60.0_210.0", "duration": 150, "relevant_windows": [[2, 10]]}
    write_lines(tmp_path / "questions.jsonl", [line | {"relevant_clip_ids": [1, 2], "saliency_scores": [[1]]}])
    dataset = read_dataset(tmp_path)
    (asked,) = dataset.questions
    (video,) = dataset.videos.values()
    assert video.path == tmp_path / "videos" / "_abc_60.0_210.0.mp4"
    assert asked.videos == (video.name,)
    assert (asked.relevant[0].start_s, asked.relevant[0].end_s) == (2, 10)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = write_small(
        tmp_path / "one", plain_question(1, what="thing"), plain_question(2, absent=True, video=["dock"])
    )
    dataset = read_dataset(folder)
    write_dataset(dataset, tmp_path / "two")
    again = read_dataset(tmp_path / "two")
    assert (again.questions, again.videos) == (dataset.questions, dataset.videos)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (plain_question(1, query="  "), ["the query is empty", "say in words"]),
        (plain_question(1, relevant=[{"video": "roof", "start_s": 1, "end_s": 2}]), ["'roof'", "dock, gate"]),
        (plain_question(1, video="roof"), ["'roof' is no recording", "dock, gate"]),
        (plain_question(1, video=["dock"]), ["'gate', which is not searched", "dock"]),
        (plain_question(1, relevant=[{"video": "gate", "start_s": 50, "end_s": 70}]), ["lasts 60 s", "within"]),
        (plain_question(1, relevant=[{"video": "gate", "start_s": 5, "end_s": 5}]), ["is no span"]),
        (plain_question(1, relevant=[]), ["no relevant span", "absent"]),
        (plain_question(1) | {"absent": True}, ["absent and has relevant spans"]),
        (plain_question(1, part="dev"), ["part = 'dev'", "'train' or 'test'"]),
        (plain_question(1, part="train"), ["train part", "name one of its own part"]),
        (plain_question(1, what="robot"), ["what = 'robot'"]),
        ({"qid": 1, "relevant": []}, ["query is missing"]),
        (
            plain_question(1, relevant=[{"video": "gate", "start_s": 1, "end_s": 2, "box": [0.5, 0, 0.2, 1]}]),
            ["relevant.0.box", "left, top, right, bottom"],
        ),
        (
            plain_question(
                1, relevant=[{"video": "gate", "start_s": a, "end_s": b} for a, b in ((1, 5), (7, 9), (4, 6))]
            ),
            ["1 to 5 s and 4 to 6 s of gate overlap", "make them one span"],
        ),
    ],
)
def test_a_wrong_question_is_refused_with_its_line_and_what_to_do(
    tmp_path: Path, line: dict[str, Any], said: list[str]
) -> None:
    told = refusal(write_small(tmp_path, plain_question(9), line))
    assert told[1].strip().startswith("questions.jsonl:2: ")
    for words in said:
        assert words in told[1]


def test_two_things_may_be_seen_at_one_time_if_each_has_its_box(tmp_path: Path) -> None:
    spans = [
        {"video": "gate", "start_s": 1, "end_s": 5, "box": [0.1, 0.1, 0.2, 0.2]},
        {"video": "gate", "start_s": 3, "end_s": 6, "box": [0.6, 0.1, 0.7, 0.2]},
    ]
    assert len(read_dataset(write_small(tmp_path, plain_question(1, relevant=spans))).questions[0].relevant) == 2
    spans[1]["box"] = spans[0]["box"]
    write_small(tmp_path, plain_question(1, relevant=spans))
    assert "overlap: make them one span" in refusal(tmp_path)[1]


def test_spans_that_touch_do_not_overlap(tmp_path: Path) -> None:
    spans = [{"video": "gate", "start_s": 1, "end_s": 5}, {"video": "gate", "start_s": 5, "end_s": 6}]
    assert len(read_dataset(write_small(tmp_path, plain_question(1, relevant=spans))).questions[0].relevant) == 2


def test_a_missing_clip_is_refused_by_the_line_of_its_recording(tmp_path: Path) -> None:
    folder = write_small(tmp_path, plain_question(1))
    (folder / "dock.mp4").unlink()
    _, line = refusal(folder)
    assert line.strip().startswith("videos.jsonl:2: there is no file ")
    assert read_dataset(folder, clips=False).questions


def test_a_line_that_is_not_json_is_refused_by_its_number(tmp_path: Path) -> None:
    folder = write_small(tmp_path, plain_question(1))
    with (folder / "questions.jsonl").open("a") as file:
        file.write('\n{"qid": \n[3]\n')
    _, broken, other = refusal(folder)
    assert "questions.jsonl:3: this is not JSON" in broken
    assert "questions.jsonl:4: this is not a JSON object" in other


def test_all_problems_are_told_at_once_up_to_twenty(tmp_path: Path) -> None:
    folder = write_small(tmp_path, *(plain_question(number, query="") for number in range(25)))
    told = refusal(folder)
    assert "25 problems" in told[0]
    assert len([line for line in told if "questions.jsonl:" in line]) == 20
    assert told[-1].strip() == "and 5 more"


def test_a_name_or_a_qid_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = write_small(tmp_path, plain_question(1), plain_question(1))
    video = {"video": "gate", "path": "gate.mp4"}
    write_lines(folder / "videos.jsonl", [video, video, {"video": "no/name", "path": "gate.mp4"}])
    told = "\n".join(refusal(folder))
    assert "videos.jsonl:2: gate is there twice" in told
    assert "'no/name' cannot be a camera's name" in told
    assert "questions.jsonl:2: qid 1 is there twice" in told


def test_how_long_a_recording_is_can_be_looked_up(tmp_path: Path) -> None:
    folder = write_small(tmp_path, plain_question(1))
    write_lines(folder / "videos.jsonl", [{"video": "gate", "path": "gate.mp4"}])
    assert "lasts 3 s" in refusal(folder, duration_of=lambda _: 3.0)[1]


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    assert "questions.jsonl: it cannot be read" in refusal(tmp_path)[1]
    assert "there is no folder" in refusal(tmp_path / "none")[0]
    (tmp_path / "questions.jsonl").touch()
    assert "it has no question" in refusal(tmp_path)[1]
