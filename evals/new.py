"""Makes a dataset from a person's own footage: questions, and which hits of the running service answer them.

For each question the service is searched, and one typed line says what is right:

    1 3                         the first and the third hit answer it
    gate 10:00-10:05            so does this span of a camera
    none                        nothing answers it: an absent question
                                (an empty line skips the question)

Numbers and spans may be mixed. What is not marked counts as wrong, so give a span for what the service did not find.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evals.dataset import QUESTIONS, Dataset, Part, Question, Relevant, Video, write_dataset
from evals.reading import read_dataset
from evals.run import Asker, Say
from proto.errors import Invalid
from proto.v1 import query_pb2

MOST_QUESTIONS = 20
_SHOWN = 10
_LEAST_MS = 1000
"""A moment of one picture has no length; a relevant span has."""

VideoOf = Callable[[str], Video]
TimeOf = Callable[[str], int]
ShowHit = Callable[[query_pb2.Hit], str]


@dataclass(frozen=True, slots=True)
class Marked:
    """What a person said of one question."""

    query: str
    spans: tuple[tuple[str, int, int], ...] = ()
    """Camera, start and end in milliseconds."""


@dataclass(slots=True)
class Making:
    """A dataset that is being made. It adds to what the folder has already."""

    folder: Path
    video_of: VideoOf
    """The recording that a camera replays, or the camera itself where it is live. Raises Unknown."""
    part: Part = "test"
    language: str = "en"
    _videos: dict[str, Video] = field(default_factory=dict)
    _questions: list[Question] = field(default_factory=list)

    def __post_init__(self) -> None:
        if (self.folder / QUESTIONS).exists():
            known = read_dataset(self.folder, clips=False)
            self._videos, self._questions = dict(known.videos), list(known.questions)

    def add(self, marked: Marked) -> Question:
        """Add a question."""
        spans = [self._relevant(*span) for span in _merged(marked.spans)]
        question = Question(
            qid=str(len(self._questions) + 1),
            query=marked.query,
            language=self.language,
            group=str(len(self._questions) + 1),
            part=self.part,
            relevant=tuple(spans),
            absent=not spans,
        )
        self._questions.append(question)
        return question

    def write(self, cameras: Sequence[str]) -> Dataset:
        """Write the folder. `cameras` are searched as well, also where nothing of them was marked."""
        for name in cameras:
            self._video(name)
        dataset = Dataset(self.folder, self.folder.resolve().name, self._videos, tuple(self._questions))
        write_dataset(dataset, self.folder)
        return read_dataset(self.folder, clips=False)

    def _video(self, camera: str) -> Video:
        if camera not in self._videos:
            self._videos[camera] = replace(self.video_of(camera), part=self.part)
        return self._videos[camera]

    def _relevant(self, camera: str, start_ms: int, end_ms: int) -> Relevant:
        video = self._video(camera)
        if start_ms < video.start_ms:
            raise Invalid(f"the span starts before the recording of {camera}", todo="give a time within the recording")
        return Relevant(camera, (start_ms - video.start_ms) / 1000, (end_ms - video.start_ms) / 1000)


async def ask_and_mark(
    questions: Iterable[str], typed: Iterator[str], service: Asker, time_of: TimeOf, show: ShowHit, say: Say
) -> list[Marked]:
    """Search each question and read from `typed` what is right. A line that makes no sense is asked for again."""
    found = []
    for number, query in enumerate(questions, 1):
        if number > MOST_QUESTIONS:
            break
        reply, _ = await service.ask(query_pb2.SearchRequest(text=query, limit=_SHOWN))
        say(f"{number}. {query}")
        for place, hit in enumerate(reply.hits, 1):
            say(f"  {place:2} {show(hit)}")
        marked = await asyncio.to_thread(_read_mark, query, reply.hits, typed, time_of, say)
        if marked is not None:
            found.append(marked)
    return found


def typed_questions(typed: Iterator[str], say: Say) -> Iterator[str]:
    """Questions as they are typed, until an empty line."""
    for number in range(1, MOST_QUESTIONS + 1):
        say(f"question {number} (an empty line ends):")
        query = next(typed, "").strip()
        if not query:
            return
        yield query


def parse_mark(query: str, hits: Sequence[query_pb2.Hit], line: str, time_of: TimeOf) -> Marked | None:
    """What the line says of the question; None for an empty line. Invalid when it makes no sense."""
    words = line.split()
    if not words:
        return None
    if words == ["none"]:
        return Marked(query)
    spans: list[tuple[str, int, int]] = []
    while words:
        word = words.pop(0)
        if word.isdigit() and (not words or "-" not in words[0] or words[0].isdigit()):
            if not 1 <= int(word) <= len(hits):
                raise Invalid(f"there is no hit {word}", todo=f"give numbers from 1 to {len(hits)}, a span, or none")
            hit = hits[int(word) - 1]
            spans.append((hit.camera, hit.start_ms, max(hit.end_ms, hit.start_ms + _LEAST_MS)))
        elif words:
            spans.append(parse_span(word, words.pop(0), time_of))
        else:
            raise Invalid(f"{word!r} is not understood", todo="write numbers of hits, gate 10:00-10:05, or none")
    return Marked(query, tuple(spans))


def parse_span(camera: str, words: str, time_of: TimeOf) -> tuple[str, int, int]:
    """`10:00-10:05` or `2026-05-01T10:00..2026-05-01T10:05` of a camera."""
    start, separator, end = words.partition("..") if ".." in words else words.partition("-")
    if not separator:
        raise Invalid(f"{words!r} is no span of time", todo="write 10:00-10:05")
    start_ms, end_ms = time_of(start), time_of(end)
    if end_ms <= start_ms:
        raise Invalid(f"the span {words} ends before it starts", todo="write the earlier time first")
    return camera, start_ms, end_ms


def _read_mark(
    query: str, hits: Sequence[query_pb2.Hit], typed: Iterator[str], time_of: TimeOf, say: Say
) -> Marked | None:
    say("  which are right? (numbers, CAMERA START-END, none; an empty line skips)")
    for line in typed:
        try:
            return parse_mark(query, hits, line, time_of)
        except Invalid as error:
            say(f"  {error}")
    return None


def _merged(spans: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The spans, with those that overlap made one."""
    found: list[tuple[str, int, int]] = []
    for camera, start_ms, end_ms in sorted(spans):
        if found and found[-1][0] == camera and start_ms < found[-1][2]:
            found[-1] = camera, found[-1][1], max(found[-1][2], end_ms)
        else:
            found.append((camera, start_ms, end_ms))
    return found
