from __future__ import annotations

import pytest

from life.clock import doubt
from proto.life import DAY_MS

NOW = 1_767_268_800_000
YEAR = 365 * DAY_MS


@pytest.mark.parametrize(
    ("trusted", "store", "newest", "says"),
    [
        (0, None, 0, None),
        (0, None, NOW - DAY_MS, None),
        (0, None, NOW - YEAR, "365.0 days ahead of the latest"),
        (0, None, NOW + YEAR, None),
        (NOW - DAY_MS, None, 0, None),
        (NOW - YEAR, None, NOW, "365.0 days ahead of the time at which it was right"),
        (NOW + YEAR, None, NOW, "365.0 days behind the time"),
        (NOW, NOW + 5 * 60_000, NOW, None),
        (NOW, NOW + 30 * 60_000, NOW, "30 minutes behind that of the catalog's server"),
    ],
)
def test_a_clock_is_trusted_only_where_it_agrees(
    trusted: int, store: int | None, newest: int, says: str | None
) -> None:
    found = doubt(NOW, trusted, store, newest)
    assert found is None if says is None else says in str(found)
