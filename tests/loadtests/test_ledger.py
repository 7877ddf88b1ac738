from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from catalog.coverage import Gap, Reason
from index.memory import MemoryStore
from loadtests.ledger import Balance, Sent, audit, stored_moments
from proto.types import Moment, SpaceInfo, Span, moment_id
from proto.v1.events_pb2 import DeadLetter

SPACE, LOG = "0123456789abcdef", "a" * 32


def frames(count: int, camera: str = "gate", partition: int = 0) -> list[Sent]:
    """One frame a second, from 1000 on."""
    return [Sent((partition, n), camera, 1000 + 1000 * n, n) for n in range(count)]


def span(first: int, last: int, camera: str = "gate", **changes: object) -> Span:
    """A moment of the frames `first` to `last`."""
    start, end, partition = 1000 + 1000 * first, 1000 + 1000 * last, 1 if camera == "yard" else 0
    whole = Span(
        id=moment_id(camera, start, LOG, partition, first),
        space=SPACE,
        camera=camera,
        start_ms=start,
        peak_ms=start,
        end_ms=end,
        frames=last - first + 1,
        closed=True,
        log=LOG,
        partition=partition,
        first_offset=first,
        last_offset=last,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def letter(offset: int, reason: str = "not_an_image") -> DeadLetter:
    return DeadLetter(topic="frames", partition=0, offset=offset, reason=reason)


def gap(first: int, last: int, reason: Reason = Reason.SHED, camera: str = "gate", log: str = LOG) -> Gap:
    return Gap(camera, reason, 0, 0, last - first + 1, log, 0, first, last)


def only_complaint(balance: Balance) -> str:
    assert len(balance.wrong) == 1, balance.wrong
    return balance.wrong[0]


def test_frames_inside_moments_dead_lettered_shed_or_expired_balance() -> None:
    sent = frames(7)
    sent[5] = replace(sent[5], poison=True)
    balance = audit(
        sent, [span(0, 1), span(2, 3)], [letter(5)], [gap(4, 4), gap(6, 9, Reason.EXPIRED, camera="")], log=LOG
    )
    assert balance.balanced
    assert balance.fates == {"moment": 4, "letter": 1, "shed": 1, "expired": 1}
    assert "the ledger balances" in str(balance)


def test_a_moment_reaches_across_frames_that_were_shed_and_does_not_count_them() -> None:
    assert audit(frames(5), [span(0, 4, frames=3)], [], [gap(1, 2)], log=LOG).balanced
    complaint = only_complaint(audit(frames(5), [span(0, 4)], [], [gap(1, 2)], log=LOG))
    assert "says 5 frames, 3 are in it" in complaint


def test_what_was_shed_of_one_camera_excuses_no_other() -> None:
    balance = audit(frames(2), [span(0, 0)], [], [gap(1, 1, camera="yard")], log=LOG)
    assert only_complaint(balance).startswith("lost: frame 1")


def test_what_was_declared_of_another_log_excuses_nothing() -> None:
    balance = audit(frames(2), [span(0, 0)], [], [gap(1, 1, log="b" * 32)], log=LOG)
    assert only_complaint(balance).startswith("lost: frame 1")


def test_a_frame_that_the_broker_dropped_after_its_moment_was_told_counts_there() -> None:
    balance = audit(frames(4), [span(0, 1)], [], [gap(0, 3, Reason.EXPIRED, camera="")], log=LOG)
    assert balance.balanced and (balance.of("moment"), balance.of("expired")) == (2, 2)


def test_a_lost_frame_is_named_with_its_place_in_the_topic() -> None:
    balance = audit(frames(4), [span(0, 2)], [], log=LOG)
    assert only_complaint(balance) == "lost: frame 3 of gate (at 4000, 0@3)"
    assert "unaccounted for" in str(balance) and "does NOT balance" in str(balance)


def test_a_frame_lost_in_the_middle_of_a_moment_shows_in_its_count() -> None:
    balance = audit(frames(4), [span(0, 3, frames=3)], [], log=LOG)
    assert "says 3 frames, 4 are in it" in only_complaint(balance)


def test_a_frame_counted_twice_shows_in_the_count() -> None:
    balance = audit(frames(4), [span(0, 3, frames=5)], [], log=LOG)
    assert "says 5 frames, 4 are in it" in only_complaint(balance)


def test_a_picture_that_was_sent_twice_needs_no_moment_and_may_count_once_or_twice() -> None:
    sent = frames(3)
    again = replace(sent[2], place=(0, 3))
    assert audit([*sent, again], [span(0, 2)], [], log=LOG).of("repeat") == 1
    assert audit([*sent, again], [span(0, 3, frames=3)], [], log=LOG).balanced
    assert audit([*sent, again], [span(0, 3, frames=4)], [], log=LOG).balanced
    assert not audit([*sent, again], [span(0, 3, frames=5)], [], log=LOG).balanced


def test_a_picture_that_was_sent_again_after_it_was_passed_over_is_not_lost() -> None:
    sent = frames(3)
    again = replace(sent[1], place=(0, 3))
    balance = audit([*sent, again], [span(0, 2, frames=2)], [], [gap(1, 1)], log=LOG)
    assert balance.balanced and (balance.of("shed"), balance.of("repeat")) == (1, 1)


def test_moments_of_one_camera_with_a_frame_in_common_are_found() -> None:
    balance = audit(frames(4), [span(0, 2, frames=2), span(2, 3)], [], log=LOG, clocks_step=True)
    assert "have frames in common" in only_complaint(balance)


def test_moments_of_one_camera_that_share_an_instant_are_found_unless_its_clock_stepped() -> None:
    moments = [span(0, 1, end_ms=3000), span(2, 3)]
    assert "starts before" in only_complaint(audit(frames(4), moments, [], log=LOG))
    assert audit(frames(4), moments, [], log=LOG, clocks_step=True).balanced


def test_a_frame_that_comes_late_has_a_moment_of_its_own_and_overlaps_with_none() -> None:
    sent = [replace(one, captured_ms=at_ms) for one, at_ms in zip(frames(4), (1000, 5000, 6000, 2000), strict=True)]
    moments = [span(0, 0), span(1, 2, start_ms=5000, end_ms=6000), span(3, 3, start_ms=2000, end_ms=2000)]
    assert audit(sent, moments, [], log=LOG).balanced
    longer = [*moments[:2], span(3, 3, start_ms=2000, end_ms=5000)]
    assert "starts before" in only_complaint(audit(sent, longer, [], log=LOG))


def test_moments_of_two_cameras_may_cover_the_same_time() -> None:
    both = [*frames(3), *frames(3, "yard", partition=1)]
    assert audit(both, [span(0, 2), span(0, 2, "yard")], [], log=LOG).balanced


def test_a_moment_left_open_is_found() -> None:
    assert "never closed" in only_complaint(audit(frames(2), [span(0, 1, closed=False)], [], log=LOG))


def test_poison_inside_the_range_of_a_moment_must_still_be_dead_lettered() -> None:
    sent = frames(3)
    sent[1] = replace(sent[1], poison=True)
    assert only_complaint(audit(sent, [span(0, 2, frames=2)], [], log=LOG)).startswith("lost: frame 1")
    assert audit(sent, [span(0, 2, frames=2)], [letter(1)], log=LOG).balanced


def test_a_good_frame_in_the_dead_letters_is_found() -> None:
    balance = audit(frames(3), [span(0, 1)], [letter(2, "too_large")], log=LOG)
    assert "although it was good (too_large)" in only_complaint(balance)


def test_a_dead_letter_written_twice_counts_once() -> None:
    sent = [replace(frames(1)[0], poison=True)]
    balance = audit(sent, [], [letter(0), letter(0)], log=LOG)
    assert balance.balanced and (balance.of("letter"), balance.letters) == (1, 2)


def test_what_nobody_sent_is_found() -> None:
    balance = audit(frames(1), [span(0, 0), span(0, 0, "yard")], [letter(99)], log=LOG)
    assert any("no frame of this camera" in line for line in balance.wrong)
    assert any("(0, 99)" in line for line in balance.wrong)


def test_a_moment_of_another_log_is_found() -> None:
    balance = audit(frames(1), [span(0, 0), span(0, 0, log="b" * 32)], [], log=LOG)
    assert "is of another log" in only_complaint(balance)


def test_a_moment_that_tells_another_start_than_its_first_frame_is_found() -> None:
    assert "begins with frame 0" in only_complaint(audit(frames(2), [span(0, 1, start_ms=900)], [], log=LOG))


def test_a_scene_that_began_inside_an_earlier_moment_is_counted() -> None:
    sent = [replace(frame, opens=frame.sequence in (0, 2)) for frame in frames(4)]
    assert audit(sent, [span(0, 3)], [], log=LOG).unopened == 1
    assert audit(sent, [span(0, 1), span(2, 3)], [], log=LOG).unopened == 0


def stored(span: Span) -> Moment:
    known = {name: getattr(span, name) for name in Span.__slots__}
    return Moment(**known, vector=np.array([1, 0], dtype=np.float32))


async def test_every_moment_is_read_back_from_a_store() -> None:
    store = MemoryStore(SpaceInfo(SPACE, 2))
    await store.upsert([stored(span(0, 3)), stored(span(0, 1, "yard"))])
    assert [found.start_ms for found in await stored_moments(store, {"gate"})] == [1000]


async def test_moments_that_cannot_be_read_back_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(SpaceInfo(SPACE, 2))
    await store.upsert([stored(span(0, 3))])
    counted = await store.count()

    async def counts_more(*_: object) -> int:
        return counted + 1

    monkeypatch.setattr(store, "count", counts_more)
    with pytest.raises(AssertionError, match="the store counts 2 moments, and gives 1"):
        await stored_moments(store, {"gate"}, settles_s=0.0)
