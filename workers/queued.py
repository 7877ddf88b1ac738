"""One picture or text on its way through the worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from models.tokens import Tokens
from proto import metrics
from proto.errors import Poison, WatchwordError
from proto.types import Vector

Kind = Literal["image", "text"]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One item's answer."""

    vector: Vector
    truncated: bool = False


@dataclass(slots=True, eq=False)
class QueuedItem:
    """One admitted item. Its future yields an Embedded, or this item's error."""

    kind: Kind
    content: bytes | str
    """The encoded picture, or the text."""
    arrived: float
    answer: asyncio.Future[Embedded]
    prepared: int | Tokens | None = field(default=None)
    """The tokens of a text, or the place of a picture in its batch."""
    tries: int = field(default=0)
    """Engines that have tried this item."""

    def answered(self) -> bool:
        """Whether it is done; also true when the caller cancelled it."""
        return self.answer.done()

    def fail(self, error: WatchwordError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            metrics.ENCODER_ITEMS.labels(self.kind, error.reason if isinstance(error, Poison) else "failed").inc()

    def succeed(self, vector: Vector) -> None:
        if not self.answer.done():
            truncated = isinstance(self.prepared, Tokens) and self.prepared.truncated
            self.answer.set_result(Embedded(vector, truncated))
            metrics.ENCODER_ITEMS.labels(self.kind, "ok").inc()
