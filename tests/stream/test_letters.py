from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from proto.errors import Denied, Invalid, Poison, Transient
from proto.v1.events_pb2 import DeadLetter
from stream.consumer import Mark, Record
from stream.letters import Letters, MinuteLimit
from stream.patience import Patience
from tests.contracts.moments import moment

RECORD = Record(3, 14, b"gate", b"rubbish", 1)


class Box:
    """Keeps letters; raises what it is told to, one error a call."""

    def __init__(self, *trouble: Exception) -> None:
        self.trouble = list(trouble)
        self.letters: list[DeadLetter] = []

    async def bury(self, letter: DeadLetter) -> None:
        if self.trouble:
            raise self.trouble.pop(0)
        kept = DeadLetter()
        kept.CopyFrom(letter)
        self.letters.append(kept)


def letters(box: Box, whole_per_minute: int = 10) -> Letters:
    return Letters(box, "frames", whole_per_minute, Patience())


def test_so_many_a_minute_and_room_again_as_they_grow_old() -> None:
    limit = MinuteLimit(2)
    assert [limit.allows(second) for second in (0.0, 30.0, 31.0, 59.9, 60.0, 61.0, 90.0)] == [
        True,
        True,
        False,
        False,
        True,
        False,
        True,
    ]


async def test_a_letter_tells_reason_and_origin_and_keeps_the_record() -> None:
    box = Box()
    await letters(box).bury(RECORD, Poison("undecodable", "no frame"))
    (letter,) = box.letters
    assert (letter.topic, letter.partition, letter.offset) == ("frames", 3, 14)
    assert (letter.reason, letter.detail, letter.key, letter.value) == ("undecodable", "no frame", b"gate", b"rubbish")
    assert letter.failed_ms > 0


async def test_beyond_the_limit_letters_are_written_without_their_records() -> None:
    box = Box()
    at = letters(box, whole_per_minute=2)
    for _ in range(4):
        await at.bury(RECORD, Poison("undecodable", "no frame"))
    assert [letter.value for letter in box.letters] == [b"rubbish", b"rubbish", b"", b""]
    assert {letter.reason for letter in box.letters} == {"undecodable"}


async def test_a_letter_waits_for_a_broker_that_is_away() -> None:
    box = Box(Transient("away"))
    await letters(box).bury(RECORD, Poison("undecodable", "no frame"))
    assert len(box.letters) == 1


async def test_a_letter_that_is_too_large_goes_without_its_record() -> None:
    box = Box(Invalid("too large"))
    await letters(box).bury(RECORD, Poison("too_large", "huge"))
    assert [(letter.reason, letter.value) for letter in box.letters] == [("too_large", b"")]


async def test_of_a_moment_that_the_index_never_takes_every_frame_has_a_letter() -> None:
    box = Box(Transient("away"))
    await letters(box, whole_per_minute=0).refuse(
        moment("gate"), [Mark(2, 5), Mark(2, 7)], Invalid("too long", todo="shorten it")
    )
    assert [(one.topic, one.partition, one.offset, one.key) for one in box.letters] == [
        ("frames", 2, 5, b"gate"),
        ("frames", 2, 7, b"gate"),
    ]
    assert {one.reason for one in box.letters} == {"not_storable"}
    assert all("too long" in one.detail and moment("gate").id in one.detail for one in box.letters)


async def test_a_letter_counts_by_its_reason_once_the_broker_has_it() -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("watchword_stream_dead_letters_total", {"reason": "odd"}) or 0.0

    before = counted()
    with pytest.raises(Denied):
        await letters(Box(Denied("no"))).bury(RECORD, Poison("odd", "odd"))
    assert counted() == before
    await letters(Box()).bury(RECORD, Poison("odd", "odd"))
    assert counted() == before + 1
