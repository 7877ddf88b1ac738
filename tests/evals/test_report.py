from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from evals.answers import Answered, Run
from evals.dataset import Question, Relevant
from evals.picture import draw
from evals.report import Report, compare_runs, report_of, show, show_compared
from proto.errors import Broken, Invalid
from tests.evals.small import answer, hit, of_part, question, run

SMALL, LARGE = Relevant("gate", 10, 20, share=0.01), Relevant("dock", 30, 40, share=0.2)


def measured(run_: Run) -> Report:
    return report_of(run_, None, times=50)


def value(report: Report, slice_: str, figure: str) -> float:
    (row,) = [row for row in report.rows if row.name == slice_]
    return row.figures[figure].value


def mixed(*, sure: float = 0.9, finds: bool = True) -> Run:
    """Eight present questions in two languages, and four absent ones. With `finds`, the small one comes second."""
    pairs: list[tuple[Question, Answered]] = []
    for number in range(4):
        for language in ("en", "de"):
            qid = f"{number}{language}"
            asked = question(qid, SMALL, LARGE, group=str(number), language=language, what="person")
            right = hit("dock", 30, 40, confidence=sure)
            second = hit(start_s=10, end_s=20, confidence=0.6) if finds else hit(start_s=50, end_s=60, confidence=0.3)
            hits = (hit(start_s=40, end_s=45, confidence=0.1), right, second)
            pairs.append((asked, answer(qid, *hits)))
        absent = question(f"{number}absent", absent=True)
        pairs.append((absent, answer(absent.qid, hit(confidence=0.2), no_confident_match=number > 0)))
    return run(of_part("test", pairs))


def test_a_report_has_every_slice_that_the_dataset_tells_of() -> None:
    names = [row.name for row in measured(mixed()).rows]
    assert names == ["all", "language de", "language en", "of a person", "under 2 %", "over 5 %", "day", "night"]


def test_a_slice_by_size_is_judged_by_its_own_spans_alone() -> None:
    report = measured(mixed())
    assert value(report, "under 2 %", "R@1") == 0
    # The hit on the large thing is left out, so the small one comes second.
    assert value(report, "under 2 %", "mAP") == pytest.approx(1 / 2)
    assert value(report, "all", "mAP") == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert value(measured(mixed(finds=False)), "under 2 %", "R@10") == 0


def test_present_and_absent_questions_are_told_apart() -> None:
    report = measured(mixed())
    assert value(report, "all", "AUC by confidence") == 1
    assert value(report, "all", "absent refused") == 0.75
    assert value(report, "all", "R@10 lost") == 0
    present = replace(answer("0", hit(start_s=10, end_s=20, confidence=0.3)), no_confident_match=True)
    lost = measured(run([(question("0", SMALL), present)]))
    assert value(lost, "all", "R@10") == 1
    assert value(lost, "all", "R@10 sure") == 0
    assert value(lost, "all", "R@10 lost") == 1


def test_a_service_without_confidence_is_measured_by_what_it_gives() -> None:
    report = measured(run([(question("1", SMALL), answer("1", hit(start_s=10, end_s=20)))]))
    assert value(report, "all", "R@1") == 1
    assert "ECE" not in report.rows[0].figures
    assert report.bins == ()
    shown = io.StringIO()
    Console(file=shown, width=200).print(show(report))
    assert "gives no confidence" in shown.getvalue()


def test_the_table_and_the_json_tell_the_same() -> None:
    report = measured(mixed())
    shown = io.StringIO()
    Console(file=shown, width=200).print(show(report))
    assert "under 2 %" in shown.getvalue()
    assert "absent refused       0.750" in shown.getvalue()
    plain = json.loads(json.dumps(report.plain(), allow_nan=False))
    first = plain["slices"][0]
    assert (first["name"], first["questions"], first["groups"]) == ("all", 12, 8)
    assert first["figures"]["absent refused"]["value"] == 0.75
    assert sum(one["hits"] for one in plain["reliability"]) == 28


def test_only_the_questions_of_the_part_are_measured() -> None:
    both = run([*of_part("train", [(question("1", SMALL), answer("1"))]), (question("2", SMALL), answer("2"))])
    assert report_of(both, "train", times=10).rows[0].questions == 1
    assert report_of(both, None, times=10).rows[0].questions == 2
    only_test = run([(question("2", SMALL), answer("2"))])
    with pytest.raises(Invalid, match="no question of the train part"):
        report_of(only_test, "train")


def verdicts(before: Run, after: Run) -> dict[tuple[str, str], str]:
    return {(one.slice, one.figure): one.verdict.words for one in compare_runs(before, after, None, times=300)}


def test_runs_are_compared_question_by_question() -> None:
    many = [question(str(number), SMALL) for number in range(12)]
    wrong, right = hit("dock"), hit(start_s=10, end_s=20)
    before = run([(one, answer(one.qid, wrong, right)) for one in many])
    after = run([(one, answer(one.qid, right, wrong)) for one in many])
    found = verdicts(before, after)
    assert found["all", "R@1"] == "better"
    assert found["under 2 %", "mAP"] == "better"
    assert found["all", "R@10"] == "no difference seen"
    assert verdicts(after, before)["all", "R@1"] == "worse"
    assert ("all", "ECE") not in found
    shown = io.StringIO()
    Console(file=shown, width=200).print(show_compared(compare_runs(before, after, None, times=100)))
    assert "better" in shown.getvalue()


def test_runs_of_other_questions_cannot_be_compared() -> None:
    first = run([(question("1", SMALL), answer("1"))])
    with pytest.raises(Invalid, match="no question in common"):
        compare_runs(first, run([(question("2", SMALL), answer("2"))]), None)
    with pytest.raises(Invalid, match="question 1 is not the same"):
        compare_runs(first, run([(question("1", LARGE), answer("1"))]), None)


def test_the_picture_shows_the_figures_and_the_reliability(tmp_path: Path) -> None:
    draw(measured(mixed()), tmp_path / "deep" / "report.png")
    with Image.open(tmp_path / "deep" / "report.png") as picture:
        assert picture.width > 800
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_without_matplotlib_the_picture_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Broken, match=r"watchword\[evals\]"):
        draw(measured(mixed()), tmp_path / "report.png")
