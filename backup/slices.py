"""How time is cut into files, whatever the layout of the index is: by days, and a full day in halves. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from proto.life import DAY_MS


@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """A time: [start_ms, end_ms)."""

    start_ms: int
    end_ms: int

    def meets(self, start_ms: int, end_ms: int) -> bool:
        """Whether it shares an instant with [start_ms, end_ms)."""
        return self.start_ms < end_ms and start_ms < self.end_ms


def days_of(times: Iterable[tuple[int, int]]) -> list[Slice]:
    """The days, in UTC, that these times touch; the newest first."""
    numbers = {number for first, end in times for number in range(first // DAY_MS, (end - 1) // DAY_MS + 1)}
    return [Slice(number * DAY_MS, (number + 1) * DAY_MS) for number in sorted(numbers, reverse=True)]


async def cut(whole: Slice, most: int, count: Callable[[Slice], Awaitable[int]]) -> list[tuple[Slice, int]]:
    """The parts of a time that hold something, at most so much each, and how much; in order.

    A part is a half, a quarter or so on, so that a moment that comes or goes changes one part, not all that follow.
    """
    held = await count(whole)
    if not held:
        return []
    if held <= most or whole.end_ms - whole.start_ms == 1:
        return [(whole, held)]
    middle = (whole.start_ms + whole.end_ms) // 2
    return [
        *(await cut(Slice(whole.start_ms, middle), most, count)),
        *(await cut(Slice(middle, whole.end_ms), most, count)),
    ]
