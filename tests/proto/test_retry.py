from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proto.retry import Backoff

chances = st.floats(0, 1)


def test_the_pause_doubles_with_each_failure_up_to_the_limit() -> None:
    backoff = Backoff(0.5, 3.0, spread=0.0)
    assert [backoff.pause_s(failures, 0.3) for failures in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_chance_shortens_a_pause_by_its_share_at_most() -> None:
    backoff = Backoff(1.0, 60.0, spread=0.5)
    assert [backoff.pause_s(2, chance) for chance in (0.0, 0.5, 1.0)] == [1.0, 1.5, 2.0]


@given(st.integers(1, 10_000), chances)
def test_however_often_it_failed_the_pause_stays_in_its_bounds(failures: int, chance: float) -> None:
    assert 0.025 <= Backoff(0.05, 2.0).pause_s(failures, chance) <= 2.0


@given(st.integers(1, 10_000), chances)
def test_another_failure_never_shortens_the_pause(failures: int, chance: float) -> None:
    backoff = Backoff(0.05, 2.0)
    assert backoff.pause_s(failures + 1, chance) >= backoff.pause_s(failures, chance)
