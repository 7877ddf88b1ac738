"""The port to the broker, as the stream worker uses it: by Faust in `app.py`, in memory in `memory.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from proto.tracing import Trail
from stream.fence import Lease


class Mark(NamedTuple):
    """Where a record lies in the log."""

    partition: int
    offset: int


class Record(NamedTuple):
    """A record of the frames topic, as it came."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    at_ms: int
    """When the broker took it, by the broker's clock."""
    last: bool = False
    """Nothing lay behind it in its partition when it was fetched."""
    trail: Trail | None = None
    """Of a frame that is traced."""

    @property
    def mark(self) -> Mark:
        return Mark(self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class Held:
    """A partition as it was when the group gave it to this worker."""

    partition: int
    start: int
    """The next offset to read: what was committed, or the beginning of the log."""
    committed: bool
    """Whether the group ever committed here."""
    end: int
    """Where the log ended. A frame from here on was seen by no worker before."""


class Taker(Protocol):
    """Whoever takes the records. Called in the event loop that started the consumer; no method may raise."""

    async def given(self, log: str, partitions: Sequence[Held]) -> None:
        """The group gave these partitions of this incarnation of the topic, in place of all that was held before.
        Records come afterwards, from each partition's start."""

    async def take(self, records: Sequence[Record]) -> None:
        """Take records of one partition, in order. Waiting here slows the consumer down."""

    async def taken_away(self) -> None:
        """The group takes everything back. Returns once nothing is being written any more."""


class Consumer(Protocol):
    """One member of the group of stream workers. Methods raise Transient when the broker does not serve."""

    @property
    def lease(self) -> Lease:
        """Until when this member's partitions are certainly its own."""

    @property
    def ready(self) -> bool:
        """Whether the group gave this member its share, and records may flow."""

    @property
    def paused(self) -> int:
        """How many partitions are not fetched from, since what was fetched still waits to be taken."""

    async def start(self, taker: Taker) -> None:
        """Join the group, and come back once it gave this member its share."""

    async def stop(self) -> None:
        """Leave the group. Nothing is committed here."""

    def check(self) -> None:
        """Raise Transient when the consumer stopped by itself."""

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit the next offset to read of each partition. False when the group moved on meanwhile."""

    async def begins(self, partition: int) -> int:
        """The first offset that the broker still keeps."""

    async def ends(self) -> dict[int, int]:
        """Where each of this member's partitions ends now."""
