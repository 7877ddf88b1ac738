"""How many rows a search asks for, so that they are of as many moments as are wanted. Pure.

A moment has one to five rows, and which of them are near a question depends on what cameras see. Asking for too few
costs a second request, for too many their vectors. So it is learnt from each answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from index.rows import MOST_ROWS_EACH

_AT_FIRST = 3.0
_SPARE = 1.1
"""Most questions need no more than this times what was needed lately."""
_UP, _DOWN = 0.3, 0.05
"""How much one answer changes it: a second request costs more than some rows too many."""


class RowsAsked:
    """Learns for one bucket."""

    def __init__(self) -> None:
        self._each = _AT_FIRST

    def first(self, moments: int) -> int:
        """So many rows to ask for at first; the most that may be needed is MOST_ROWS_EACH for each moment."""
        return min(MOST_ROWS_EACH * moments, math.ceil(self._each * moments))

    def learn(self, moments: int, found: Iterable[str]) -> None:
        """The nearest rows were of these moments, for a search that wanted so many. Fewer than that teach nothing."""
        different: set[str] = set()
        for count, name in enumerate(found, 1):
            different.add(name)
            if len(different) == moments:
                needed = min(float(MOST_ROWS_EACH), _SPARE * count / moments)
                self._each += (_UP if needed > self._each else _DOWN) * (needed - self._each)
                return
