"""How cameras are doing: what is counted of them, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cameras.meter import Meter, SourceFacts
from cameras.ports import CameraState
from cameras.status import Counted, StatusWatch, advice_on
from catalog.statuses import STALE_MS, CameraStatus, Statuses, status_now
from proto.metrics import CAMERA_STATES
from proto.types import Camera
from tests.cameras.live import live_camera
from tests.cameras.rig import AWAY, SETTINGS, START_MS, Facts, Register, Sink, hosting, until

NOTHING = Counted(CameraState("waiting"), True, 0, 0, 0, 0, None)


def seen(now_ms: int, looked: int = 0, kept: int = 0) -> Counted:
    return replace(NOTHING, state=CameraState("open", now_ms), looked=looked, kept=kept)


def test_what_a_camera_costs_is_the_mean_of_ten_minutes_and_is_known_from_before() -> None:
    new, moved = StatusWatch("gate", 2.0, START_MS), StatusWatch("gate", 2.0, START_MS, "north/7", 0.2)
    told = []
    for second in range(0, 1201, 10):
        counted = replace(seen(START_MS + 1000 * second), spent_s=0.05 * second)
        told.append([watch.status(counted, START_MS + 1000 * second).cost for watch in (new, moved)])
    assert told[2] == [0.0, pytest.approx(0.195, abs=0.001)]
    assert told[60] == [pytest.approx(0.05), pytest.approx(0.1, abs=0.01)]
    assert moved.status(NOTHING, START_MS).watched_by == "north/7"


def test_a_camera_is_connecting_live_silent_and_failing_since_when_it_began() -> None:
    watch = StatusWatch("gate", 2.0, START_MS)
    told = [watch.status(NOTHING, START_MS + 3_000)]
    told.append(watch.status(seen(START_MS + 4_000), START_MS + 4_000))
    told.append(watch.status(seen(START_MS + 9_000), START_MS + 9_500))
    told.append(watch.status(seen(START_MS + 9_000), START_MS + 15_000))
    failed = replace(NOTHING, state=CameraState("failed", START_MS + 9_000, "no camera answers"), failures=1)
    told.append(watch.status(failed, START_MS + 30_000))
    told.append(watch.status(replace(failed, failures=2), START_MS + 60_000))
    assert [(one.state, one.since_ms - START_MS) for one in told] == [
        ("connecting", 0),
        ("live", 4_000),
        ("live", 4_000),
        ("silent", 9_000),
        ("failing", 30_000),
        ("failing", 30_000),
    ]
    assert (told[-1].why, told[-1].failures) == ("no camera answers", 2)


def test_a_file_is_never_silent_and_is_done_at_its_end() -> None:
    watch = StatusWatch("gate", 2.0, START_MS)
    file = replace(seen(START_MS), live=False)
    assert watch.status(file, START_MS + 100_000).state == "live"
    assert watch.status(replace(file, state=CameraState("done")), START_MS + 100_001).state == "done"


@pytest.mark.parametrize("step_ms", [100, 500, 1000, 1700])
def test_rates_are_those_of_the_last_half_minute(step_ms: int) -> None:
    watch = StatusWatch("gate", 2.0, START_MS)
    for at_ms in range(0, 120_000, step_ms):
        looked = 2 * at_ms // 1000 if at_ms < 60_000 else 120 + (at_ms - 60_000) // 1000
        status = watch.status(seen(START_MS + at_ms, looked, looked // 4), START_MS + at_ms)
        if 2_000 < at_ms < 60_000:
            assert status.fps_got == pytest.approx(2.0, abs=0.6)
    assert status.fps_got == pytest.approx(1.0, abs=0.1)
    assert status.fps_kept == pytest.approx(0.25, abs=0.1)


def test_a_clock_that_is_set_gives_no_rate_that_cannot_be() -> None:
    watch = StatusWatch("gate", 2.0, START_MS)
    for at_ms in (*range(0, 60_000, 1000), *range(-3_600_000, -3_540_000, 1000), *range(7_200_000, 7_260_000, 1000)):
        status = watch.status(seen(START_MS + at_ms, 100), START_MS + at_ms)
        assert 0 <= status.fps_got <= 100


def test_what_is_new_is_due_at_once_and_the_rest_every_ten_seconds() -> None:
    watch = StatusWatch("gate", 2.0, START_MS)
    due = []
    for second in range(40):
        now_ms = START_MS + second * 1000
        counted = seen(now_ms, 2 * second, second) if second < 25 else replace(NOTHING, state=CameraState("failed"))
        status = watch.status(counted, now_ms)
        if watch.due(status):
            due.append(second)
            watch.told(status)
    assert due == [0, 10, 20, 25, 35]


def test_packets_tell_rate_size_and_where_key_frames_lie() -> None:
    meter = Meter()
    for number in range(200):
        meter.packet(1000, 0.0, key=number % 50 == 0)  # held back until now
    assert (meter.fps, meter.gop_frames) == (0.0, 50)
    for number in range(200, 700):
        meter.packet(5000 if number % 250 == 0 else 1000, (number - 200) / 25, key=number % 250 == 0)
    assert meter.fps == pytest.approx(25, rel=0.01)
    assert meter.bits_per_second == pytest.approx(200_000, rel=0.2)
    assert meter.gop_frames == 250


def test_a_group_that_does_not_end_is_known_to_be_long() -> None:
    meter = Meter()
    for number in range(1000):
        meter.packet(1000, number / 25, key=number == 0)
    assert meter.gop_frames == 1000


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (SourceFacts("h264", 1920, 1080, 25, 4_000_000, 250), "every 250 pictures, 10 s at 25 a second"),
        (SourceFacts("h264", 1920, 1080, 1, 100_000, 2), "1 pictures a second and 2 are wanted"),
        (SourceFacts("mjpeg", 640, 360, 10, 100_000, 1), "H.264 takes about a tenth"),
        (SourceFacts("hevc", 3840, 2160, 25, 100_000, 50), "3840 x 2160, which costs much to decode"),
        (SourceFacts("h264", 1920, 1080, 25, 4_000_000, 50), None),
        (SourceFacts(), None),
    ],
)
def test_advice_says_what_to_ask_of_the_camera(facts: SourceFacts, says: str | None) -> None:
    found = advice_on(facts, 2.0)
    assert len(found) == (says is not None)
    assert says is None or says in found[0]


def test_what_is_shown_is_what_was_told_unless_registry_or_clock_say_else() -> None:
    camera, now_ms = Camera("gate", "x"), START_MS
    live = CameraStatus("gate", "live", now_ms - 90_000, now_ms - 1_000, fps_got=2.0)
    old = replace(live, told_ms=now_ms - STALE_MS - 1)
    assert status_now(camera, {"gate": live}, now_ms) == live
    assert status_now(camera, {}, now_ms).state == "unknown"
    stale = status_now(camera, {"gate": old}, now_ms)
    assert (stale.state, stale.since_ms, stale.fps_got) == ("unknown", old.told_ms, 0.0)
    assert status_now(replace(camera, enabled=False), {"gate": live}, now_ms).state == "disabled"
    assert status_now(replace(camera, watching=False), {"gate": live}, now_ms).state == "removed"


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


@pytest.mark.long
async def test_a_live_camera_and_one_that_fails_are_told_through_an_outage_of_the_catalog(facts: Facts) -> None:
    with live_camera(width=160, height=120, fps=10, gop=5) as source:
        register = Register(Camera("gate", source.url), Camera("dead", "rtsp://user:hush@127.0.0.1:1/live"))
        async with hosting(register, Sink(), facts, settings=SETTINGS):

            def states() -> dict[str, str]:
                return {name: one.state for name, one in Statuses(facts.catalog).all().items()}

            await until(lambda: states() == {"gate": "live", "dead": "failing"}, "both are told")
            found = Statuses(facts.catalog).all()
            assert (found["gate"].width, found["gate"].height, found["gate"].fps_wanted) == (160, 120, 2.0)
            assert found["dead"].why.startswith("no camera answers at rtsp://127.0.0.1:1/live")
            assert CAMERA_STATES.labels(state="live")._value.get() == 1
            facts.trouble = AWAY
            refused = facts.refused
            register.cameras = [replace(register.cameras[0], fps=5.0), register.cameras[1]]
            await until(lambda: facts.refused > refused + 5, "the catalog is asked")
            facts.trouble = None
            await until(lambda: Statuses(facts.catalog).all()["gate"].fps_wanted == 5.0, "told when it is back")
