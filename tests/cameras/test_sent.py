from __future__ import annotations

import struct

from cameras.meter import SourceFacts
from cameras.sent import SentClock, reference_ms
from cameras.status import advice_on


def test_a_cameras_clock_is_told_by_the_packet_that_was_delayed_least() -> None:
    clock = SentClock()
    assert clock.ahead_ms is None
    for number, delay_ms in enumerate([400, 120, 2_000, 300]):
        clock.packet(7_200_000 + 1000 * number - delay_ms, 1000 * number)
    assert clock.ahead_ms == 7_200_000 - 120


def test_a_clock_that_is_set_shows_within_a_minute() -> None:
    clock = SentClock()
    for at_ms in range(0, 100_000, 500):
        clock.packet(at_ms + (9_000 if at_ms < 40_000 else -50), at_ms)
    assert clock.ahead_ms == -50


def test_what_ffmpeg_says_of_a_packet_is_read_and_a_wrong_clock_is_told() -> None:
    assert reference_ms(struct.pack("<qi4x", 1_796_060_557_406_572, 24)) == 1_796_060_557_406
    assert reference_ms(b"short") is None
    (sentence,) = advice_on(SourceFacts(clock_ahead_ms=-7_200_000), 2.0)
    assert "7,200 s behind" in sentence
    assert advice_on(SourceFacts(clock_ahead_ms=-400), 2.0) == ()
