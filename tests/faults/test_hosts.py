"""The network of the drills on several hosts."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.cluster import Host
from tests.faults.hosts import NoHostsHere, network
from tests.faults.wire import Cable, Switch

A, B, C = b"\x02aaaaa", b"\x02bbbbb", b"\xff" * 6
DELAY_S = 0.1


def frame(target: bytes, sender: bytes) -> bytes:
    return target + sender + b"\x08\x00hello"


@pytest.fixture
def switch() -> Switch:
    return Switch([Cable("a"), Cable("b"), Cable("c")])


def devices(switch: Switch, now_s: float) -> list[str]:
    return [cable.device for cable, _ in switch.due(now_s)]


def test_a_frame_goes_to_everybody_until_its_receiver_is_known(switch: Switch) -> None:
    first, second, _ = switch.cables
    switch.take(first, frame(B, A), 0.0)
    assert devices(switch, 0.0) == ["b", "c"]
    switch.take(second, frame(A, B), 1.0)
    assert devices(switch, 1.0) == ["a"]
    switch.take(first, frame(C, A), 2.0)
    assert devices(switch, 2.0) == ["b", "c"]


def test_nothing_passes_a_cut_cable_until_it_is_healed(switch: Switch) -> None:
    first, second, _ = switch.cables
    switch.take(first, frame(C, A), 0.0)
    switch.obey("cut b")
    assert devices(switch, 0.0) == ["c"]
    switch.take(second, frame(C, B), 1.0)
    assert devices(switch, 1.0) == []
    switch.obey("heal b")
    switch.take(second, frame(C, B), 2.0)
    assert devices(switch, 2.0) == ["a", "c"]


def test_a_slow_cable_delays_both_ways_and_keeps_the_order(switch: Switch) -> None:
    first, second, _ = switch.cables
    switch.obey("slow b 0.5")
    for number in range(3):
        switch.take(first, frame(C, A) + bytes([number]), number * 0.1)
    assert devices(switch, 0.3) == ["c", "c", "c"]
    assert switch.next_s() == 0.5
    assert [sent[-1] for cable, sent in switch.due(0.71) if cable is second] == [0, 1, 2]
    switch.take(second, frame(A, B), 1.0)
    assert devices(switch, 1.4) == []
    assert devices(switch, 1.5) == ["a"]


@pytest.mark.stack
def test_a_host_is_reached_later_over_a_slow_cable_and_not_over_a_cut_one(tmp_path: Path) -> None:
    try:
        with network("a", "b", folder=tmp_path) as net:
            other = net.hosts["b"]
            assert _reaches(net.hosts["a"], other) is not None
            net.slow(other, DELAY_S)
            took_s = _reaches(net.hosts["a"], other)
            assert took_s is not None
            assert took_s >= 2 * DELAY_S
            net.cut(other)
            assert _reaches(net.hosts["a"], other) is None
            net.heal(other)
            assert _reaches(net.hosts["a"], other) is not None
    except NoHostsHere as reason:
        pytest.skip(f"no test hosts here: {reason}")


@pytest.mark.stack
def test_a_host_has_a_name_of_its_own_and_sees_the_files_of_no_other_one(tmp_path: Path) -> None:
    try:
        with network("a", "b", folder=tmp_path) as net:
            for name in ("a", "b"):
                (tmp_path / name / f"of {name}").touch()
            program = (
                "import os, socket, sys; print(socket.gethostname(), *(os.listdir(path) for path in sys.argv[1:]))"
            )
            command = [*net.hosts["b"].enter, "python3", "-I", "-S", "-c", program]
            command += [str(tmp_path / name) for name in ("a", "b")]
            told = subprocess.run(command, check=True, capture_output=True, text=True)
            assert told.stdout == "b [] ['of b']\n"
    except NoHostsHere as reason:
        pytest.skip(f"no test hosts here: {reason}")


def _reaches(source: Host, target: Host) -> float | None:
    """How long it takes to be refused by a port of the target; None when nobody answers."""
    program = (
        "import socket, sys\n"
        "with socket.socket() as asking:\n"
        "    asking.settimeout(float(sys.argv[2]))\n"
        "    sys.exit(0 if asking.connect_ex((sys.argv[1], 9)) == 111 else 1)\n"
    )
    began_s = time.monotonic()
    command = [*source.enter, "python3", "-I", "-S", "-c", program, target.address, "2"]
    done = subprocess.run(command, check=False)
    return time.monotonic() - began_s if done.returncode == 0 else None
