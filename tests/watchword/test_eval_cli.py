from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from catalog.cameras import CameraRegistry
from catalog.progress import Progress, Progresses
from catalog.store import Catalog, sqlite_url
from evals.answers import write_run
from evals.dataset import Relevant
from evals.reading import read_dataset
from proto.types import Camera
from tests.clips import CLIPS
from tests.evals.small import START_MS, answer, hit, plain_question, question, run, write_lines, write_small
from tests.watchword.terminal import Cli, refused
from watchword.eval_stack import duration_of

SPAN = Relevant("gate", 10, 20)


def made_run(folder: Path, *, right: bool) -> Path:
    many = [question(str(number), SPAN) for number in range(12)]
    given = hit(start_s=10, end_s=20) if right else hit("dock")
    write_run(run([(one, answer(one.qid, given)) for one in many]), folder)
    return folder


def real_dataset(folder: Path, end_s: float) -> Path:
    """One question about a real clip."""
    video = {"video": "bikes", "path": str(CLIPS["bikes"]), "start_ms": START_MS}
    write_lines(folder / "videos.jsonl", [video])
    spans = [{"video": "bikes", "start_s": 1, "end_s": end_s}]
    write_lines(folder / "questions.jsonl", [{"qid": 1, "query": "a cyclist", "relevant": spans}])
    return folder


def test_a_dataset_is_checked_against_its_recordings(cli: Cli, tmp_path: Path) -> None:
    lasts_s = duration_of(CLIPS["bikes"])
    assert lasts_s is not None
    sound = cli("eval", "check", str(real_dataset(tmp_path / "sound", lasts_s)))
    assert sound.code == 0
    assert "test   1 recordings, 1 questions, 0 of them absent" in sound.out
    wrong = cli("eval", "check", str(real_dataset(tmp_path / "wrong", lasts_s + 5)))
    assert wrong.code == 2
    assert "questions.jsonl:1: 1 to" in wrong.err
    assert "ends after the recording" in wrong.err


def test_a_recording_that_cannot_be_played_is_refused_by_its_line(cli: Cli, tmp_path: Path) -> None:
    folder = real_dataset(tmp_path / "set", 2)
    (folder / "text.mp4").write_text("no video")
    write_lines(folder / "videos.jsonl", [{"video": "bikes", "path": "text.mp4", "duration_s": 10.0}])
    ended = cli("eval", "check", str(folder))
    assert ended.code == 2
    assert "videos.jsonl:1: " in ended.err


def test_the_commands_that_add_the_cameras_are_printed(cli: Cli, tmp_path: Path) -> None:
    ended = cli("eval", "cameras", str(real_dataset(tmp_path / "a set", 2)))
    assert ended.out.strip() == (
        f"watchword camera add bikes {shlex.quote(str(CLIPS['bikes']))} --speed max --start 2026-01-01T08:00:00+00:00"
    )


def test_a_report_is_shown_as_table_json_and_picture(cli: Cli, tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", right=True)
    shown = cli("eval", "report", str(folder), "--png", str(tmp_path / "report.png"))
    assert shown.code == 0, shown.err
    assert "R@10" in shown.out
    assert (tmp_path / "report.png").stat().st_size > 1000
    plain = json.loads(cli("eval", "report", str(folder), "--json").out)
    assert plain["slices"][0]["figures"]["R@1"]["value"] == 1


def test_two_runs_are_compared(cli: Cli, tmp_path: Path) -> None:
    before, after = made_run(tmp_path / "before", right=False), made_run(tmp_path / "after", right=True)
    shown = cli("eval", "compare", str(before), str(after))
    assert shown.code == 0, shown.err
    assert "better" in shown.out
    told = json.loads(cli("eval", "compare", str(after), str(before), "--json").out)
    assert {one["verdict"] for one in told if one["figure"] == "R@1"} == {"worse"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "SET", "--here", "--address", "127.0.0.1:1"], "exclude each other"),
        (["run", "SET", "--out", "FULL"], "is not empty"),
        (["run", "SET", "--here"], "no stack runs"),
        (["report", "SET"], "is no run"),
        (["new", "NEW", "--absent"], "belong to a --question"),
        (["new", "NEW", "--question", "a dog"], "has no answer"),
        (["new", "NEW", "--question", "a dog", "--span", "gate", "later"], "is no span of time"),
        (["new", "NEW", "--question", "a dog", "--span", "gate", "10:00-10:05"], "no camera is named 'gate'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(cli: Cli, tmp_path: Path, arguments: list[str], said: str) -> None:
    write_small(tmp_path / "SET", plain_question(1))
    write_lines(tmp_path / "SET" / "videos.jsonl", [{"video": "gate", "path": str(CLIPS["bikes"]), "duration_s": 60.0}])
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "file").touch()
    assert said in refused(cli("eval", *arguments))


def test_a_dataset_is_made_of_a_registered_recording_without_asking(cli: Cli, tmp_path: Path) -> None:
    catalog = Catalog(sqlite_url(tmp_path / "data" / "catalog.db"))
    catalog.open()
    registry = CameraRegistry(catalog)
    registry.add(Camera("gate", str(CLIPS["bikes"]), start_ms=START_MS))
    registry.add(Camera("dock", str(CLIPS["bikes"])))
    registry.add(Camera("roof", "rtsp://10.0.0.7/stream"))
    Progresses(catalog).put(Progress("dock", "bikes", 1, START_MS + 1000, 5.0, 10, True))
    catalog.close()
    span = "2026-01-01T08:00:02+00:00..2026-01-01T08:00:05+00:00"
    for camera in ("gate", "dock", "roof"):
        ended = cli("eval", "new", "set", "--question", f"a cyclist at the {camera}", "--span", camera, span)
        assert ended.code == 0, ended.err
    assert cli("eval", "new", "set", "--question", "a whale", "--absent").code == 0
    dataset = read_dataset(tmp_path / "set")
    assert [(one.relevant[0].start_s, one.relevant[0].end_s) for one in dataset.questions[:2]] == [(2, 5), (1, 4)]
    assert dataset.videos["roof"].path is None
    assert dataset.questions[3].absent
