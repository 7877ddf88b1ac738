from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cameras.notes import Notes
from cameras.outbox import Outbox, Outgoing
from cameras.picture import Picture
from cameras.settings import CameraSettings
from cameras.source import Resume
from cameras.watching import Pictures, Watching
from cameras.worst import worst
from catalog.coverage import Reason
from proto.errors import Broken, Invalid, Transient
from proto.types import Camera
from proto.v1.events_pb2 import Frame
from tests.cameras.rig import SETTINGS, START_MS, Facts, Register, Sink, hosting, scripted, until
from tests.clips import CLIPS

BIKES = str(CLIPS["bikes"])


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


def watching_of(camera: Camera, sink: Sink, facts: Facts, pictures: Pictures) -> Watching:
    return Watching(camera, sink, SETTINGS, 64, Notes(facts, facts, facts), pictures)


async def test_a_file_is_published_whole_and_is_then_done(facts: Facts) -> None:
    sink = Sink()
    async with hosting(Register(Camera("gate", BIKES, speed=0, start_ms=START_MS)), sink, facts) as host:
        await until(lambda: bool(host.states()) and host.states()["gate"].now == "done", "done")
        await until(lambda: len(sink.frames) == 20, "frames")
    assert [frame.sequence for frame in sink.frames] == list(range(20))
    assert [frame.after_gap for frame in sink.frames] == [True] + [False] * 19
    assert sink.frames[0].captured_ms == START_MS
    assert sink.frames[0].jpeg.startswith(b"\xff\xd8")


async def test_the_registry_is_followed_while_running(facts: Facts) -> None:
    sink, register = Sink(), Register(Camera("one", BIKES, loop=True))
    async with hosting(register, sink, facts) as host:
        await until(lambda: bool(sink.of("one")), "the first camera")
        register.cameras.append(Camera("two", BIKES, loop=True))
        await until(lambda: bool(sink.of("two")), "an added camera", 3)
        register.cameras[0] = Camera("one", BIKES, loop=True, watching=False)
        await until(lambda: list(host.states()) == ["two"], "a removed camera", 3)


async def test_a_camera_that_fails_is_tried_again_and_leaves_the_others_alone(facts: Facts) -> None:
    sink = Sink()
    register = Register(Camera("gate", BIKES, loop=True), Camera("dead", "rtsp://user:secret@127.0.0.1:1/live"))
    async with hosting(register, sink, facts) as host:
        await until(lambda: host.states().get("dead") is not None and host.states()["dead"].now == "failed", "failed")
        await until(lambda: len(sink.of("gate")) > 2, "the other camera")
        assert "no camera answers" in host.states()["dead"].error
        assert "secret" not in host.states()["dead"].error
        told = worst(host.facts(), {"by": "failures", "n": "1"})
        assert told["watched"] == 2
        (dead,) = told["cameras"]
        assert (dead["camera"], dead["now"], dead["sent"]) == ("dead", "failed", 0)
        assert dead["failures"] > 0
        assert "secret" not in dead["error"]
        assert worst(host.facts(), {"by": "sent"})["cameras"][0]["camera"] == "gate"


