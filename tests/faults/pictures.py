"""Whether what answers show is there: the pictures of hits from every query service, and of every moment from one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from proto.errors import WatchwordError
from query.client import QueryClient
from tests.faults.users import QUESTIONS, TIMEOUT_S

_MOST_HITS = 200
_JPEG = b"\xff\xd8"


@dataclass
class Shown:
    """What query services gave when they were asked for pictures."""

    hits: int = 0
    """Hits whose picture came."""
    own: int = 0
    """Of these, the ones shown by the moment's own picture, and not by one of the instant."""
    moments: int = 0
    """Moments whose picture came."""
    none: list[str] = field(default_factory=list)
    """What had no picture, and why."""

    def counts(self) -> dict[str, object]:
        return {
            "pictures of hits": self.hits,
            "  the moment's own": self.own,
            "pictures of moments": self.moments,
        }

    def missing(self) -> list[str]:
        """A sentence, if pictures are missing."""
        if not self.hits:
            return ["no hit has a picture"]
        return [f"{len(self.none)} pictures did not come, such as: {self.none[0]}"] if self.none else []


async def pictures_shown(addresses: Sequence[str], moments: Collection[str]) -> Shown:
    """Ask each query service for many hits and the picture of each, and one for the picture of each such moment."""
    shown = Shown()
    left = [*moments]
    for number, address in enumerate(addresses):
        client = QueryClient(address, TIMEOUT_S)
        try:
            for moment, at_ms in await _hits(client, shown):
                found = await _picture(client, moment, at_ms, shown)
                shown.hits += found is not None
                shown.own += found == 0
            for moment in left[number :: len(addresses)]:
                shown.moments += await _picture(client, moment, 0, shown) is not None
        finally:
            await client.close()
    return shown


async def _hits(client: QueryClient, shown: Shown) -> list[tuple[str, int]]:
    """The moments and times of hits."""
    found: set[tuple[str, int]] = set()
    for question in QUESTIONS:
        try:
            reply = await client.search(text=question, limit=_MOST_HITS, all_moments=True)
        except WatchwordError as error:
            shown.none.append(f"those of hits for {question!r}: {error}")
        else:
            found.update((hit.moment_id, hit.at_ms) for hit in reply.hits)
    return sorted(found)


async def _picture(client: QueryClient, moment: str, at_ms: int, shown: Shown) -> int | None:
    """The time of the picture that came, 0 for the moment's own; None when none did."""
    try:
        reply = await client.thumbnail(moment, at_ms)
    except WatchwordError as error:
        shown.none.append(f"{moment} at {at_ms}: {error}")
        return None
    if not reply.jpeg.startswith(_JPEG):
        shown.none.append(f"{moment} at {at_ms}: what came is no JPEG")
        return None
    return reply.at_ms
