from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from evals.answers import FEATURES_KEY, answered, read_run, write_run
from evals.dataset import Relevant
from proto.errors import Invalid
from proto.types import Box
from proto.v1 import query_pb2
from tests.evals.small import answer, hit, question, run

NEW = query_pb2.Hit(
    moment_id="m", camera="gate", start_ms=1000, peak_ms=2000, end_ms=3000, score=0.5, confidence=0.75, at_ms=2500,
    box=query_pb2.Box(left=0.25, top=0.25, right=0.5, bottom=0.75), kind="person", moments=2,
    objects=[query_pb2.ObjectCount(kind="person", count=3)],
)  # fmt: skip
OLD = query_pb2.Hit(moment_id="m", camera="gate", start_ms=1000, peak_ms=2000, end_ms=3000, score=0.5, closed=True)


def test_a_reply_becomes_plain_values() -> None:
    reply = query_pb2.SearchReply(hits=[NEW], space="s", no_confident_match=True)
    (only,) = answered("1", reply, {}, 3.0).hits
    assert (only.at_ms, only.confidence, only.kind, only.moments) == (2500, 0.75, "person", 2)
    assert only.box == Box(0.25, 0.25, 0.5, 0.75)
    assert only.objects == {"person": 3}
    assert answered("1", reply, {}, 3.0).no_confident_match


def test_a_reply_of_an_older_service_has_its_peak_and_no_box() -> None:
    (only,) = answered("1", query_pb2.SearchReply(hits=[OLD]), {}, 3.0).hits
    assert (only.at_ms, only.box, only.confidence, only.features) == (2000, None, 0.0, {})


def test_the_whole_picture_is_no_place() -> None:
    whole = query_pb2.Hit(camera="gate", box=query_pb2.Box(right=1, bottom=1))
    assert answered("1", query_pb2.SearchReply(hits=[whole]), {}, 3.0).hits[0].box is None


@pytest.mark.parametrize(
    "told", [{"names": ["z", "score"], "rows": [[1.5, 0.5]]}, [{"z": 1.5, "score": 0.5}]], ids=["rows", "objects"]
)
def test_features_come_from_the_trailing_metadata(told: object) -> None:
    trailing = {FEATURES_KEY: quote(json.dumps(told))}
    (only,) = answered("1", query_pb2.SearchReply(hits=[NEW]), trailing, 3.0).hits
    assert only.features == {"z": 1.5, "score": 0.5}


@pytest.mark.parametrize("told", ["[", "[1]", '{"names": ["z"], "rows": [[1, 2]]}', "[]"])
def test_features_in_another_form_are_refused(told: str) -> None:
    with pytest.raises(Invalid, match="features"):
        answered("1", query_pb2.SearchReply(hits=[NEW]), {FEATURES_KEY: quote(told)}, 3.0)


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = hit(confidence=0.5, box=Box(0.1, 0.1, 0.2, 0.2), objects={"person": 1}, features={"z": 1.5})
    first = run(
        [(question("1", Relevant("gate", 1, 2)), answer("1", found)), (question("2"), answer("2"))], {"cpu": "x"}
    )
    write_run(first, tmp_path)
    again = read_run(tmp_path)
    assert again.answers == first.answers
    assert again.dataset.questions == first.dataset.questions
    assert again.about["cpu"] == "x"


def test_a_folder_that_is_no_run_or_lacks_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is no run"):
        read_run(tmp_path)
    write_run(run([(question("1"), answer("1"))]), tmp_path)
    (tmp_path / "answers.jsonl").write_text("")
    with pytest.raises(Invalid, match="lacks 1 answers"):
        read_run(tmp_path)
    (tmp_path / "answers.jsonl").write_text("{")
    with pytest.raises(Invalid, match="cannot be read"):
        read_run(tmp_path)
