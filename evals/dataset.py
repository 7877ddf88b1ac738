"""A dataset: recordings, and questions whose answers in them are known.

A folder holds `questions.jsonl`, one question a line, and `videos.jsonl`, one recording a line:

    {"video": "gate-01", "path": "gate-01.mp4", "start_ms": 1767254400000, "part": "test", "condition": "night",
     "fixed": true, "duration_s": 60.0}
    {"qid": 1, "query": "a person walking", "language": "en", "group": "person-walking", "video": null, "part": "test",
     "relevant": [{"video": "gate-01", "start_s": 3.0, "end_s": 9.5, "box": [0.1, 0.2, 0.3, 0.6], "share": 0.08,
     "condition": "night"}], "absent": false, "what": "person"}

A relevant span may say where the thing is in the course of it: "track": [[3.0, [0.0, 0.2, 0.1, 0.6]], [3.5, ...], ...].

A video's name is the name of its camera. Its `path` is null for a live camera, which only a service that has watched it
can be asked about; seconds count from `start_ms`. `video` of a question is null (all recordings of its part), a name,
or a list of names. Questions of one `group` mean the same, in several languages. An absent question has no relevant
span. Relevant spans of one recording may overlap only where they show two things, each with its own box.
`dataset.json` is optional: {"name", "licence", "notes"}.

Lines of QVHighlights are read too: {"qid", "query", "vid", "duration", "relevant_windows"}. The recording is then
`vid.mp4` (or .mkv, .webm, .avi, .mov), in the folder or in `videos/`; videos.jsonl may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from proto.types import Box

Part = Literal["train", "test"]
What = Literal["", "person", "vehicle", "animal", "thing", "scene"]

QUESTIONS, VIDEOS, ABOUT = "questions.jsonl", "videos.jsonl", "dataset.json"
DEFAULT_START_MS = 1_767_254_400_000
"""2026-01-01 08:00 UTC: the time of the first picture of a recording that names none."""


@dataclass(frozen=True, slots=True)
class Video:
    """A recording, and the camera that replays it."""

    name: str
    path: Path | None
    """None for a live camera: only a service that has watched it can be asked."""
    start_ms: int = DEFAULT_START_MS
    """The time of its first picture."""
    part: Part = "test"
    condition: str = ""
    """Such as "day" or "night"."""
    fixed: bool = True
    """Whether the camera stands still."""
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Relevant:
    """A span that answers a question."""

    video: str
    start_s: float
    end_s: float
    box: Box | None = None
    track: tuple[tuple[float, Box], ...] = field(default=(), compare=False)
    """Where it is at seconds of the recording, in their order; several boxes of one second are of several things."""
    share: float | None = None
    """The share of the picture that it covers."""
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and everything that answers it."""

    qid: str
    query: str
    language: str = "en"
    group: str = ""
    """Questions of one group mean the same, so that they are no independent evidence."""
    videos: tuple[str, ...] = ()
    """Where to search; empty: all recordings of its part."""
    part: Part = "test"
    relevant: tuple[Relevant, ...] = ()
    absent: bool = False
    """Nothing answers it."""
    what: What = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Recordings and questions."""

    folder: Path
    name: str
    videos: Mapping[str, Video]
    questions: tuple[Question, ...]
    licence: str = ""
    notes: str = ""
    digest: str = field(default="", compare=False)
    """A hash of both files: two runs with the same digest answered the same questions."""

    def searched(self, question: Question) -> tuple[str, ...]:
        """The cameras in which the question is asked."""
        return question.videos or tuple(
            sorted(video.name for video in self.videos.values() if video.part == question.part)
        )


def write_dataset(dataset: Dataset, folder: Path) -> None:
    """Write the questions and the recordings' lines in the format of `read_dataset`. Paths become absolute."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"name": dataset.name, "licence": dataset.licence, "notes": dataset.notes}
    (folder / ABOUT).write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    _write_lines(folder / VIDEOS, [_video_line(video) for video in dataset.videos.values()])
    _write_lines(folder / QUESTIONS, [_question_line(question) for question in dataset.questions])


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _video_line(video: Video) -> dict[str, Any]:
    return {
        "video": video.name,
        "path": str(video.path.absolute()) if video.path else None,
        "start_ms": video.start_ms,
        "part": video.part,
        "condition": video.condition,
        "fixed": video.fixed,
        "duration_s": video.duration_s,
    }


def _sides(box: Box) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]


def _question_line(question: Question) -> dict[str, Any]:
    return {
        "qid": question.qid,
        "query": question.query,
        "language": question.language,
        "group": question.group,
        "video": list(question.videos) or None,
        "part": question.part,
        "relevant": [
            {
                "video": one.video,
                "start_s": one.start_s,
                "end_s": one.end_s,
                "box": _sides(one.box) if one.box else None,
                **({"track": [[at_s, _sides(box)] for at_s, box in one.track]} if one.track else {}),
                "share": one.share,
                "condition": one.condition,
            }
            for one in question.relevant
        ],
        "absent": question.absent,
        "what": question.what or None,
    }
