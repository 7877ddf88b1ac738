from __future__ import annotations

import random
from pathlib import Path

import pytest

from index.memory import MemoryStore
from index.store import LATEST_MS
from proto.errors import Poison
from proto.v1.events_pb2 import Frame
from stream.consumer import Mark, Record
from stream.frames import Arrived, decoded, said_by
from stream.memory import MemoryLog
from tests.stream.rig import LOG, SPACE, START_MS, Box, Life, frame, record

DAY_S = 86_400.0
DAY_MS = 86_400_000


def live(captured_ms: int, **more: object) -> Frame:
    made = frame("gate", captured_ms, 1, 0, **more)
    made.recorded = False
    return made


def refused(made: Frame | bytes, at_ms: int = START_MS) -> Poison:
    value = made if isinstance(made, bytes) else made.SerializeToString()
    with pytest.raises(Poison) as told:
        decoded(Record(0, 3, b"gate", value, at_ms), at_ms, DAY_S)
    return told.value


def taken(made: Frame, at_ms: int = START_MS) -> Arrived:
    return decoded(record(3, made, at_ms=at_ms), at_ms + 7, DAY_S)


def test_a_frame_keeps_its_place_its_picture_and_the_time_of_its_log() -> None:
    made = live(START_MS)
    one = taken(made)
    assert (one.camera, one.mark, one.jpeg, one.log_ms) == ("gate", Mark(0, 3), b"1", START_MS + 7)
    assert (one.frame, one.frame.captured_ms, one.frame.sequence) == (said_by(made), START_MS, made.sequence)


def test_what_is_no_frame_is_undecodable() -> None:
    assert refused(b"\xff no frame").reason == "undecodable"


@pytest.mark.parametrize("camera", ["", "no/name", "x" * 65])
def test_a_frame_of_a_camera_that_cannot_be_is_a_bad_frame(camera: str) -> None:
    assert refused(frame(camera, START_MS, 1, 0)).reason == "bad_frame"


@pytest.mark.parametrize("captured_ms", [0, -5, LATEST_MS + 1, 2**62])
def test_a_frame_of_no_time_is_a_bad_frame(captured_ms: int) -> None:
    assert refused(frame("gate", captured_ms, 1, 0)).reason == "bad_frame"


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["novelty", "usual"])
def test_shares_that_are_none_are_a_bad_frame(which: str, share: float) -> None:
    assert refused(frame("gate", START_MS, 1, 0, **{which: share})).reason == "bad_frame"


@pytest.mark.parametrize("apart_ms", [-DAY_MS - 1000, DAY_MS + 1000])
def test_a_live_frame_whose_clock_is_far_from_the_brokers_is_poison_and_says_what_to_do(apart_ms: int) -> None:
    reason = refused(live(START_MS + apart_ms))
    assert (reason.reason, bool(reason.todo)) == ("clock", True)
    assert "gate" in reason.message


@pytest.mark.parametrize("apart_ms", [-DAY_MS, 0, DAY_MS])
def test_a_live_frame_within_a_days_difference_is_taken(apart_ms: int) -> None:
    assert taken(live(START_MS + apart_ms)).frame.captured_ms == START_MS + apart_ms


def test_a_recording_may_be_as_old_as_it_likes_but_not_from_the_future() -> None:
    assert taken(frame("gate", 1, 1, 0)).frame.captured_ms == 1
    reason = refused(frame("gate", START_MS + DAY_MS + 1000, 1, 0))
    assert (reason.reason, bool(reason.todo)) == ("clock", True)


async def test_a_camera_whose_clock_says_anything_leaves_letters_and_nothing_in_the_index(tmp_path: Path) -> None:
    log, clock = MemoryLog(LOG), random.Random(1)
    for number in range(200):
        made = frame("gate", clock.randrange(1, LATEST_MS), 1, number, after_gap=True)
        made.recorded = False
        log.append(0, b"gate", made.SerializeToString(), START_MS + number)
    store, box = MemoryStore(SPACE), Box()
    life = Life(log, store, tmp_path, letters=box)
    while await life.read(16):
        pass
    await life.stored()
    await life.commit()
    await life.die()
    assert [letter.reason for letter in box.letters] == ["clock"] * 200
    assert [letter.offset for letter in box.letters] == list(range(200))
    assert store._moments == {}
    assert log.committed == {0: 200}
