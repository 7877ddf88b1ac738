from __future__ import annotations

from datetime import datetime

import pytest

from proto.errors import Invalid
from watchword.times import instant, length, local, span

NOW = 1_800_000_000_000


@pytest.mark.parametrize(("words", "ago_s"), [("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("1.5h", 5400)])
def test_a_length_is_that_long_ago(words: str, ago_s: int) -> None:
    assert instant(words, NOW) == NOW - ago_s * 1000


def test_a_time_without_an_offset_is_local_and_one_with_an_offset_is_not() -> None:
    here = datetime(2026, 5, 1, 10, 0).astimezone()
    assert instant("2026-05-01T10:00", NOW) == int(here.timestamp() * 1000)
    assert instant("2026-05-01T10:00+00:00", NOW) == 1_777_629_600_000


@pytest.mark.parametrize("words", ["", "ten", "10", "m", "2026-99-01", "10 minutes", "1e9d", f"{'9' * 400}d"])
def test_anything_else_is_refused_with_the_form(words: str) -> None:
    with pytest.raises(Invalid, match="10m"):
        instant(words, NOW)


@pytest.mark.parametrize(("s", "words"), [(120, "2 minutes"), (7_200, "2.0 hours"), (864_000, "10.0 days")])
def test_a_length_is_told_in_the_unit_that_people_would_take(s: float, words: str) -> None:
    assert length(s) == words


def test_a_span_says_the_day_once_unless_it_runs_into_the_next() -> None:
    start = int(datetime(2026, 5, 1, 23, 59, 50).astimezone().timestamp() * 1000)
    assert span(start, start + 5000) == "2026-05-01 23:59:50 - 23:59:55"
    assert span(start, start + 20_000) == "2026-05-01 23:59:50 - 2026-05-02 00:00:10"
    assert local(start) == "2026-05-01 23:59:50"
