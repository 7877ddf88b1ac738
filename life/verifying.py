"""Whether what was erased is absent, by asking every store again; and before, how much there is to erase."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from catalog.recordings import Recordings, is_gone, read_index
from index.calls import first
from index.removal import Removal
from life.finding import erased_only, holdings_of, unowned
from life.stores import Notes, Pictures
from proto.life import Erased, Gone


@dataclass(frozen=True)
class Asked:
    """The stores, as one value."""

    rows: Removal
    pictures: Pictures
    gaps: Notes
    backgrounds: Notes
    longest_ms: int
    recordings: Path
    """Those of this machine. Other machines' are removed and noted by their own camera processes."""


async def present(at: Asked, erased: Erased, written_before_ms: float) -> dict[str, int]:
    """How much each store has of it. Pictures are counted where their rows are gone: those of moments that are still
    there go with them. Raises the errors of stores that cannot be asked."""
    gone = Gone(erased=(erased,))
    found = await at.rows.holdings()
    if found.missing:
        raise first(found.missing)
    holdings = holdings_of(found.known, erased, at.longest_ms)
    moments = sum([await at.rows.count(one, erased_only(erased)) for one in holdings])
    return {
        "index": moments,
        "pictures": sum([len(some) async for some in unowned(at, erased, written_before_ms)]),
        "coverage": await asyncio.to_thread(at.gaps.forget_gone, gone, count_only=True),
        "backgrounds": await asyncio.to_thread(at.backgrounds.forget_gone, gone, count_only=True),
        "recordings": await asyncio.to_thread(_fragments, at.recordings, erased),
    }


async def held(at: Asked, erased: Erased) -> int:
    """How many moments of the time stay, since a hold covers them."""
    whole = Erased(erased.stretch)
    found = await at.rows.holdings()
    holdings = holdings_of(found.known, erased, at.longest_ms)
    in_all = sum([await at.rows.count(one, erased_only(whole)) for one in holdings]) if erased.unless else 0
    return in_all - sum([await at.rows.count(one, erased_only(erased)) for one in holdings]) if erased.unless else 0


def _fragments(folder: Path, erased: Erased) -> int:
    times, gone = erased.stretch, Gone(erased=(erased,))
    segments = Recordings(folder).segments(times.camera, times.start_ms, times.end_ms)
    return sum(is_gone(times.camera, entry, gone) for segment in segments for entry in read_index(segment.index))
