from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from stream.ledger import Ledger


def ledger(start: int, frames: int) -> Ledger:
    """With so many frames taken."""
    made = Ledger(start)
    assert all(made.taken(offset) for offset in range(start, start + frames))
    return made


@given(st.integers(0, 50), st.integers(1, 40), st.randoms(use_true_random=False))
def test_what_may_be_committed_is_exactly_the_first_frame_that_is_not_done(
    start: int, frames: int, order: Random
) -> None:
    at = ledger(start, frames)
    left = set(range(start, start + frames))
    for offset in order.sample(sorted(left), len(left)):
        at.done(offset)
        left.discard(offset)
        first = min(left, default=start + frames)
        assert at.committable() == (None if first == start else first)
        assert at.open == len(left)


def test_a_fresh_partition_commits_nothing_before_its_first_frame_is_done() -> None:
    at = ledger(0, 3)
    at.done(1)
    at.done(2)
    assert at.committable() is None
    at.done(0)
    assert at.committable() == 3


def test_only_the_next_frame_is_taken_neither_one_twice_nor_one_behind_a_hole() -> None:
    at = Ledger(7)
    assert at.taken(7)
    assert not at.taken(7)
    assert not at.taken(6)
    assert not at.taken(9)
    assert at.open == 1
    assert at.taken(8)


def test_what_is_committed_is_not_committed_again() -> None:
    at = ledger(4, 1)
    at.done(4)
    at.committed(5)
    assert at.committable() is None
    assert at.taken(5)
    assert at.committable() is None
    at.done(5)
    assert at.committable() == 6


def test_frames_that_the_broker_dropped_are_committed_past_and_reading_goes_on_behind_them() -> None:
    at = Ledger(3)
    at.expired(10)
    assert at.committable() == 10
    assert not at.taken(3)
    assert at.taken(10)
    assert at.committable() == 10


def test_expiry_commits_past_no_frame_that_is_under_way() -> None:
    at = ledger(3, 2)
    at.expired(10)
    assert at.committable() is None
    at.done(3)
    assert at.committable() == 4
    at.done(4)
    assert at.committable() == 10


def test_expiry_never_moves_a_partition_back() -> None:
    at = ledger(3, 2)
    at.expired(2)
    assert at.taken(5)
