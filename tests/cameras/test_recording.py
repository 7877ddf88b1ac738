from __future__ import annotations

import random

import pytest

from cameras.recording import DAY_MS, Kept, Ring, forecast, segment_full
from proto.types import Recording
from tests.cameras.filming import START_MS


def kept(number: int, camera: str = "gate", size: int = 10) -> Kept:
    start_ms = START_MS + number * 60_000
    return Kept(camera, start_ms, start_ms + 60_000, size, f"{camera}-{number}")


def names(removals: list) -> list[str]:  # type: ignore[type-arg]
    return [one.kept.name for one in removals]


def test_segments_older_than_their_days_go() -> None:
    ring = Ring()
    for number in range(5):
        ring.add(kept(number))
    limits = {"gate": Recording(1, 10**9), "dock": Recording(1, 10**9)}
    assert names(ring.expired(START_MS + DAY_MS + 125_000, limits)) == ["gate-0", "gate-1"]
    assert ring.used() == 30


def test_a_camera_makes_room_of_its_own_and_then_of_the_oldest_of_all() -> None:
    ring = Ring()
    for number in range(4):
        ring.add(kept(number))
        ring.add(kept(number, "dock"))
    gone = ring.room("gate", 15, Recording(30, 35), 0)
    assert (names(gone), {one.why for one in gone}) == (["gate-0", "gate-1"], {"bytes"})
    gone = ring.room("gate", 15, Recording(30, 35), 60)
    assert (names(gone), {one.why for one in gone}) == (["dock-0", "dock-1"], {"total"})


def test_a_full_disk_takes_as_much_as_it_needs_from_the_oldest() -> None:
    ring = Ring()
    for number in (3, 1, 2):
        ring.add(kept(number, f"camera{number}"))
    assert names(ring.free(15)) == ["camera1-1", "camera2-2"]
    assert names(ring.free(100)) == ["camera3-3"]
    assert ring.free(1) == []


@pytest.mark.parametrize("seed", range(3))
def test_over_six_days_no_budget_is_exceeded_by_more_than_a_segment(seed: int) -> None:
    chance = random.Random(seed)
    limits = {f"c{n}": Recording(2.0, 3_000 * (n + 1)) for n in range(4)}
    total = 12_000
    ring, largest, now_ms = Ring(), 0, START_MS
    for _ in range(6 * 24 * 6):  # a segment each ten minutes
        now_ms += 600_000
        for camera, limit in limits.items():
            size, lasts_ms = 0, 600_000
            for _ in range(5):
                grows = chance.randrange(5, 60)
                ring.room(camera, grows, limit, total)
                size += grows
                ring.grown(camera, size)
                assert ring.used(camera) <= limit.bytes
                assert ring.used() <= total
            largest = max(largest, size)
            ring.add(Kept(camera, now_ms - lasts_ms, now_ms, size, camera))
            ring.expired(now_ms, limits)
    assert all(one.end_ms >= now_ms - 2 * DAY_MS for kept in ring._kept.values() for one in kept)
    assert ring.used() > total - largest - 300


def test_a_segment_is_full_by_time_or_when_it_takes_too_much_of_the_budget() -> None:
    assert not segment_full(8_000, 60, 999, 59_999)
    assert segment_full(8_000, 60, 0, 60_000)
    assert segment_full(8_000, 60, 1_000, 0)


def test_the_forecast_is_what_the_limits_hold_at_the_latest_pace() -> None:
    told = forecast(500, START_MS, START_MS + DAY_MS, (1_000, DAY_MS // 10), Recording(30, 200_000))
    assert (told.bytes_a_day, told.days) == (10_000, 20.0)
    assert forecast(0, 0, 1, (1_000, DAY_MS), Recording(30, 10**9)).days == 30
    assert forecast(0, 0, 1, (0, 0), Recording(30, 10**9)).days is None
    assert forecast(0, 0, 1, (1, 1), None).days is None
