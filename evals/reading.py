"""Reads and checks a dataset (its format: evals/dataset.py). All problems are told at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from evals.dataset import ABOUT, DEFAULT_START_MS, QUESTIONS, VIDEOS, Dataset, Part, Question, Relevant, Video, What
from proto.errors import Invalid
from proto.types import CAMERA_NAME, Box

MOST_TOLD = 20
_ROUNDING_S = 0.5
"""A span may end so much after its recording: durations are rounded, and the last frame has a length."""
_ENDINGS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_FORMAT = "the head of evals/dataset.py shows the form"

DurationOf = Callable[[Path], float | None]


def read_dataset(folder: Path, *, clips: bool = True, duration_of: DurationOf | None = None) -> Dataset:
    """Read and check a dataset. Invalid tells the first problems at once, each with its file, its line and what to do.

    `clips=False` does not ask for the recordings themselves. `duration_of` opens each of them: it raises Invalid where
    one cannot be played, and tells how long it is where its line does not.
    """
    return _Reading(folder, clips, duration_of).dataset()


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _VideoLine(_Line):
    video: str
    path: str | None
    start_ms: int = Field(DEFAULT_START_MS, ge=0)
    part: Part = "test"
    condition: str = ""
    fixed: bool = True
    duration_s: float | None = Field(None, gt=0)


def _sound(sides: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not Box(*sides).is_sound():
        raise ValueError("a box is [left, top, right, bottom] in shares of the picture, 0 to 1")
    return sides


_Sides = Annotated[tuple[float, float, float, float], AfterValidator(_sound)]


class _RelevantLine(_Line):
    video: str
    start_s: float = Field(ge=0)
    end_s: float
    box: _Sides | None = None
    track: list[tuple[float, _Sides]] = []
    share: float | None = Field(None, gt=0, le=1)
    condition: str = ""


class _QuestionLine(_Line):
    qid: int | str
    query: str
    language: str = "en"
    group: str = ""
    video: str | list[str] | None = None
    part: Part = "test"
    relevant: list[_RelevantLine] = []
    absent: bool = False
    what: What | None = None


class _PlainLine(_Line):
    """A line of QVHighlights."""

    qid: int | str
    query: str
    vid: str
    duration: float = Field(gt=0)
    relevant_windows: list[tuple[float, float]] = []


class _Reading:
    """One reading of a folder; it collects every problem before it raises."""

    def __init__(self, folder: Path, clips: bool, duration_of: DurationOf | None) -> None:
        self._folder = folder
        self._clips = clips
        self._duration_of = duration_of
        self._problems: list[str] = []
        self._videos: dict[str, Video] = {}
        self._digest = hashlib.blake2b(digest_size=8)

    def dataset(self) -> Dataset:
        if not self._folder.is_dir():
            raise Invalid(f"there is no folder {self._folder}", todo="name the folder of a dataset")
        about = self._about()
        for number, values in self._lines(VIDEOS, needed=False):
            self._take_video(number, values)
        questions: dict[str, Question] = {}
        for number, values in self._lines(QUESTIONS, needed=True):
            question = self._question(number, values)
            if question is not None and question.qid in questions:
                self._problem(QUESTIONS, number, f"qid {question.qid} is there twice", "give each question its own")
            elif question is not None:
                questions[question.qid] = question
        if not questions and not self._problems:
            self._problem(QUESTIONS, 0, "it has no question", _FORMAT)
        self._raise()
        return Dataset(
            self._folder,
            str(about.get("name") or self._folder.resolve().name),
            self._videos,
            tuple(questions.values()),
            str(about.get("licence") or ""),
            str(about.get("notes") or ""),
            self._digest.hexdigest(),
        )

    def _raise(self) -> None:
        if not self._problems:
            return
        told = "".join(f"\n  {line}" for line in self._problems[:MOST_TOLD])
        if len(self._problems) > MOST_TOLD:
            told += f"\n  and {len(self._problems) - MOST_TOLD} more"
        count = f"{len(self._problems)} problem{'' if len(self._problems) == 1 else 's'}"
        raise Invalid(f"the dataset {self._folder} has {count}:{told}")

    def _problem(self, file: str, line: int, words: str, todo: str) -> None:
        place = f"{file}:{line}" if line else file
        self._problems.append(f"{place}: {words}: {todo}")

    def _about(self) -> dict[str, Any]:
        path = self._folder / ABOUT
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._problem(ABOUT, 0, f"it cannot be read ({error})", "write a JSON object, or remove the file")
            return {}
        return found if isinstance(found, dict) else {}

    def _lines(self, file: str, *, needed: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        path = self._folder / file
        if not path.exists() and not needed:
            return
        try:
            data = path.read_bytes()
            text = data.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._problem(file, 0, f"it cannot be read ({error})", f"write one JSON object a line, in UTF-8; {_FORMAT}")
            return
        self._digest.update(data)
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError as error:
                self._problem(file, number, f"this is not JSON ({error})", "write one JSON object a line")
                continue
            if isinstance(values, dict):
                yield number, values
            else:
                self._problem(file, number, "this is not a JSON object", "write one JSON object a line")

    def _told_of(self, file: str, number: int, error: ValidationError) -> None:
        for one in error.errors():
            key = ".".join(str(part) for part in one["loc"])
            words = (
                f"{key} is missing" if one["type"] == "missing" else f"{key} = {one['input']!r}: {_lower(one['msg'])}"
            )
            self._problem(file, number, words, _FORMAT)

    def _take_video(self, number: int, values: dict[str, Any]) -> None:
        try:
            line = _VideoLine.model_validate(values)
        except ValidationError as error:
            return self._told_of(VIDEOS, number, error)
        if not CAMERA_NAME.fullmatch(line.video):
            todo = "use 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter or a digit"
            return self._problem(VIDEOS, number, f"{line.video!r} cannot be a camera's name", todo)
        if line.video in self._videos:
            return self._problem(VIDEOS, number, f"{line.video} is there twice", "give each recording its own name")
        path = None if line.path is None else (self._folder / line.path).absolute()
        duration_s = line.duration_s
        if path is not None and self._clips and not path.is_file():
            self._problem(
                VIDEOS, number, f"there is no file {path}", "give the path of the recording, from this folder on"
            )
        elif path is not None and self._clips and self._duration_of is not None:
            found_s = self._length_of(path, number)
            duration_s = found_s if duration_s is None else duration_s
        self._videos[line.video] = Video(
            line.video, path, line.start_ms, line.part, line.condition, line.fixed, duration_s
        )
        return None

    def _length_of(self, path: Path, number: int) -> float | None:
        assert self._duration_of is not None
        try:
            return self._duration_of(path)
        except Invalid as error:
            self._problem(VIDEOS, number, error.message, error.todo or "give a video that can be played")
            return None

    def _question(self, number: int, values: dict[str, Any]) -> Question | None:
        try:
            if "relevant_windows" in values or "vid" in values:
                question = self._plain(number, _PlainLine.model_validate(values))
            else:
                question = _question_of(_QuestionLine.model_validate(values))
        except ValidationError as error:
            self._told_of(QUESTIONS, number, error)
            return None
        for words, todo in self._wrong(question):
            self._problem(QUESTIONS, number, words, todo)
        return question

    def _plain(self, number: int, line: _PlainLine) -> Question:
        """The question of a QVHighlights line. Its recording is added unless videos.jsonl has it."""
        name = line.vid if CAMERA_NAME.fullmatch(line.vid) else f"v{line.vid}"
        if name not in self._videos:
            path = self._clip_of(line.vid)
            if path is None and self._clips:
                todo = f"put {line.vid}{_ENDINGS[0]} into the folder, or name it in {VIDEOS}"
                self._problem(QUESTIONS, number, f"there is no recording {line.vid}", todo)
            path = (path or self._folder / f"{line.vid}{_ENDINGS[0]}").absolute()
            self._videos[name] = Video(name, path, duration_s=line.duration)
        video = self._videos[name]
        windows = tuple(Relevant(name, start, end) for start, end in line.relevant_windows)
        return Question(
            str(line.qid), line.query, group=str(line.qid), videos=(name,), part=video.part, relevant=windows,
            absent=not windows,
        )  # fmt: skip

    def _clip_of(self, vid: str) -> Path | None:
        places = (self._folder / below / f"{vid}{ending}" for below in (".", "videos") for ending in _ENDINGS)
        return next((path for path in places if path.is_file()), None)

    def _wrong(self, question: Question) -> Iterator[tuple[str, str]]:
        """What is wrong with the question, and what to do."""
        if not question.query.strip():
            yield "the query is empty", "say in words what to look for"
        if question.absent and question.relevant:
            yield "it is absent and has relevant spans", "remove the spans, or set absent to false"
        if not question.absent and not question.relevant:
            yield "it has no relevant span", "give one, or set absent to true"
        for name in question.videos:
            yield from self._wrong_video(question, name)
        for one in question.relevant:
            yield from self._wrong_span(question, one)
        yield from _overlapping(question.relevant)

    def _wrong_video(self, question: Question, name: str) -> Iterator[tuple[str, str]]:
        if name not in self._videos:
            yield f"{name!r} is no recording of this dataset", f"name one of {VIDEOS}: {_some(list(self._videos))}"
        elif self._videos[name].part != question.part:
            part = self._videos[name].part
            yield f"the question is of the {question.part} part, {name} of the {part} part", "name one of its own part"

    def _wrong_span(self, question: Question, one: Relevant) -> Iterator[tuple[str, str]]:
        span = f"{one.start_s:g} to {one.end_s:g} s of {one.video}"
        if not 0 <= one.start_s < one.end_s:
            yield f"{span} is no span", "give start_s from 0 on, and end_s after it"
        if one.video not in self._videos or (question.videos and one.video not in question.videos):
            where = question.videos or tuple(self._videos)
            yield f"a relevant span is in {one.video!r}, which is not searched", f"name one of: {_some(list(where))}"
            return
        if not question.videos:
            yield from self._wrong_video(question, one.video)
        lasts_s = self._videos[one.video].duration_s
        if lasts_s is not None and one.end_s > lasts_s + _ROUNDING_S:
            yield f"{span} ends after the recording, which lasts {lasts_s:g} s", "end it within the recording"


def _question_of(line: _QuestionLine) -> Question:
    videos = () if line.video is None else (line.video,) if isinstance(line.video, str) else tuple(line.video)
    relevant = tuple(
        Relevant(
            one.video,
            one.start_s,
            one.end_s,
            Box(*one.box) if one.box else None,
            tuple(sorted(((at_s, Box(*sides)) for at_s, sides in one.track), key=lambda entry: entry[0])),
            one.share,
            one.condition,
        )
        for one in line.relevant
    )
    return Question(
        str(line.qid), line.query, line.language, line.group or str(line.qid), videos, line.part, relevant, line.absent,
        line.what or "",
    )  # fmt: skip


def _overlapping(relevant: Sequence[Relevant]) -> Iterator[tuple[str, str]]:
    """Spans of one recording may overlap only where they show two things, each at its own place."""
    ordered = sorted(relevant, key=lambda one: (one.video, one.start_s))
    for first, second in pairwise(ordered):
        two_things = first.box is not None and second.box is not None and first.box != second.box
        if first.video == second.video and second.start_s < first.end_s and not two_things:
            spans = f"{first.start_s:g} to {first.end_s:g} s and {second.start_s:g} to {second.end_s:g} s"
            yield f"{spans} of {first.video} overlap", "make them one span, or give each thing its own box"


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "") if names else "none is known"


def _lower(words: str) -> str:
    words = words.removeprefix("Value error, ")
    return words[:1].lower() + words[1:]
