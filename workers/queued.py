"""One picture or text on its way through the worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from models.detector import DetectorPicture, Found
from models.preprocess import Pixels
from models.tokens import Tokens
from proto import metrics
from proto.errors import Poison, WatchwordError
from proto.tracing import Trail
from proto.types import Vector

Kind = Literal["image", "text", "object"]
"""`object`: a picture to look for objects in."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One item's answer."""

    vector: Vector
    truncated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """The objects in one picture with their vectors, the surest first."""

    objects: list[tuple[Found, Vector]]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A decoded picture to look for objects in."""

    pixels: Pixels
    scaled: DetectorPicture


Answer = Embedded | Detected
Prepared = int | Tokens | Sight


@dataclass(slots=True, eq=False)
class QueuedItem:
    """One admitted item. Its future yields its answer, or this item's error."""

    kind: Kind
    content: bytes | str
    """The encoded picture, or the text."""
    arrived: float
    answer: asyncio.Future[Answer]
    prepared: Prepared | None = field(default=None)
    """The tokens of a text, the place of a picture in its batch, or the picture to look for objects in."""
    tries: int = field(default=0)
    """Engines that have tried this item."""
    trail: Trail | None = field(default=None)
    """On the last item of a request that is traced."""

    def answered(self) -> bool:
        """Whether it is done; also true when the caller cancelled it."""
        return self.answer.done()

    def fail(self, error: WatchwordError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            metrics.ENCODER_ITEMS.labels(self.kind, error.reason if isinstance(error, Poison) else "failed").inc()

    def embedded(self, vector: Vector) -> None:
        self.succeed(Embedded(vector, isinstance(self.prepared, Tokens) and self.prepared.truncated))

    def succeed(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)
            metrics.ENCODER_ITEMS.labels(self.kind, "ok").inc()
