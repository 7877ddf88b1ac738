from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from proto.errors import Broken, Transient
from tests.watchword.stand_ins import GREETS, GROWS, REFUSES, StandIns, greeted, until
from watchword.stack import supervisor as supervisor_module
from watchword.stack.parts import Part
from watchword.stack.ports import Port
from watchword.stack.ready import NotServing
from watchword.stack.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stand_ins(tmp_path: Path) -> StandIns:
    return StandIns(tmp_path)


@asynccontextmanager
async def running(
    stand_ins: StandIns, *parts: Part, changed: Callable[[], None] = lambda: None
) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(parts, stand_ins.folder / "logs", stand_ins.said.append, changed)
    try:
        await supervisor.start()
        watching = asyncio.create_task(supervisor.watch())
        try:
            yield supervisor
        finally:
            watching.cancel()
    finally:
        await supervisor.stop()


def pids(supervisor: Supervisor) -> dict[str, int]:
    return {state.name: state.pid for state in supervisor.states() if state.pid is not None}


def phases(supervisor: Supervisor) -> set[str]:
    return {state.phase for state in supervisor.states()}


async def test_a_part_starts_when_those_it_needs_are_ready(stand_ins: StandIns) -> None:
    async with running(
        stand_ins, stand_ins.part("last", "middle"), stand_ins.part("middle", "first"), stand_ins.part("first")
    ) as supervisor:
        assert stand_ins.diary == ["started first", "started middle", "started last"]
        assert phases(supervisor) == {"ready"}


async def test_parts_stop_in_reverse_order(stand_ins: StandIns) -> None:
    async with running(
        stand_ins, stand_ins.part("first"), stand_ins.part("middle", "first"), stand_ins.part("last", "middle")
    ) as supervisor:
        children = [psutil.Process(pid) for pid in pids(supervisor).values()]
    assert stand_ins.diary[3:] == ["stopped last", "stopped middle", "stopped first"]
    assert phases(supervisor) == {"stopped"}
    assert not any(child.is_running() for child in children)


async def test_a_killed_child_is_started_again_and_the_reason_is_said(stand_ins: StandIns) -> None:
    async with running(stand_ins, stand_ins.part("one"), stand_ins.part("other")) as supervisor:
        before = pids(supervisor)
        os.kill(before["one"], signal.SIGKILL)
        await until(lambda: stand_ins.diary.count("started one") == 2 and phases(supervisor) == {"ready"})
        after = pids(supervisor)
        assert after["one"] != before["one"]
        assert after["other"] == before["other"]
        assert [state.restarts for state in supervisor.states()] == [1, 0]
    told = next(line for line in stand_ins.said if "SIGKILL" in line)
    assert told == "one: was ended by SIGKILL, its log ends: this is one; starting it again in 0.5 s"


async def test_a_child_that_lives_but_answers_nothing_is_killed_and_started_again(stand_ins: StandIns) -> None:
    hanging = stand_ins.part("hanging", silent_s=0.5, program=GREETS, ready=greeted)
    async with running(stand_ins, hanging, stand_ins.part("other")) as supervisor:
        before = pids(supervisor)
        os.kill(before["hanging"], signal.SIGSTOP)
        await until(lambda: stand_ins.diary.count("started hanging") == 2 and phases(supervisor) == {"ready"})
        assert pids(supervisor)["hanging"] != before["hanging"]
        assert pids(supervisor)["other"] == before["other"]
    assert any(line.startswith("hanging: answered nothing for 0 s and was killed") for line in stand_ins.said)


async def test_a_child_that_lives_but_refuses_connections_is_killed_and_started_again(stand_ins: StandIns) -> None:
    async with running(stand_ins, stand_ins.part("deaf", silent_s=0.5, program=REFUSES)) as supervisor:
        before = pids(supervisor)
        os.kill(before["deaf"], signal.SIGUSR1)
        await until(lambda: stand_ins.diary.count("started deaf") == 2 and phases(supervisor) == {"ready"})
        assert pids(supervisor) != before
    assert any(line.startswith("deaf: answered nothing for 0 s and was killed") for line in stand_ins.said)


async def test_a_child_that_answers_but_is_not_ready_is_left_alone(stand_ins: StandIns) -> None:
    answers: list[str] = []

    async def busy_after_the_first_time(port: Port) -> None:
        await greeted(port)
        answers.append(port.address)
        if len(answers) > 1:
            raise NotServing("waits for its partitions")

    busy = stand_ins.part("busy", silent_s=0.2, program=GREETS, ready=busy_after_the_first_time)
    async with running(stand_ins, busy) as supervisor:
        before = pids(supervisor)
        await until(lambda: len(answers) > 8)
        assert pids(supervisor) == before


async def test_who_needs_a_part_that_forgets_is_started_anew_after_it(stand_ins: StandIns) -> None:
    broker, stream = stand_ins.part("broker", forgets=True), stand_ins.part("stream", "broker")
    async with running(stand_ins, broker, stream, stand_ins.part("query")) as supervisor:
        before = pids(supervisor)
        os.kill(before["broker"], signal.SIGKILL)
        await until(lambda: stand_ins.diary.count("started stream") == 2 and phases(supervisor) == {"ready"})
        assert pids(supervisor)["query"] == before["query"]
    assert stand_ins.diary[3:6] == ["started broker", "stopped stream", "started stream"]
    assert "stream: starts anew, broker was restarted" in stand_ins.said


