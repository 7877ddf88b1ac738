from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from cameras import gaps, source, watching
from cameras.absences import Absences
from cameras.clock import Instant
from cameras.meter import SourceFacts
from cameras.notes import Notes
from cameras.picture import Darkroom, Picture
from cameras.remux import Tap
from cameras.settings import CameraSettings
from cameras.source import Resume, watch
from cameras.watching import Pictures, Watching
from catalog.coverage import Reason
from catalog.progress import Progress
from proto.errors import Transient
from proto.types import Camera, now_ms
from tests.cameras.rig import SETTINGS, START_MS, Facts, Register, Sink, hosting, scripted, until

LIVE = Camera("gate", "rtsp://host/live")
QUICK = CameraSettings(open_timeout_s=0.1, silent_after_s=0.1, retry_most_s=0.1, fps=60)


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog adds little to what the settings allow."""
    monkeypatch.setattr(watching, "_HANGS_S", 0.1)


class Sleeper:
    """Sources that hang where no timeout reaches, until they are let go."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.release = threading.Event()

    def hang(self, camera: Camera, settings: CameraSettings, stop: threading.Event) -> None:
        self.opened.append(camera.name)
        self.release.wait(60)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    made = Sleeper()
    yield made
    made.release.set()


def watched(facts: Facts, pictures: Pictures, sink: Sink | None = None) -> Watching:
    return Watching(LIVE, sink or Sink(), QUICK, 64, Notes(facts, facts, facts), pictures)


async def until_checked(one: Watching, true: Callable[[], bool]) -> None:
    """Let the watchdog look again and again until it is true."""

    def checked() -> bool:
        one.check()
        return true()

    await until(checked, "the watchdog acts")


@dataclass
class Decoded:
    """A frame as it comes from the decoder."""

    pts: int
    time_base: Fraction = Fraction(1, 90_000)
    width: int = 64
    height: int = 64


def test_pictures_that_the_network_held_back_are_looked_at_with_their_own_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrivals = [(n / 25, n / 25) for n in range(75)]  # three seconds live
    arrivals += [(n / 25, 11 + 0.002 * (n - 75)) for n in range(75, 275)]  # eight more, held back until now
    arrivals += [(n / 25, n / 25 + 0.4) for n in range(275, 350)]
    times = iter([Instant(arrival_s, START_MS + round(arrival_s * 1000)) for _, arrival_s in arrivals])

    class Source:
        darkroom = Darkroom()

        def packets(self) -> None:
            return None

        def seen(self, tap: Tap, packets: None) -> AbstractContextManager[None]:
            return nullcontext()

        def metered(self, packets: None) -> None:
            return None

        def facts(self) -> SourceFacts:
            return SourceFacts()

        def frames(self, silent_after_s: float, packets: None) -> Iterator[Decoded]:
            return (Decoded(round(pts_s * 90_000)) for pts_s, _ in arrivals)

    @contextmanager
    def opened(*_: object) -> Iterator[Source]:
        yield Source()

    monkeypatch.setattr(source, "_opened", opened)
    monkeypatch.setattr(source, "this_instant", lambda: next(times))
    taken: list[Picture] = []
    with pytest.raises(Transient, match="ended"):
        taken.extend(watch(LIVE, SETTINGS, threading.Event()))
    assert sum(3_000 <= picture.captured_ms - START_MS < 11_000 for picture in taken) == 16
    assert [picture.after_gap for picture in taken] == [True] + [False] * (len(taken) - 1)


