"""The answers of one run, and the folder that keeps them.

A run folder holds `run.json` (what answered, with which settings), the dataset as it was asked (`questions.jsonl`,
`videos.jsonl`, `dataset.json`), and `answers.jsonl`, one question a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import TypeAdapter, ValidationError

from evals.dataset import Dataset, write_dataset
from evals.reading import read_dataset
from proto.errors import Invalid
from proto.types import WHOLE, Box
from proto.v1 import query_pb2

RUN, ANSWERS = "run.json", "answers.jsonl"
FEATURES_KEY = "watchword-features"
"""Trailing metadata of a search: for each hit the numbers that its confidence was computed from."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Hit:
    """A hit as the service gave it."""

    camera: str
    start_ms: int
    end_ms: int
    at_ms: int
    """When its picture was taken."""
    score: float
    confidence: float = 0.0
    box: Box | None = None
    """Where in the picture; None for the whole of it, or when the service does not tell."""
    kind: str = ""
    objects: dict[str, int] = field(default_factory=dict)
    moment_id: str = ""
    moments: int = 0
    closed: bool = True
    frames: int = 0
    features: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one question, best hit first."""

    qid: str
    hits: tuple[Hit, ...]
    no_confident_match: bool = False
    space: str = ""
    partial: bool = False
    took_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run: the questions, the answers, and what answered."""

    dataset: Dataset
    answers: Mapping[str, Answered]
    about: Mapping[str, Any]
    """Plain values: bundle, space, commit, cpu, settings, limit, ..."""

    @property
    def has_confidence(self) -> bool:
        """False for a service that gives no confidence, such as an older one."""
        return any(answer.no_confident_match or any(hit.confidence for hit in answer.hits) for answer in self)

    def __iter__(self) -> Iterator[Answered]:
        return iter(self.answers.values())


def answered(qid: str, reply: query_pb2.SearchReply, trailing: Mapping[str, str], took_ms: float) -> Answered:
    """The reply as plain values. Fields that an older service does not know get their meaning from the older ones."""
    features = features_of(trailing.get(FEATURES_KEY, ""), len(reply.hits))
    hits = tuple(_hit(hit, features[place] if features else {}) for place, hit in enumerate(reply.hits))
    return Answered(qid, hits, reply.no_confident_match, reply.space, reply.coverage.partial, round(took_ms, 2))


def features_of(text: str, hits: int) -> list[dict[str, float]]:
    """The features of each hit; empty when the service sends none.

    JSON, percent-encoded: {"names": [NAME, ...], "rows": [[NUMBER, ...], ...]} or [{NAME: NUMBER, ...}, ...], with one
    row or object for each hit.
    """
    if not text:
        return []
    try:
        told = json.loads(unquote(text))
        rows = [dict(zip(told["names"], row, strict=True)) for row in told["rows"]] if "names" in told else list(told)
        found = [{str(name): float(value) for name, value in row.items()} for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"the service sent {FEATURES_KEY} in a form that is not known ({error})") from error
    if len(found) != hits:
        raise Invalid(f"the service sent features of {len(found)} hits beside {hits} hits")
    return found


def write_run(run: Run, folder: Path) -> None:
    """Write the run's folder."""
    write_dataset(run.dataset, folder)
    lines = [json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in run.answers.values()]
    (folder / ANSWERS).write_text("".join(lines), encoding="utf-8")
    about = {"version": _VERSION, **run.about}
    (folder / RUN).write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_run(folder: Path) -> Run:
    """Read a run's folder. Invalid when it is none, or is incomplete."""
    if not (folder / RUN).is_file():
        raise Invalid(f"{folder} is no run", todo="name a folder that `watchword eval run` made")
    try:
        about = json.loads((folder / RUN).read_text(encoding="utf-8"))
        lines = (folder / ANSWERS).read_text(encoding="utf-8").splitlines()
        answers = [_ANSWERED.validate_json(line) for line in lines]
    except (OSError, ValueError, ValidationError) as error:
        raise Invalid(f"the run {folder} cannot be read ({error})", todo="run `watchword eval run` again") from error
    if about.get("version") != _VERSION:
        raise Invalid(f"the run {folder} is of version {about.get('version')}, this Watchword knows version {_VERSION}")
    dataset = read_dataset(folder, clips=False)
    found = {answer.qid: answer for answer in answers}
    missing = [question.qid for question in dataset.questions if question.qid not in found]
    if missing:
        raise Invalid(f"the run {folder} lacks {len(missing)} answers", todo="run `watchword eval run` again")
    return Run(dataset, found, about)


def _hit(hit: query_pb2.Hit, features: dict[str, float]) -> Hit:
    box = Box(hit.box.left, hit.box.top, hit.box.right, hit.box.bottom) if hit.HasField("box") else WHOLE
    return Hit(
        camera=hit.camera,
        start_ms=hit.start_ms,
        end_ms=hit.end_ms,
        at_ms=hit.at_ms or hit.peak_ms,
        score=hit.score,
        confidence=hit.confidence,
        box=None if box == WHOLE or not box.is_sound() else box,
        kind=hit.kind,
        objects={one.kind: one.count for one in hit.objects},
        moment_id=hit.moment_id,
        moments=hit.moments,
        closed=hit.closed,
        frames=hit.frames,
        features=features,
    )


_ANSWERED = TypeAdapter(Answered)
