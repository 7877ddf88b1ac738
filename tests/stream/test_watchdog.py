from __future__ import annotations

import pytest

from proto.errors import Transient
from stream.watchdog import LagAlarm, Stalls


def test_what_stands_longer_than_allowed_is_named() -> None:
    stalls = Stalls(60)
    stalls.moved("the broker did not take a commit", 100.0)
    stalls.moved("the frames did not move", 150.0)
    stalls.check(160.0)
    with pytest.raises(Transient, match="did not take a commit for 60 s"):
        stalls.check(160.1)
    stalls.moved("the broker did not take a commit", 160.1)
    stalls.check(160.2)


def test_frames_that_wait_and_do_not_come_raise_the_alarm() -> None:
    alarm = LagAlarm(60)
    alarm.check({0: 5, 1: 9}, {0: 9, 1: 9}, 0.0)
    alarm.check({0: 5, 1: 9}, {0: 9, 1: 9}, 60.0)
    with pytest.raises(Transient, match=r"partition 0 .* although 4 wait"):
        alarm.check({0: 5, 1: 9}, {0: 9, 1: 9}, 60.1)


def test_a_partition_that_moves_or_is_read_to_its_end_is_well() -> None:
    alarm = LagAlarm(60)
    for second in range(0, 600, 50):
        alarm.check({0: second}, {0: 10_000}, float(second))
    alarm.check({0: 10_000}, {0: 10_000}, 1000.0)
    alarm.check({0: 10_000}, {0: 10_001}, 2000.0)


def test_frames_that_cannot_come_since_there_is_no_room_are_not_missed() -> None:
    alarm = LagAlarm(60)
    alarm.check({0: 5}, {0: 9}, 0.0)
    alarm.room(there_is=False)
    alarm.check({0: 5}, {0: 9}, 100.0)
    alarm.room(there_is=True)
    alarm.check({0: 5}, {0: 9}, 120.0)
    with pytest.raises(Transient):
        alarm.check({0: 5}, {0: 9}, 161.0)


def test_a_partition_whose_place_is_not_known_raises_no_alarm() -> None:
    alarm = LagAlarm(60)
    for second in (0.0, 100.0):
        alarm.check({}, {0: 9}, second)
