from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.ledger import Ledger


@given(
    start=st.integers(0, 50),
    steps=st.lists(st.integers(1, 3), max_size=40),
    order=st.randoms(use_true_random=False),
)
def test_what_may_be_committed_never_passes_a_frame_that_is_not_done(start, steps, order) -> None:
    offsets = [start + sum(steps[:count]) for count in range(len(steps) + 1)]
    ledger = Ledger()
    assert all(ledger.taken(offset) for offset in offsets)
    left = set(offsets)
    for offset in order.sample(offsets, len(offsets)):
        ledger.done(offset)
        left.discard(offset)
        prefix = ledger.committable()
        done_first = [known for known in offsets if all(other not in left for other in offsets if other <= known)]
        assert prefix == (done_first[-1] + 1 if done_first else None)
        assert ledger.open == len(left)


def test_a_fresh_partition_commits_nothing_before_its_first_frame_is_done() -> None:
    ledger = Ledger()
    for offset in range(3):
        ledger.taken(offset)
    ledger.done(1)
    ledger.done(2)
    assert ledger.committable() is None
    ledger.done(0)
    assert ledger.committable() == 3


def test_a_frame_that_comes_twice_is_taken_once() -> None:
    ledger = Ledger()
    assert ledger.taken(7)
    assert not ledger.taken(7)
    assert not ledger.taken(6)
    assert ledger.open == 1


def test_what_is_committed_is_not_committed_again() -> None:
    ledger = Ledger()
    ledger.taken(4)
    ledger.done(4)
    ledger.committed(5)
    assert ledger.committable() is None
    ledger.taken(5)
    assert ledger.committable() is None
    ledger.done(5)
    assert ledger.committable() == 6
