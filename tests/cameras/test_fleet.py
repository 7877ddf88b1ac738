"""Camera processes that share the cameras of one catalog."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cameras.fleet import Place
from cameras.holder import new_holder
from cameras.picture import Picture
from cameras.source import Resume
from catalog.coverage import Reason
from catalog.fleet import Member
from proto.types import Camera, now_ms
from tests.cameras.rig import AWAY, SETTINGS, Facts, Register, Sink, hosting, scripted, until

FORTY = [Camera(f"c{number:02}", f"rtsp://host/{number}") for number in range(40)]
GATE = {"gate": Camera("gate", "rtsp://host/live")}


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


def away_since(facts: Facts, at_ms: int) -> set[str]:
    return {gap.camera for gap in facts.gaps() if gap.reason is Reason.AWAY and gap.start_ms <= at_ms < gap.end_ms}


def named(pid: int) -> str:
    """What a camera process of this machine with this number calls itself."""
    machine, _, mark = new_holder().rpartition("/")
    return f"{machine.rpartition('/')[0]}/{pid}/{mark}"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine, to be killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def live(camera: Camera, settings: object, stop: object, resume: Resume | None) -> Iterator[Picture]:
    """A live camera with a new picture twice a second."""
    number = 0
    while True:
        yield scripted(number, captured_ms=now_ms())
        time.sleep(0.5)
        number += 1


async def test_two_processes_share_forty_cameras_and_one_that_is_killed_leaves_its_own_to_the_other(
    facts: Facts, tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    other, register = Facts(tmp_path), Register(*FORTY)
    sinks = {name: Sink() for name in ("one", "two")}
    async with AsyncExitStack() as survivor:
        async with hosting(register, sinks["one"], facts, holder=named(child.pid), pictures=live) as one:
            await until(lambda: len(one.states()) == 40, "the first one watches all")
            two = await survivor.enter_async_context(
                hosting(register, sinks["two"], other, holder="two", pictures=live)
            )
            await until(lambda: (len(one.states()), len(two.states())) == (20, 20), "they share them", 60)
            lost = set(one.states())
            assert not lost & two.states().keys()
            await until(lambda: {frame.camera for frame in sinks["two"].frames} == set(two.states()), "all produce")
            await until(lambda: all(map(other.get, lost)), "it is known when they were seen", 60)
            killed_ms = now_ms()
            facts.trouble = AWAY  # it leaves nothing in order, as if it had been killed
        child.kill()
        child.wait()
        await until(lambda: lost <= {frame.camera for frame in sinks["two"].frames}, "all produce again", 60)
        await until(lambda: lost <= away_since(other, killed_ms), "the gaps are told")
    other.catalog.close()
    for name in FORTY:
        first, second = sinks["one"].of(name.name), sinks["two"].of(name.name)
        assert max(frame.captured_ms for frame in first) <= min(frame.captured_ms for frame in second)


def places(facts: Facts, sites: Mapping[str, str], cameras: Mapping[str, Camera]) -> dict[str, Place]:
    """The places of several processes, after all have looked twice."""
    found = {name: Place(facts, name, site, 15.0) for name, site in sites.items()}
    for _ in range(2):
        for place in found.values():
            place._look_s = 0.0
            place.look(cameras)
    return found


def test_a_camera_that_another_one_holds_is_not_asked_for_until_that_one_hands_it_over(facts: Facts) -> None:
    cameras = {camera.name: camera for camera in FORTY}
    for name in cameras:
        facts.take(f"camera/{name}", "one", now_ms(), 60_000)
    found = places(facts, {"one": "", "two": ""}, cameras)
    assert Counter(found["one"].of(name) for name in cameras) == {"one": 20, "two": 20}
    assert not found["two"].takes()
    theirs = next(name for name in cameras if found["two"].mine(name))
    facts.hand_over(f"camera/{theirs}", "one", "two", now_ms(), 60_000)
    found["two"]._look_s = 0.0
    found["two"].look(cameras)
    assert set(found["two"].takes()) == {theirs}


def test_a_camera_of_a_site_waits_for_a_process_of_that_site(facts: Facts) -> None:
    cameras = {"gate": Camera("gate", "rtsp://host/live", site="north")}
    (alone,) = places(facts, {"one": ""}, cameras).values()
    assert alone.of("gate") is None
    found = places(facts, {"one": "", "two": "north"}, cameras)
    assert found["one"].of("gate") == "two" and set(found["two"].takes()) == {"gate"}


def a_process_that_ended() -> str:
    """What a camera process of this machine called itself that was killed."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return named(child.pid)


def test_a_process_of_this_machine_that_was_killed_is_not_waited_for(facts: Facts) -> None:
    killed = a_process_that_ended()
    facts.tell(Member(killed, "here"), now_ms(), 60_000)
    assert facts.take("camera/gate", killed, now_ms(), 60_000)
    place = Place(facts, new_holder(), "", 15.0)
    place.look(GATE)
    assert set(place.takes()) == {"gate"}
    assert facts.holder("camera/gate", now_ms()) is None


@pytest.mark.parametrize("other", ["elsewhere/boot/1/{ended}/x", "{alive}", "?", ""])
def test_a_lease_of_another_machine_or_of_a_living_process_is_left_alone(facts: Facts, other: str) -> None:
    holder = other.format(ended=a_process_that_ended().split("/")[-2], alive=new_holder())
    assert facts.take("camera/gate", holder, now_ms(), 60_000)
    Place(facts, new_holder(), "", 15.0).look(GATE)
    assert facts.holder("camera/gate", now_ms()) == holder


async def test_a_camera_that_is_given_to_another_site_moves_there_with_what_is_known_of_it(facts: Facts) -> None:
    sink, register = Sink(), Register(*GATE.values())
    north = SETTINGS.model_copy(update={"site": "north"})
    async with (
        hosting(register, sink, facts, holder="one", pictures=live) as one,
        AsyncExitStack() as stack,
    ):
        await until(lambda: list(one.states()) == ["gate"], "it is watched")
        two = await stack.enter_async_context(
            hosting(register, sink, facts, holder="two", pictures=live, settings=north)
        )
        register.cameras = [Camera("gate", "rtsp://host/live", site="north")]
        await until(lambda: list(two.states()) == ["gate"] and not one.states(), "it moved")
        assert facts.holder("camera/gate", now_ms()) == "two"
        known = await asyncio.to_thread(facts.get, "gate")
        assert known is not None and known.at_s > 0
