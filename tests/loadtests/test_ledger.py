from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from index.memory import MemoryStore
from loadtests.ledger import Balance, Sent, audit, stored_moments
from proto.types import Moment, SpaceInfo, Span, moment_id
from proto.v1.events_pb2 import DeadLetter

SPACE = "0123456789abcdef"


def frames(count: int, camera: str = "gate") -> list[Sent]:
    """One frame a second, from 1000 on."""
    return [Sent(("frames", 0, n), camera, 1000 + 1000 * n, n) for n in range(count)]


def span(first: int, last: int, camera: str = "gate", **changes: object) -> Span:
    """A moment of the frames `first` to `last`."""
    start, end = 1000 + 1000 * first, 1000 + 1000 * last
    whole = Span(moment_id(SPACE, camera, start), SPACE, camera, start, start, end, last - first + 1, closed=True)
    return replace(whole, **changes)  # type: ignore[arg-type]


def letter(offset: int, reason: str = "not_an_image") -> DeadLetter:
    return DeadLetter(topic="frames", partition=0, offset=offset, reason=reason)


def only_complaint(balance: Balance) -> str:
    assert len(balance.wrong) == 1, balance.wrong
    return balance.wrong[0]


def test_frames_inside_moments_dead_lettered_or_skipped_balance() -> None:
    sent = frames(6)
    sent[5] = replace(sent[5], poison=True)
    balance = audit(sent, [span(0, 1), span(2, 3)], [letter(5), letter(4, "skipped")])
    assert balance.balanced
    assert (balance.in_moments, balance.dead_lettered, balance.skipped) == (4, 1, 1)
    assert "the ledger balances" in str(balance)


def test_one_letter_declares_a_run_of_skipped_frames() -> None:
    skipped = DeadLetter(topic="frames", partition=0, offset=2, through=4, reason="skipped")
    balance = audit(frames(6), [span(0, 1), span(5, 5)], [skipped])
    assert balance.balanced and balance.skipped == 3


def test_a_frame_declared_skipped_that_is_in_a_moment_too_shows_in_its_count() -> None:
    assert "says 3 frames, 2 were sent in it" in only_complaint(audit(frames(3), [span(0, 2)], [letter(1, "skipped")]))


def test_a_lost_frame_is_named_with_its_place_in_the_topic() -> None:
    balance = audit(frames(4), [span(0, 2)], [])
    assert only_complaint(balance) == "lost: frame 3 of gate (at 4000, frames/0@3)"
    assert "unaccounted for" in str(balance) and "does NOT balance" in str(balance)


def test_a_frame_lost_in_the_middle_of_a_moment_shows_in_its_count() -> None:
    assert "says 3 frames, 4 were sent in it" in only_complaint(audit(frames(4), [span(0, 3, frames=3)], []))


def test_a_frame_counted_twice_shows_in_the_count() -> None:
    assert "says 5 frames, 4 were sent in it" in only_complaint(audit(frames(4), [span(0, 3, frames=5)], []))


def test_a_frame_that_a_retry_sent_twice_counts_once() -> None:
    sent = frames(3)
    again = replace(sent[2], origin=("frames", 0, 3))
    assert audit([*sent, again], [span(0, 2)], []).balanced


def test_a_frame_sent_without_an_answer_may_be_there_or_not() -> None:
    sent = [frame for frame in frames(4) if frame.sequence != 2]
    assert audit(sent, [span(0, 3)], [], unsure={("gate", 3000)}).balanced
    assert audit(sent, [span(0, 3, frames=3)], [], unsure={("gate", 3000)}).balanced
    assert not audit(sent, [span(0, 3)], []).balanced


def test_overlapping_moments_of_one_camera_are_found() -> None:
    balance = audit(frames(4), [span(0, 3), span(2, 3)], [])
    assert any("overlap: gate has moments 1000..4000 and 3000..4000" in line for line in balance.wrong)


def test_moments_that_touch_in_one_instant_overlap() -> None:
    assert any("overlap" in line for line in audit(frames(4), [span(0, 2), span(2, 3)], []).wrong)


def test_moments_of_two_cameras_may_cover_the_same_time() -> None:
    other = [replace(frame, origin=("frames", 1, frame.sequence)) for frame in frames(3, "yard")]
    assert audit([*frames(3), *other], [span(0, 2), span(0, 2, "yard")], []).balanced


def test_a_moment_left_open_is_found() -> None:
    assert "never closed" in only_complaint(audit(frames(2), [span(0, 1, closed=False)], []))


def test_poison_inside_the_time_of_a_moment_must_still_be_dead_lettered() -> None:
    sent = frames(3)
    sent[1] = replace(sent[1], poison=True)
    assert only_complaint(audit(sent, [span(0, 2, frames=2)], [])).startswith("lost: frame 1")
    assert audit(sent, [span(0, 2, frames=2)], [letter(1)]).balanced


def test_a_good_frame_in_the_dead_letters_is_found() -> None:
    assert "although it was good (too_large)" in only_complaint(
        audit(frames(3), [span(0, 1)], [letter(2, "too_large")])
    )


def test_a_dead_letter_written_twice_counts_once() -> None:
    sent = [replace(frames(1)[0], poison=True)]
    balance = audit(sent, [], [letter(0), letter(0)])
    assert balance.balanced and (balance.dead_lettered, balance.letters) == (1, 2)


def test_what_nobody_sent_is_found() -> None:
    balance = audit(frames(1), [span(0, 0), span(0, 0, "ghost")], [letter(99)])
    assert any("a moment of ghost" in line for line in balance.wrong)
    assert any("'frames', 0, 99" in line for line in balance.wrong)


def stored(span: Span) -> Moment:
    known = {name: getattr(span, name) for name in Span.__slots__}
    return Moment(**known, vector=np.array([1, 0], dtype=np.float32))


async def test_every_moment_is_read_back_from_a_store() -> None:
    store = MemoryStore(SpaceInfo(SPACE, 2))
    await store.upsert([stored(span(0, 3))])
    assert [found.start_ms for found in await stored_moments(store, {"gate": {1000, 2000}})] == [1000]


async def test_a_moment_that_begins_at_no_frame_is_an_error() -> None:
    store = MemoryStore(SpaceInfo(SPACE, 2))
    await store.upsert([stored(span(0, 3))])
    with pytest.raises(AssertionError, match="the store counts 1 moments; 0 begin"):
        await stored_moments(store, {"gate": {2000}})
