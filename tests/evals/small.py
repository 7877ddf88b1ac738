"""Small datasets and runs, made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.answers import Answered, Hit, Run
from evals.dataset import Dataset, Question, Relevant, Video

START_MS = 1_767_254_400_000
GATE = Video("gate", Path("gate.mp4"), START_MS, condition="day", duration_s=60.0)
DOCK = Video("dock", Path("dock.mp4"), START_MS, condition="night", duration_s=60.0)
VIDEOS = {"gate": GATE, "dock": DOCK}


def hit(camera: str = "gate", start_s: float = 0, end_s: float = 10, at_s: float | None = None, **more: Any) -> Hit:
    at_ms = START_MS + round(1000 * ((start_s + end_s) / 2 if at_s is None else at_s))
    start_ms, end_ms = START_MS + round(1000 * start_s), START_MS + round(1000 * end_s)
    return Hit(camera, start_ms, end_ms, at_ms, **{"score": 0.5, **more})


def question(qid: str, *relevant: Relevant, **more: Any) -> Question:
    values = {"query": f"question {qid}", "group": qid, "absent": not relevant, **more}
    return Question(qid, relevant=relevant, **values)


def answer(qid: str, *hits: Hit, no_confident_match: bool = False) -> Answered:
    return Answered(qid, hits, no_confident_match, space="0" * 16)


def run(pairs: Sequence[tuple[Question, Answered]], about: Mapping[str, Any] | None = None) -> Run:
    videos = {name: replace(video, part=pairs[0][0].part) for name, video in VIDEOS.items()}
    dataset = Dataset(Path("small"), "small", videos, tuple(one for one, _ in pairs))
    return Run(dataset, {one.qid: given for one, given in pairs}, about or {})


def of_part(part: Any, pairs: Sequence[tuple[Question, Answered]]) -> list[tuple[Question, Answered]]:
    return [(replace(one, part=part), given) for one, given in pairs]


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_small(folder: Path, *questions: Mapping[str, Any]) -> Path:
    """A dataset with two recordings (empty files) and these questions."""
    write_lines(
        folder / "videos.jsonl",
        [
            {"video": name, "path": f"{name}.mp4", "start_ms": START_MS, "part": "test", "duration_s": 60.0}
            for name in ("gate", "dock")
        ],
    )
    for name in ("gate", "dock"):
        (folder / f"{name}.mp4").touch()
    write_lines(folder / "questions.jsonl", list(questions))
    return folder


def plain_question(qid: int, **more: Any) -> dict[str, Any]:
    span = {"video": "gate", "start_s": 1, "end_s": 5}
    return {"qid": qid, "query": "a red truck", "relevant": [] if more.get("absent") else [span], **more}