async def test_a_source_that_failed_once_and_then_hangs_is_opened_again(facts: Facts, sleeper: Sleeper) -> None:
    opened = itertools.count()

    def refusing_then_hanging(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        if next(opened) == 0:
            raise Transient("connection refused")
        sleeper.hang(camera, settings, stop)
        yield scripted(0)

    one = watched(facts, refusing_then_hanging)
    one.start()
    await until(lambda: len(sleeper.opened) == 1, "hanging")
    assert one.state.now == "failed"
    await until_checked(one, lambda: len(sleeper.opened) == 3)
    one.leave()
    one.abandon()


async def test_a_source_that_hangs_at_every_opening_is_opened_again_each_time(facts: Facts, sleeper: Sleeper) -> None:
    def hanging(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        sleeper.hang(camera, settings, stop)
        yield scripted(0)

    one = watched(facts, hanging)
    one.start()
    await until_checked(one, lambda: len(sleeper.opened) == 4)
    assert len(one.hanging()) == 3
    sleeper.release.set()
    await until(lambda: not one.hanging(), "the threads end")
    one.leave()
    one.abandon()


async def test_a_process_whose_threads_hang_says_so_and_ends(facts: Facts, sleeper: Sleeper) -> None:
    def hanging(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        sleeper.hang(camera, settings, stop)
        yield scripted(0)

    register = Register(*(Camera(f"c{number}", f"rtsp://host/{number}") for number in range(5)))
    with pytest.raises(Transient, match=r"\d+ threads hang in their sources .*c0"):
        async with hosting(register, Sink(), facts, settings=QUICK, pictures=hanging) as host:
            await until(lambda: len(sleeper.opened) >= 10, "opened again")
            await until(lambda: not host.states(), "it ends")
    assert facts.holder("camera/c0", now_ms()) is None


async def test_frames_say_their_run_and_count_within_it(facts: Facts) -> None:
    def flapping(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        assert resume is None
        for number in range(3):
            yield scripted(number)
        raise Transient("flap")

    sink, began_ms = Sink(), now_ms()
    one = watched(facts, flapping, sink)
    one.start()
    await until(lambda: len(sink.frames) >= 9, "three runs")
    one.leave()
    await one.left()
    runs = sorted({frame.run for frame in sink.frames})
    assert began_ms <= runs[0] < runs[1] < runs[2] <= now_ms()
    assert [frame.sequence for frame in sink.frames[:9]] == [0, 1, 2] * 3
    assert not any(frame.recorded for frame in sink.frames)


async def test_a_camera_that_was_away_says_from_when_to_when(facts: Facts) -> None:
    lives = iter([[0, 1], [20, 21]])

    def away(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        numbers = next(lives, None)
        for number in numbers or []:
            yield scripted(number, after_gap=number in (0, 20))
        if numbers != [20, 21]:
            raise Transient("away")
        stop.wait(60)

    sink = Sink()
    async with hosting(Register(LIVE), sink, facts, pictures=away):
        await until(lambda: len(sink.frames) == 4, "frames")
    (gap,) = facts.gaps()
    assert (gap.camera, gap.reason) == ("gate", Reason.AWAY)
    assert (gap.start_ms, gap.end_ms) == (START_MS + 500, START_MS + 10_000)


async def test_a_camera_that_stays_away_is_told_while_it_is(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "_AWAY_S", 0.2)

    def refusing(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        raise Transient("connection refused")
        yield

    async with hosting(Register(LIVE), Sink(), facts, settings=QUICK, pictures=refusing):
        await until(lambda: len(facts.declared) >= 3, "it is told again")
    assert len({gap.start_ms for gap in facts.declared}) == 1
    ends = [gap.end_ms for gap in facts.declared]
    assert ends == sorted(set(ends))
    assert len(facts.gaps()) == 1


async def test_a_thread_that_hung_in_the_catalog_and_comes_back_changes_nothing(
    tmp_path: Path, facts: Facts, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "_AWAY_S", 0.2)

    class Hanging(Facts):
        def get(self, camera: str) -> Progress | None:
            if not sleeper.opened:
                sleeper.opened.append(camera)
                sleeper.release.wait(60)
            return super().get(camera)

    def refusing(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        raise Transient("connection refused")
        yield

    hanging = Hanging(tmp_path)
    one = Watching(LIVE, Sink(), QUICK, 64, Notes(hanging, hanging, hanging), refusing)
    one.start()
    await until_checked(one, lambda: one.state.error == "connection refused")
    before = one._absences._away
    sleeper.release.set()
    await until(lambda: not one.hanging(), "the thread came back")
    assert one._absences._away is before is not None
    one.leave()
    await one.left()
    hanging.catalog.close()


async def test_the_time_between_two_lives_of_the_process_is_told_as_a_gap(facts: Facts) -> None:
    lives = iter([[0, 1, 2], [30, 31]])

    def living(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        numbers = next(lives)
        for number in numbers:
            yield scripted(number, after_gap=number == numbers[0])
        stop.wait(60)

    for frames in (3, 2):
        sink = Sink()
        async with hosting(Register(LIVE), sink, facts, pictures=living):
            await until(lambda sink=sink, frames=frames: len(sink.frames) == frames, "frames")  # type: ignore[misc]
    (gap,) = facts.gaps()
    assert (gap.start_ms, gap.end_ms) == (START_MS + 1000, START_MS + 15_000)


async def test_a_process_that_is_killed_right_after_the_first_picture_of_a_camera_leaves_a_gap(facts: Facts) -> None:
    notes = Notes(facts, facts, facts)  # what waits in them is never written
    killed, next_one = (Absences("gate", notes, 2.0) for _ in range(2))
    killed.begin_live()
    killed.picture(now_ms(), 1.0, after_gap=True)
    later_ms = now_ms() + 9000
    next_one.begin_live()
    next_one.picture(later_ms, 10.0, after_gap=True)
    await notes.write()
    (gap,) = facts.gaps()
    assert later_ms - 10_000 < gap.start_ms <= later_ms - 9000
    assert gap.end_ms == later_ms


async def test_frames_that_a_live_camera_cannot_keep_are_counted(facts: Facts) -> None:
    def busy(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        for number in range(100):
            yield scripted(number)
        stop.wait(60)

    sink = Sink()
    sink.trouble = Transient("away")
    async with hosting(Register(LIVE), sink, facts, pictures=busy):
        await until(lambda: bool(facts.gaps()), "a gap")
        sink.trouble = None
        await until(lambda: bool(sink.frames) and sink.frames[-1].sequence == 99, "what was kept")
    (gap,) = facts.gaps()
    assert (gap.reason, gap.frames) == (Reason.LOST, 100 - len(sink.frames))
    assert len(sink.frames) >= 64


async def test_what_waits_for_the_broker_when_the_process_ends_is_told_as_lost(facts: Facts) -> None:
    def few(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        for number in range(5):
            yield scripted(number)
        stop.wait(60)

    sink = Sink()
    sink.trouble = Transient("away")
    async with hosting(Register(LIVE), sink, facts, pictures=few) as host:
        await until(lambda: bool(host.states()) and host.states()["gate"].now == "open", "open")
        await until(lambda: sink.refused > 1, "the broker is away")
    (gap,) = facts.gaps()
    assert (gap.reason, gap.frames) == (Reason.LOST, 5)
