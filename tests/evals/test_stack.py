"""A whole run, as a user starts it: `watchword eval run` on a dataset of real clips."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evals.answers import read_run
from evals.report import report_of
from tests.clips import CLIPS
from tests.evals.small import START_MS, write_lines

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(400)]

# Short pauses, so that the last moments are closed soon.
QUICK = ("camera.heartbeat_s=2", "stream.gap_s=3", "stream.silent_s=3", "stream.refresh_s=1")


def clips_dataset(folder: Path) -> Path:
    """Two clips in the test part, one in the train part; three questions have an answer, one has none."""
    parts = {"bikes": "test", "bigbuckbunny": "test", "carphone_pristine": "train"}
    write_lines(
        folder / "videos.jsonl",
        [
            {"video": name, "path": str(CLIPS[name]), "start_ms": START_MS + 60_000 * place, "part": part}
            for place, (name, part) in enumerate(parts.items())
        ],
    )
    questions = [
        {"qid": 1, "query": "cyclist", "group": "cyclist", "what": "person"},
        {"qid": 2, "query": "Radfahrer", "language": "de", "group": "cyclist", "what": "person"},
        {"qid": 3, "query": "an airplane", "absent": True},
        {"qid": 4, "query": "a man in a suit and tie", "part": "train", "what": "person"},
    ]
    spans = {1: ("bikes", 3.0, 5.4), 2: ("bikes", 3.0, 5.4), 4: ("carphone_pristine", 0.0, 4.0)}
    for one in questions:
        if (found := spans.get(int(str(one["qid"])))) is not None:
            video, start_s, end_s = found
            one["relevant"] = [{"video": video, "start_s": start_s, "end_s": end_s}]
    write_lines(folder / "questions.jsonl", questions)
    return folder


def test_a_dataset_is_replayed_asked_and_measured_through_the_whole_stack(tmp_path: Path) -> None:
    folder, out = clips_dataset(tmp_path / "set"), tmp_path / "run"
    flags = [part for one in QUICK for part in ("--set", one)]
    command = [
        sys.executable,
        "-m",
        "watchword",
        *flags,
        "eval",
        "run",
        str(folder),
        "--out",
        str(out),
        "--commit",
        "abc",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=360, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    run = read_run(out)
    assert run.about["commit"] == "abc"
    assert run.about["settings"]["stream"]["catch_up"] == "all"
    assert set(run.answers) == {"1", "2", "3", "4"}
    assert {hit.camera for hit in run.answers["1"].hits} == {"bikes", "bigbuckbunny"}
    assert {hit.camera for hit in run.answers["4"].hits} == {"carphone_pristine"}
    assert all(hit.closed for answer in run.answers.values() for hit in answer.hits)
    start_ms = min(hit.start_ms for hit in run.answers["1"].hits if hit.camera == "bikes")
    # The first frame does not tell what moves in it: the cyclist is there from the second.
    assert START_MS < start_ms <= START_MS + 1000
    report = report_of(run, "test", times=50)
    assert report.rows[0].questions == 3
    assert report.rows[0].figures["R@10"].value > 0
