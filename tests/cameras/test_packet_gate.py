"""Which packets are decoded, by what they are like and by what pictures show."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cameras.packet_gate import Do, Gate, PacketGate

FPS = 10


def nothing(_: float) -> bool:
    return False


def always(_: float) -> bool:
    return True


class Sent:
    """A camera's packets, given to a gate in their order, and looked at twice a second where they are decoded."""

    def __init__(self, gop: int = 20, heartbeat_s: float = 15.0, fps: float = 2.0) -> None:
        self.gate = PacketGate(heartbeat_s, fps)
        self.gop = gop
        self.at_s = 1000.0
        self.pts_s: float | None = 0.0
        self.done: list[tuple[float, Do]] = []
        self._number = 0
        self._looked_s = 0.0
        self._dice = random.Random(7)

    def send(self, seconds: float, times: float = 1.0, moves: Callable[[float], bool] = nothing, **how: Any) -> Sent:
        """So many seconds of packets that are `times` as large as usual. `moves` says what pictures show."""
        for _ in range(round(seconds * FPS)):
            key = how.get("key", self._number % self.gop == 0)
            usual = 50_000 if key else 5_000
            size = round(usual * self._dice.gauss(1, 0.03) * (1 if key else times))
            if self._number % how.get("spike_every", 10**9) == 1:
                size *= 4
            do = self.gate.packet(size, key=key, pts_s=self.pts_s, time_s=self.at_s)
            self.done.append((self.at_s - 1000, do))
            if do is Do.KEY or (do is Do.DECODE and self.at_s - self._looked_s >= 0.5):
                self._looked_s = self.at_s
                self.gate.looked(news=moves(self.at_s), time_s=self.at_s)
            self._number += 1
            self.at_s += 1 / FPS
            if self.pts_s is not None:
                self.pts_s += 1 / FPS
        return self

    def decoded(self, since_s: float) -> list[float]:
        return [at_s for at_s, do in self.done if at_s >= since_s and do in (Do.DECODE, Do.KEY)]


def gating(**how: Any) -> Sent:
    sent = Sent(**how).send(40)
    assert sent.gate.state is Gate.GATING, sent.gate.why
    return sent


@pytest.mark.parametrize(("gop", "apart_s"), [(5, 2.0), (20, 2.0), (100, 10.0)])
def test_what_stands_still_is_learned_and_then_only_key_frames_are_decoded(gop: int, apart_s: float) -> None:
    sent = gating(gop=gop).send(120)
    decoded = sent.decoded(45)
    steps = [after - before for before, after in itertools.pairwise(decoded)]
    assert steps == pytest.approx([apart_s] * len(steps), abs=0.5)


def test_larger_packets_open_it_within_moments_and_it_closes_when_all_is_quiet_again() -> None:
    sent = gating(gop=100)
    assert sent.send(0.3, times=1.6).gate.state is Gate.OPEN
    assert sent.send(10, times=1.6, moves=always).gate.state is Gate.OPEN
    assert sent.send(8).gate.state is Gate.GATING


def test_what_moves_over_noise_may_make_packets_a_little_smaller_and_is_seen() -> None:
    assert gating(gop=100).send(3, times=0.95).gate.state is Gate.OPEN


def test_a_slow_change_of_light_opens_nothing() -> None:
    sent = gating()
    for step in range(100):
        sent.send(1, times=1 + step * 0.003)
    assert len(sent.decoded(60)) < 80 * FPS * 0.15


def test_a_sensor_that_spikes_is_known_by_its_spikes() -> None:
    sent = Sent().send(60, spike_every=17)
    assert sent.gate.state is Gate.GATING
    assert len(sent.send(120, spike_every=17).decoded(60)) < 120 * FPS * 0.15


def test_packets_that_stay_larger_while_nothing_moves_are_learned_anew() -> None:
    sent = gating().send(60, times=2.0)
    assert sent.gate.state is Gate.GATING


def test_a_camera_that_always_sees_something_move_is_decoded_and_says_so() -> None:
    sent = Sent().send(80, moves=always)
    assert sent.gate.state is Gate.LEARNING
    assert "nearly all the time" in sent.gate.why
    assert len(sent.decoded(0)) == len(sent.done)


def test_a_key_frame_may_show_what_packets_did_not() -> None:
    sent = gating()
    sent.gate.glanced(sent.at_s)
    assert sent.gate.state is Gate.OPEN
    assert sent.gate.opened_by == "picture"


def test_far_key_frames_and_packets_that_show_nothing_are_given_up() -> None:
    sent = gating(gop=100)
    for _ in range(3):
        sent.gate.glanced(sent.at_s)
        sent.send(8)
    assert sent.gate.state is Gate.UNABLE
    assert "ask the camera for one every 2 s" in sent.gate.why


def test_of_a_stream_of_key_frames_those_that_are_due_are_decoded() -> None:
    sent = Sent(gop=1).send(2)
    assert sent.gate.state is Gate.INTRA
    assert sent.done[-1][1] is Do.DUE


def test_key_frames_further_apart_than_the_heartbeat_are_told() -> None:
    sent = Sent(gop=200, heartbeat_s=15).send(45)
    assert sent.gate.state is Gate.UNABLE
    assert "every 20 s" in sent.gate.why
    assert len(sent.decoded(0)) == len(sent.done)


def test_a_stream_without_key_frames_is_decoded() -> None:
    sent = Sent(gop=10**6).send(60, key=False)
    assert len(sent.decoded(0)) == len(sent.done)
    assert "no key frame" in sent.gate.why


def test_key_frames_that_stop_coming_end_it_within_the_heartbeat() -> None:
    sent = gating(heartbeat_s=15)
    sent.send(20, key=False)
    assert sent.gate.state is Gate.UNABLE
    assert "no key frame came for 15 s" in sent.gate.why


def test_packets_without_times_and_times_that_jump_are_decoded() -> None:
    sent = gating()
    assert sent.pts_s is not None
    sent.pts_s += 3600
    assert sent.send(0.1).gate.state is Gate.LEARNING
    sent.pts_s = None
    assert sent.send(0.1).gate.state is Gate.UNABLE
    assert "no times" in sent.gate.why


def test_another_format_is_learned_anew() -> None:
    sent = gating()
    sent.gate.restart("its format changed")
    assert sent.send(1).gate.state is Gate.LEARNING


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from((1, 3, 20, 999)), st.floats(0.2, 5), st.booleans()),
        max_size=6,
    )
)
def test_it_is_never_blind_for_longer_than_the_heartbeat(parts: list[tuple[int, int, float, bool]]) -> None:
    sent = Sent(heartbeat_s=6)
    for seconds, gop, times, moves in parts:
        sent.gop = gop
        sent.send(seconds, times=times, moves=always if moves else nothing)
    seen = [at_s for at_s, do in sent.done if do is not Do.KEEP]
    ends = [*seen, *(at_s for at_s, _ in sent.done[-1:])]
    assert all(after - before <= 6 + 2 / FPS for before, after in zip(seen, ends[1:], strict=True))
