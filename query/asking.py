"""A question, and what is checked before anything is asked."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace

from index.store import LATEST_MS
from proto.access import EVERYTHING, Scope
from proto.errors import Invalid
from proto.types import check_moment_ids
from query.settings import QuerySettings

MOST_IMAGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for: exactly one of text, image and moment_id. Cameras empty means all; times 0 are open."""

    text: str | None = None
    image: bytes | None = None
    moment_id: str | None = None
    cameras: tuple[str, ...] = ()
    start_ms: int = 0
    end_ms: int = 0
    limit: int = 10
    objects: tuple[str, ...] = ()
    """Only moments in which all of these kinds of objects were seen."""
    min_confidence: float = 0.0
    """Only hits of at least this confidence."""
    all_moments: bool = False
    """Every moment by itself: nothing is joined or left out."""
    by_time: bool = False
    """Earliest first instead of best first."""
    groups: tuple[str, ...] = ()
    """Cameras of these groups too."""
    scope: Scope = EVERYTHING
    """What whoever asks may see. It is part of everything that is asked for this question."""

    @property
    def seen(self) -> frozenset[str] | None:
        """The cameras that may answer: those wanted, as far as they may be seen. None: all; an empty set: none."""
        return self.scope.narrowed(self.cameras)


def checked(question: Question, settings: QuerySettings, kinds: Collection[str]) -> Question:
    """The question with its texts normalised. Raises Invalid when it cannot be answered.

    `kinds` are the kinds of objects that the bundle knows.
    """
    if [question.text, question.image, question.moment_id].count(None) != 2:
        raise Invalid("there is no question", todo="give exactly one of text, image and moment_id")
    if not 1 <= question.limit <= settings.max_limit:
        raise Invalid(f"{question.limit} hits were asked for", todo=f"ask for 1 to {settings.max_limit}")
    _check_times(question)
    if not 0 <= question.min_confidence <= 1:  # also refuses NaN
        raise Invalid(
            f"a confidence of at least {question.min_confidence:g} was asked for",
            todo="give min_confidence from 0 to 1, such as 0.5",
        )
    if question.image is not None and not 0 < len(question.image) <= MOST_IMAGE_BYTES:
        raise Invalid(
            f"the image has {len(question.image)} bytes", todo=f"give a picture of 1 to {MOST_IMAGE_BYTES} bytes"
        )
    if question.moment_id is not None:
        check_moment_ids([question.moment_id])
    text = None if question.text is None else _checked_text(question.text, settings)
    return replace(question, text=text, objects=tuple(_checked_kind(name, kinds) for name in question.objects))


def _check_times(question: Question) -> None:
    if not (0 <= question.start_ms <= LATEST_MS and 0 <= question.end_ms <= LATEST_MS):
        raise Invalid(
            f"{question.start_ms} to {question.end_ms} is not a span of time",
            todo="give milliseconds since 1970 UTC, or 0 for open",
        )
    if question.end_ms and question.start_ms >= question.end_ms:
        raise Invalid(
            f"the search ends at {question.end_ms}, which is not after its start at {question.start_ms}",
            todo="give an end_ms after start_ms, or 0 for until now",
        )


def _checked_text(text: str, settings: QuerySettings) -> str:
    if not text.strip():
        raise Invalid("the question is empty", todo="say in words what to look for")
    if len(text) > settings.max_text:
        raise Invalid(f"the question has {len(text)} characters", todo=f"say it in at most {settings.max_text}")
    return " ".join(text.split())


def _checked_kind(name: str, kinds: Collection[str]) -> str:
    kind = " ".join(name.lower().split())
    if kind in kinds:
        return kind
    if not kinds:
        raise Invalid(
            "this bundle knows no kinds of objects",
            todo="ask in words instead of `objects`, or use a bundle with a detector, such as the built-in one",
        )
    near = difflib.get_close_matches(kind[:64], kinds, n=3, cutoff=0.5)
    known = f"did you mean {', '.join(near)}? " if near else f"known are {', '.join(sorted(kinds)[:5])} and others: "
    raise Invalid(
        f"{name[:40]!r} is no kind of object that can be asked for",
        todo=f"{known}`kinds` of the Cameras call and `watchword kinds` show all",
    )