async def test_a_part_that_holds_too_much_memory_is_started_anew_with_those_who_need_it(
    stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "LOOK_S", 0.1)
    broker = stand_ins.part("broker", forgets=True, most_bytes=64 * 1024**2, program=GROWS)
    async with running(stand_ins, broker, stand_ins.part("stream", "broker")) as supervisor:
        first = pids(supervisor)["broker"]
        (stand_ins.folder / "grow").touch()
        await broker.ready()
        await until(lambda: pids(supervisor).get("broker", first) != first)
        await until(lambda: stand_ins.diary.count("started stream") == 2 and phases(supervisor) == {"ready"})
    (told,) = [line for line in stand_ins.said if line.startswith("broker: starts anew, it held ")]
    assert int(told.split()[-2]) > 64


async def test_a_part_whose_port_was_taken_meanwhile_moves_and_those_who_need_it_follow(stand_ins: StandIns) -> None:
    moved = stand_ins.part("moved")
    async with running(stand_ins, moved, stand_ins.part("follower", "moved")) as supervisor:
        old = moved.address()
        host, _, port = old.partition(":")
        psutil.Process(pids(supervisor)["moved"]).kill()
        await until(lambda: "moved" not in pids(supervisor))
        with socket.create_server((host, int(port))):
            await until(lambda: stand_ins.diary.count("started follower") == 2 and phases(supervisor) == {"ready"})
            assert moved.address() != old


async def test_a_child_that_does_not_stop_is_killed(stand_ins: StandIns) -> None:
    async with running(stand_ins, stand_ins.part("stubborn", stubborn=True, grace_s=0.2)) as supervisor:
        child = psutil.Process(pids(supervisor)["stubborn"])
    assert not child.is_running()
    assert "stubborn: did not stop when asked, killed" in stand_ins.said


async def test_many_that_do_not_stop_are_over_within_ten_seconds(stand_ins: StandIns) -> None:
    names = ["a", "b", "c", "d"]
    chain = [stand_ins.part(name, *names[:place], stubborn=True, grace_s=60.0) for place, name in enumerate(names)]
    async with running(stand_ins, *chain):
        began = time.monotonic()
    assert time.monotonic() - began < 10


async def test_a_part_that_is_never_ready_ends_the_start_with_its_log(stand_ins: StandIns) -> None:
    mute = stand_ins.part("mute", program="print('no', flush=True)\nimport time; time.sleep(60)", deadline_s=0.3)
    with pytest.raises(Broken, match=r"mute does not start: not ready within 0 s \(nobody listens") as refused:
        async with running(stand_ins, mute):
            pass
    assert str(stand_ins.folder / "logs" / "mute.log") in refused.value.todo
    assert "mute:     no" in stand_ins.said


async def test_a_part_that_ends_at_once_ends_the_start_with_its_last_line(stand_ins: StandIns) -> None:
    ends = stand_ins.part("ends", program="import sys; sys.exit('the bundle is broken')")
    with pytest.raises(Broken, match=r"ends does not start: ended with exit code 1 .*the bundle is broken"):
        async with running(stand_ins, ends, stand_ins.part("fine")):
            pass
    assert stand_ins.diary[-1] == "stopped fine"


async def test_a_part_that_cannot_be_planned_ends_the_start_at_once(stand_ins: StandIns) -> None:
    def refused() -> None:
        raise Broken("the wheel is not installed", todo="install it")

    part = Part("part", lambda: "", stand_ins.part("x").ready, refused)  # type: ignore[arg-type]
    with pytest.raises(Broken, match="the wheel is not installed"):
        async with running(stand_ins, part):
            pass
    assert stand_ins.said == []


async def test_a_given_address_where_nobody_answers_ends_the_start(stand_ins: StandIns) -> None:
    async def silent() -> None:
        raise Transient("no Redis answers at far:6379")

    with pytest.raises(Transient, match="far:6379"):
        async with running(stand_ins, Part("redis", lambda: "far:6379", silent)):
            pass


async def test_a_part_elsewhere_is_asked_and_never_started(stand_ins: StandIns) -> None:
    async def answers() -> None:
        return

    async with running(stand_ins, Part("redis", lambda: "redis://me:secret@far:6379", answers)) as supervisor:
        (state,) = supervisor.states()
        assert (state.phase, state.pid, state.address) == ("elsewhere", None, "redis://far:6379")
    assert "secret" not in "".join(stand_ins.said)


UP = """
import asyncio, sys
from pathlib import Path
from tests.watchword.stand_ins import StandIns
from watchword.stack.supervisor import Supervisor

async def main():
    stand_ins = StandIns(Path(sys.argv[1]))
    parts = [stand_ins.part("first"), stand_ins.part("second", "first", stubborn=True)]
    supervisor = Supervisor(parts, stand_ins.folder / "logs", lambda line: None)
    await supervisor.start()
    print(*[state.pid for state in supervisor.states()], flush=True)
    await supervisor.watch()

asyncio.run(main())
"""


def test_nothing_is_left_when_the_supervisor_itself_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UP, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as supervisor:
        assert supervisor.stdout is not None
        children = [psutil.Process(int(pid)) for pid in supervisor.stdout.readline().split()]
        supervisor.kill()
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
