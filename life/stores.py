"""What a sweeper works on, as ports. Those that are not async block, and are called from threads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from catalog.life import Work
from index.filters import Filter
from index.removal import Holding, Holdings
from index.rows import Bare
from proto.life import Gone, Rules


class Rows(Protocol):
    """The index, of whatever space. Each method may raise Transient, Overloaded or Broken."""

    async def holdings(self) -> Holdings:
        """Every bucket, oldest first, and the shards that did not answer."""

    async def rows(self, holding: Holding, which: Filter, most: int) -> list[Bare]:
        """Up to `most` rows that pass."""

    async def count(self, holding: Holding, which: Filter) -> int:
        """How many moments pass."""

    async def known(self, holding: Holding, ids: Sequence[str]) -> set[str]:
        """Those of these moments that are there."""

    async def remove(self, holding: Holding, ids: Sequence[str]) -> None:
        """Delete these rows."""

    async def drop(self, holding: Holding) -> None:
        """Delete the bucket."""


class Pictures(Protocol):
    """The pictures of moments."""

    def remove(self, moment_ids: Collection[str]) -> int:
        """Remove all of these moments; how many there were."""

    def moments(self, first_ms: int, last_ms: int) -> Iterator[tuple[str, int]]:
        """The moments that begin then and have pictures, and when these were written."""

    def bytes_of(self, moment_ids: Collection[str]) -> int:
        """How much the pictures of these moments take."""


class Notes(Protocol):
    """What the catalog holds of a time: gaps, or samples of backgrounds."""

    def forget_gone(self, gone: Gone, *, count_only: bool = False) -> int:
        """Remove what is gone; how much that was."""


class Life(Protocol):
    """The rules, and what was done for them."""

    def rules(self) -> Rules:
        """All that are in force."""

    def worked(self, number: int, store: str, removed: int, now_ms: int, *, place: str = "", done: bool) -> None:
        """Note what was removed for an erasure, and whether that is all."""

    def work(self, number: int) -> list[Work]:
        """What was done for an erasure."""

    def done(self, number: int, now_ms: int) -> None:
        """It was carried out everywhere."""

    def raise_floors(self, floors: Mapping[str, int]) -> None:
        """Let cameras begin later, for their bytes."""

    def trust(self, now_ms: int) -> None:
        """The clock is right now."""

    def clock_ms(self) -> int | None:
        """The clock of the catalog's server, if that is another machine's."""


class Leases(Protocol):
    """Who does a job."""

    def take(self, name: str, holder: str, now_ms: int, for_ms: int) -> bool:
        """Take or renew the lease. False while another holder's runs."""


class Signs(Protocol):
    """When the stream was last alive."""

    def newest_ms(self) -> int:
        """The broker's time of the latest record that was read; 0 if none ever was."""


class Recorded(Protocol):
    """Which cameras there are, and which have recordings."""

    def names(self) -> frozenset[str]:
        """All that are or were registered."""

    def is_recorded(self, camera: str) -> bool:
        """Whether there may be recordings of it."""