async def test_a_source_that_fails_and_comes_back_is_opened_again(facts: Facts) -> None:
    opened: list[int] = []

    def flapping(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        opened.append(1)
        yield scripted(0)
        raise Transient("flap")

    sink = Sink()
    watching = watching_of(Camera("gate", "rtsp://host/live"), sink, facts, flapping)
    watching.start()
    await until(lambda: len(sink.frames) >= 3, "three lives")
    watching.leave()
    await watching.left()
    assert all(frame.after_gap and frame.sequence == 0 for frame in sink.frames)


async def test_an_unforeseen_error_is_told_without_the_secrets_in_it(facts: Facts) -> None:
    def failing(*_: object) -> Iterator[Picture]:
        raise OSError("cannot open rtsp://user:secret@host/live")

    watching = watching_of(Camera("gate", "rtsp://user:secret@host/live"), Sink(), facts, failing)
    watching.start()
    await until(lambda: watching.state.now == "failed", "failed")
    watching.leave()
    await watching.left()
    assert "cannot open rtsp://" in watching.state.error
    assert "secret" not in watching.state.error


async def test_a_file_waits_for_a_broker_that_is_away_and_loses_nothing(facts: Facts) -> None:
    sink = Sink()
    sink.trouble = Transient("away")
    async with hosting(Register(Camera("gate", BIKES, speed=0, start_ms=START_MS)), sink, facts) as host:
        await until(lambda: bool(host.states()) and host.states()["gate"].picture_ms is not None, "reading")
        sink.trouble = None
        await until(lambda: len(sink.frames) == 20, "all frames")
    assert [frame.sequence for frame in sink.frames] == list(range(20))


async def test_a_frame_that_the_broker_refuses_is_given_up_and_the_next_goes(facts: Facts) -> None:
    sink = Sink()
    sink.trouble = Invalid("too large")
    async with hosting(Register(Camera("gate", BIKES, loop=True)), sink, facts):
        await until(lambda: sink.refused > 0, "refused")
        sink.trouble = None
        await until(lambda: bool(sink.frames), "later frames")
    assert sink.frames[0].sequence == sink.refused
    assert sink.frames[0].after_gap
    (gap,) = facts.gaps()
    assert (gap.camera, gap.reason, gap.frames) == ("gate", Reason.LOST, sink.refused)


async def test_a_live_camera_drops_its_oldest_frames_and_keeps_the_mark_of_a_gap() -> None:
    lost: list[Frame] = []
    box = Outbox(3, patient=False, loop=asyncio.get_running_loop(), lost=lost.append)
    for number in range(5):
        assert box.put(Outgoing(Frame(sequence=number, after_gap=number == 0)))
    kept = [item.frame for item in [await box.get() for _ in range(3)] if item is not None]
    assert [(frame.sequence, frame.after_gap) for frame in kept if frame] == [(2, True), (3, False), (4, False)]
    assert [frame.sequence for frame in lost] == [0, 1]


async def test_a_closed_box_gives_what_is_in_it_and_takes_no_more() -> None:
    box = Outbox(3, patient=True, loop=asyncio.get_running_loop(), lost=lambda frame: None)
    box.put(Outgoing(Frame(sequence=1)))
    box.close()
    assert not box.put(Outgoing(Frame(sequence=2)))
    assert (await box.get()) == Outgoing(Frame(sequence=1))
    assert await box.get() is None


async def test_pictures_that_say_nothing_new_are_not_sent(facts: Facts) -> None:
    def still(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        yield from (scripted(number, new=False) for number in range(30))

    sink = Sink()
    watching = watching_of(Camera("gate", BIKES), sink, facts, still)
    watching.start()
    await until(lambda: watching.state.now == "done", "done")
    watching.leave()
    await watching.left()
    assert Counter(frame.after_gap for frame in sink.frames) == {True: 1, False: 1}


async def test_a_registry_that_cannot_be_read_for_a_while_ends_nothing(
    facts: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    sink, register = Sink(), Register(Camera("one", BIKES, loop=True))
    async with hosting(register, sink, facts) as host:
        await until(lambda: bool(sink.of("one")), "the first camera")
        register.trouble = Broken("cannot read cameras.json (Stale file handle)")
        asked, sent = register.asked, len(sink.frames)
        await until(lambda: register.asked > asked + 2 and len(sink.frames) > sent, "it goes on")
        assert list(host.states()) == ["one"]
        register.cameras.append(Camera("two", BIKES, loop=True))
        register.trouble = None
        await until(lambda: bool(sink.of("two")), "an added camera")
    told = [record.getMessage() for record in caplog.records if "registry" in record.getMessage()]
    assert len(told) == 2
    assert "Stale file handle" in told[0]
    assert "works again" in told[1]


async def test_a_registry_that_cannot_be_read_at_the_start_is_an_error(facts: Facts) -> None:
    register = Register()
    register.trouble = Broken("cameras.json is damaged")
    with pytest.raises(Broken, match="damaged"):
        async with hosting(register, Sink(), facts):
            pass


async def test_a_catalog_that_is_away_for_a_while_ends_nothing_and_is_told_later(facts: Facts) -> None:
    sink = Sink()
    async with hosting(Register(Camera("one", BIKES, loop=True)), sink, facts) as host:
        await until(lambda: bool(sink.frames), "frames")
        facts.trouble = Transient("away")
        sink.trouble = Invalid("too large")
        await until(lambda: sink.refused > 0, "a frame is lost")
        sink.trouble, sent = None, len(sink.frames)
        await until(lambda: facts.refused > 1 and len(sink.frames) > sent, "it goes on")
        assert facts.gaps() == []
        facts.trouble = None
        await until(lambda: [gap.reason for gap in facts.gaps()] == [Reason.LOST], "what was lost is told")
        assert host.states()["one"].now == "open"


async def test_stopping_does_not_wait_for_a_source_that_hangs(facts: Facts) -> None:
    release = threading.Event()

    def hanging(
        camera: Camera, settings: CameraSettings, stop: threading.Event, resume: Resume | None
    ) -> Iterator[Picture]:
        yield scripted(0)
        release.wait(30)

    watching = watching_of(Camera("gate", "rtsp://host/live"), Sink(), facts, hanging)
    watching.start()
    await until(lambda: watching.state.now == "open", "open")
    watching.leave()
    async with asyncio.timeout(6):
        await watching.left()
    release.set()
