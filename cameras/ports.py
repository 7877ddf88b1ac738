"""What a watched camera needs of others, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from cameras.looking import ViewNotebook
from catalog.coverage import Gap
from catalog.progress import Progress
from proto.v1.events_pb2 import Frame


class Sender(Protocol):
    """What brings frames to the broker."""

    async def send(self, frame: Frame) -> None:
        """Send one frame; back once the broker has it. Transient, or Invalid when it never can."""


class Notebook(ViewNotebook, Protocol):
    """What is told of a camera beside its frames. Nothing blocks, except where it says so."""

    def gap(self, gap: Gap) -> None:
        """Declare the gap, in place of an earlier one with the same start."""

    def progress(self, progress: Progress) -> None:
        """Store the progress."""

    def begin(self, progress: Progress) -> None:
        """Store the progress of a new replay at once. Blocks; raises when that is not possible."""

    def progress_of(self, camera: str) -> Progress | None:
        """The latest progress. Blocks; raises when that is not possible."""


@dataclass(frozen=True, slots=True)
class CameraState:
    """How a camera is doing, for a person."""

    now: Literal["waiting", "open", "failed", "done"]
    """Waiting for the first picture; delivering; failed and to be tried again; a file that came to its end."""
    picture_ms: int | None = None
    """When the last picture was in hand, by the wall clock."""
    error: str = ""
